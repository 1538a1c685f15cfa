import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// The race stepped by hand: what comes when, and what follows.
@Suite struct PathRaceTests {
  /// A race in words: each step is answered by what the race does, a line for each action.
  private final class Game {
    var race: PathRace
    var now = NIODeadline.uptimeNanoseconds(0)
    var wake: NIODeadline?
    var failure: PathRace.Failure?

    init(_ plan: RacePlan) { race = PathRace(plan) }

    func add(_ strategy: ConnectStrategy, _ path: DialPath = .ipv4) -> Int { race.add(.init(strategy, path, nil)) }

    @discardableResult
    func `do`(_ event: PathRace.Event) -> [String] {
      race.handle(event, now: now).compactMap { action in
        switch action {
        case .dial(let id, let candidate): return "dial \(id) \(candidate.endpoint.ip)"
        case .offer: return "offer"
        case .punch: return "punch"
        case .relay: return "relay"
        case .permit(let ips): return (["permit"] + ips.map { "\($0)" }).joined(separator: " ")
        case .use(let id): return "use \(id)"
        case .move(let id): return "move \(id)"
        case .cancel(let id): return "cancel \(id)"
        case .end(let strategy): return "end \(strategy.rawValue)"
        case .abort: return "abort"
        case .fail(let why):
          failure = why
          return "fail"
        case .finish: return "finish"
        case .wake(let at):
          wake = at
          return nil
        }
      }
    }

    /// Goes to the time asked for, which must be this many milliseconds from the start.
    func wait(until milliseconds: Int64, sourceLocation: SourceLocation = #_sourceLocation) -> [String] {
      #expect(wake == .uptimeNanoseconds(UInt64(milliseconds) * 1_000_000), sourceLocation: sourceLocation)
      now = wake ?? now
      wake = nil
      return `do`(.tick)
    }

    func at(_ milliseconds: Int64) -> Game {
      now = .uptimeNanoseconds(UInt64(milliseconds) * 1_000_000)
      return self
    }
  }

  private func path(_ ip: String, outside: String? = nil) throws -> PeerPath {
    PeerPath(
      interface: 0, local: Endpoint(ip: try #require(IPAddress(ip)), port: 1000),
      external: try outside.map { Endpoint(ip: try #require(IPAddress($0)), port: 0) })
  }

  private func plan(to paths: [PeerPath]) throws -> DirectPlan {
    let own = [("127.0.0.1", 8), ("192.168.1.5", 24), ("2001:db8:1::5", 64)]
    return DirectPlan(
      to: paths,
      from: try own.map { LocalAddress(ip: try #require(IPAddress($0.0)), prefix: $0.1, interface: 2) })
  }

  private func game(
    _ paths: [String], _ strategies: Set<ConnectStrategy> = Set(ConnectStrategy.allCases),
    no signalling: NetError? = nil
  ) throws -> Game {
    Game(RacePlan(strategies, try plan(to: try paths.map { try path($0) }), noSignalling: signalling))
  }

  /// B answers: its paths, and whether it punches.
  private func answer(
    _ paths: [PeerPath] = [], punches: Bool = true, declined: [ConnectStrategy: Rendezvous.Refusal] = [:],
    refusal: Rendezvous.Refusal? = nil
  ) throws -> PathRace.Event {
    var answer = Rendezvous.Answer()
    answer.side.paths = paths
    answer.side.punch = punches ? PunchSide() : nil
    answer.declined = declined
    answer.refusal = refusal
    return .answered(answer, try plan(to: paths))
  }

  private static let refused = NetError(.refused, "", cause: "Connection refused")
  private static let offline = NetError(.unsupported, "", cause: "this node is offline")
  private static let far = "203.0.113.9"

  // MARK: Direct

  @Test("the only way there is, is used the moment it is proven")
  func direct() throws {
    let game = try game([Self.far], [.direct], no: Self.offline)
    #expect(game.do(.start) == ["dial 0 203.0.113.9"])
    #expect(game.at(80).do(.proven(0, took: .milliseconds(80))) == ["use 0"])
    #expect(game.do(.used(0)) == ["finish"])
  }

  @Test("dials are paced, a failure makes room at once, and the losers are given up")
  func paced() throws {
    let game = try game(["203.0.113.1", "203.0.113.2", "203.0.113.3"], [.direct], no: Self.offline)
    #expect(game.do(.start) == ["dial 0 203.0.113.1"])
    #expect(game.wait(until: 50) == ["dial 1 203.0.113.2"])
    #expect(game.at(60).do(.failed(1, Self.refused)) == ["dial 2 203.0.113.3"])
    #expect(game.at(90).do(.proven(2, took: .milliseconds(30))) == ["use 2"])
    #expect(game.do(.used(2)) == ["cancel 0", "finish"])
    // It crossed with the end.
    #expect(game.do(.proven(0, took: .milliseconds(1))) == ["cancel 0"])
  }

  @Test("a better way that may still come gets the settling time, and no more")
  func settling() throws {
    let game = try game(["2001:db8:2::9", Self.far], [.direct], no: Self.offline)
    #expect(game.do(.start) == ["dial 0 2001:db8:2::9"])
    #expect(game.wait(until: 50) == ["dial 1 203.0.113.9"])
    // IPv4 is there, IPv6 not yet: a quarter of the round trip, which is half of what it took.
    #expect(game.at(210).do(.proven(1, took: .milliseconds(160))) == [])
    #expect(game.wait(until: 230) == ["use 1"])
    #expect(game.do(.used(1)) == ["cancel 0", "finish"])

    let better = try self.game(["2001:db8:2::9", Self.far], [.direct], no: Self.offline)
    better.do(.start)
    _ = better.wait(until: 50)
    #expect(better.at(90).do(.proven(1, took: .milliseconds(40))) == [])
    #expect(better.at(95).do(.proven(0, took: .milliseconds(95))) == ["use 0"])
    #expect(better.do(.used(0)) == ["cancel 1", "finish"])
  }

  @Test("a mere guess is not waited for, nor does the offer wait for it")
  func guesses() throws {
    let own = [("192.168.1.5", 24), ("fe80::5", 64)]
    let guess = DirectPlan(
      to: [try path("fe80::9"), try path(Self.far)],
      from: try own.map { LocalAddress(ip: try #require(IPAddress($0.0)), prefix: $0.1, interface: 2) })
    let game = Game(RacePlan([.direct], guess))
    #expect(game.do(.start) == ["offer", "dial 0 203.0.113.9"])
    _ = game.wait(until: 50)
    #expect(game.at(80).do(.proven(0, took: .milliseconds(80))) == ["use 0"])
  }

  @Test("a stream that dies before it is chosen makes way for the next best")
  func lateDeath() throws {
    let game = try game(["203.0.113.1", "203.0.113.2"], [.direct], no: Self.offline)
    game.do(.start)
    _ = game.wait(until: 50)
    #expect(game.at(60).do(.proven(1, took: .milliseconds(10))) == ["use 1"])
    #expect(game.do(.failed(1, Self.refused)) == [])
    #expect(game.at(90).do(.proven(0, took: .milliseconds(90))) == ["use 0"])
  }

  @Test("without signalling the other strategies are not tried, and each says why")
  func offline() throws {
    let game = try game([Self.far], no: Self.offline)
    #expect(game.do(.start) == ["dial 0 203.0.113.9"])
    #expect(game.do(.failed(0, Self.refused)) == ["fail"])
    let attempts = try #require(game.failure?.attempts)
    #expect(attempts.map(\.strategy) == [.direct, .reverse, .punch, .relay])
    #expect(attempts.dropFirst().allSatisfy { $0.seen == "not tried: this node is offline" && $0.wasNotTried })
    #expect(game.failure?.wasAnswered == false && game.failure?.stopped == nil)
  }

  @Test("nothing to try is an end at once")
  func nothing() throws {
    #expect(try game([], [.direct], no: Self.offline).do(.start) == ["fail"])
    #expect(try game(["10.9.9.9"], no: Self.offline).do(.start) == ["fail"])
  }

  // MARK: With the peer's help

  @Test("the offer goes out at once, or a moment later where a neighbour is called first")
  func offers() throws {
    #expect(try game([Self.far]).do(.start) == ["offer", "dial 0 203.0.113.9"])
    let near = try game(["192.168.1.9"])
    #expect(near.do(.start) == ["dial 0 192.168.1.9"])
    #expect(near.at(5).do(.proven(0, took: .milliseconds(5))) == ["use 0"])
    #expect(near.do(.used(0)) == ["end punch", "end relay", "finish"])
    let silent = try game(["192.168.1.9"])
    silent.do(.start)
    #expect(silent.wait(until: 10) == ["offer"])
  }

  @Test("the peer dials back")
  func reverse() throws {
    let game = try game([Self.far], [.direct, .reverse])
    game.do(.start)
    #expect(try game.at(40).do(answer()) == [])
    #expect(game.race.awaitsReverse)
    let id = game.add(.reverse)
    #expect(game.at(120).do(.proven(id, took: .zero)) == ["use \(id)"])
    #expect(game.do(.used(id)) == ["cancel 0", "finish"])
    #expect(!game.race.awaitsReverse)
  }

  @Test("of a stale address the peer's fresh ones are dialled, and none twice")
  func stale() throws {
    let game = try game([Self.far], [.direct])
    #expect(game.do(.start) == ["offer", "dial 0 203.0.113.9"])
    #expect(game.at(10).do(.failed(0, Self.refused)) == [])
    #expect(
      try game.at(40).do(answer([path(Self.far), path("203.0.113.8")], punches: false)) == ["dial 1 203.0.113.8"])
    #expect(game.at(120).do(.proven(1, took: .milliseconds(80))) == ["use 1"])
  }

  @Test("a punched way is used unless something better comes in the settling time")
  func punch() throws {
    let game = try game([Self.far])
    game.do(.start)
    #expect(try game.at(40).do(answer()) == ["punch"])
    let id = game.add(.punch)
    // Direct may still come.
    #expect(game.at(120).do(.proven(id, took: .milliseconds(80))) == [])
    #expect(game.wait(until: 130) == ["use \(id)"])
    #expect(game.do(.used(id)) == ["cancel 0", "end punch", "end relay", "finish"])
  }

  @Test("a punched way waits for a dial of the peer only where this side can be dialled")
  func punchAlone() throws {
    let game = try game([], [.direct, .reverse, .punch])
    game.do(.start)
    _ = try game.at(40).do(answer())
    let id = game.add(.punch)
    #expect(game.at(120).do(.proven(id, took: .milliseconds(80))) == ["use \(id)"])

    var plan = RacePlan([.reverse, .punch], try self.plan(to: []))
    plan.expectsReverse = true
    let open = Game(plan)
    open.do(.start)
    _ = try open.at(40).do(answer())
    let punched = open.add(.punch)
    #expect(open.at(120).do(.proven(punched, took: .milliseconds(80))) == [])
    let reversed = open.add(.reverse)
    #expect(open.at(125).do(.proven(reversed, took: .zero)) == ["use \(reversed)"])
  }

  @Test("the relay waits for the punch where one is made, and for nothing where none can be")
  func relayTiming() throws {
    let behind = try path("10.9.9.9", outside: Self.far)
    let game = try game([], [.punch, .relay])
    #expect(game.do(.start) == ["offer"])
    #expect(try game.at(40).do(answer([behind])) == ["punch"])
    #expect(game.wait(until: 290) == ["relay", "permit 203.0.113.9"])

    let hopeless = try self.game([], [.punch, .relay])
    hopeless.do(.start)
    _ = try hopeless.at(40).do(answer([behind]))
    #expect(hopeless.do(.over(.punch, [])) == ["relay", "permit 203.0.113.9"])

    let doubtful = try self.game([], [.punch, .relay])
    doubtful.do(.start)
    _ = try doubtful.at(40).do(answer([behind]))
    #expect(doubtful.do(.unlikely(.punch)) == ["relay", "permit 203.0.113.9"])

    var plan = RacePlan([.punch, .relay], try self.plan(to: []))
    plan.opensRelayEarly = true
    let early = Game(plan)
    #expect(early.do(.start) == ["offer", "relay"])
    #expect(try early.at(40).do(answer([behind])) == ["punch", "permit 203.0.113.9"])

    let only = try self.game([], [.relay])
    only.do(.start)
    #expect(try only.at(40).do(answer([behind])) == ["relay", "permit 203.0.113.9"])
  }

  @Test("a relayed pipe is handed out at once, and moves when a better way is proven")
  func move() throws {
    let game = try game([Self.far])
    game.do(.start)
    _ = try game.at(40).do(answer())
    #expect(game.wait(until: 290) == ["relay", "permit"])
    let relayed = game.add(.relay, .relay)
    #expect(game.at(400).do(.proven(relayed, took: .milliseconds(40))) == ["use \(relayed)"])
    #expect(game.do(.used(relayed)) == [])
    #expect(game.race.isImproving)
    // Another relayed stream is no better.
    let second = game.add(.relay, .relay)
    #expect(game.at(420).do(.proven(second, took: .milliseconds(40))) == ["cancel \(second)"])
    let punched = game.add(.punch)
    #expect(
      game.at(900).do(.proven(punched, took: .milliseconds(80))) == [
        "move \(punched)", "cancel 0", "end punch", "finish",
      ])
  }

  @Test("a relayed pipe stays where nothing better comes")
  func stays() throws {
    let game = try game([Self.far], [.direct, .relay])
    game.do(.start)
    _ = try game.at(40).do(answer())
    let relayed = game.add(.relay, .relay)
    #expect(game.at(100).do(.proven(relayed, took: .milliseconds(40))) == ["use \(relayed)"])
    #expect(game.do(.used(relayed)) == [])
    #expect(game.do(.failed(0, Self.refused)) == ["finish"])
    // Nor does anything end it from outside.
    let other = try self.game([Self.far], [.direct, .relay])
    other.do(.start)
    _ = try other.at(40).do(answer())
    let way = other.add(.relay, .relay)
    _ = other.at(100).do(.proven(way, took: .milliseconds(40)))
    other.do(.used(way))
    #expect(other.do(.stop(NetError(.cancelled, ""))) == ["cancel 0", "finish"])
  }

  @Test("a later race for a relayed pipe only moves it")
  func improvement() throws {
    let game = Game(
      RacePlan(Set(ConnectStrategy.allCases), try plan(to: [path(Self.far)]), isRelayed: true))
    #expect(game.do(.start) == ["offer", "dial 1 203.0.113.9"])
    #expect(try game.at(40).do(answer()) == ["punch"])
    #expect(game.at(100).do(.proven(1, took: .milliseconds(100))) == ["move 1", "end punch", "finish"])
    let vain = Game(RacePlan([.direct], try plan(to: []), noSignalling: Self.offline, isRelayed: true))
    #expect(vain.do(.start) == ["finish"])
  }

  // MARK: In vain

  @Test("5 s after the answer everything is given up, and 0.3 s later the peer's report waited for no more")
  func lastCall() throws {
    let game = try game([Self.far])
    game.do(.start)
    _ = try game.at(40).do(answer())
    #expect(game.wait(until: 290) == ["relay", "permit"])
    #expect(game.wait(until: 5040) == ["cancel 0", "end punch", "end relay"])
    #expect(game.wait(until: 5340) == ["abort", "fail"])
    let failure = try #require(game.failure)
    #expect(failure.wasAnswered)
    #expect(failure.attempts.contains { $0.strategy == .direct && $0.seen == "no answer in 5 s" })
    #expect(failure.attempts.contains { $0.strategy == .reverse && $0.outcome == .timeout })
  }

  @Test("when all has failed on both sides there is nothing to wait for")
  func allFailed() throws {
    let game = try game([Self.far])
    game.do(.start)
    game.at(10).do(.failed(0, Self.refused))
    _ = try game.at(40).do(answer(punches: false, declined: [.relay: .off]))
    let theirs = PathAttempt(.reverse, .timeout, "no answer in 5 s")
    #expect(game.at(80).do(.reported([theirs])) == ["abort", "fail"])
    let failure = try #require(game.failure)
    #expect(failure.attempts.filter(\.isPeers).map(\.seen) == ["no answer in 5 s"])
    #expect(
      failure.attempts.contains { $0.strategy == .punch && $0.seen == "not tried: the other side punches no holes" })
    #expect(failure.attempts.contains { $0.strategy == .relay && $0.outcome == .unsupported })
  }

  @Test("a refusal ends what it refuses; a protocol that is not hosted ends all")
  func refusals() throws {
    let busy = try game([Self.far])
    busy.do(.start)
    #expect(try busy.at(40).do(answer(refusal: .busy)) == [])
    #expect(busy.do(.failed(0, Self.refused)) == ["abort", "fail"])
    #expect(busy.failure?.attempts.filter { $0.outcome == .limit }.map(\.strategy) == [.reverse, .punch, .relay])
    let none = try game([Self.far])
    none.do(.start)
    #expect(try none.at(40).do(answer(refusal: .noProtocol)) == ["cancel 0", "abort", "fail"])
    #expect(none.failure?.stopped?.code == .noProtocol)
  }

  @Test("who gets no answer goes on dialling, and says so")
  func unanswered() throws {
    let game = try game([Self.far])
    game.do(.start)
    #expect(game.at(500).do(.unanswered(NetError(.timeout, "", cause: "no broker took it"))) == [])
    #expect(game.do(.failed(0, Self.refused)) == ["fail"])
    #expect(game.failure?.attempts.filter { $0.seen == "not tried: no broker took it" }.count == 3)
  }

  @Test("the deadline, and a cancel, end everything")
  func stops() throws {
    let game = try game([Self.far, "203.0.113.8"])
    game.do(.start)
    _ = game.wait(until: 50)
    #expect(
      game.at(60).do(.stop(NetError(.timeout, ""))) == [
        "cancel 0", "cancel 1", "end punch", "end relay", "abort", "fail",
      ])
    #expect(
      game.failure?.attempts.filter { $0.strategy == .direct }.map(\.seen) == [
        "no answer in time", "no answer in time",
      ])
    #expect(game.do(.tick) == [] && game.do(.stop(NetError(.cancelled, ""))) == [])
  }
}
