import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal
import Testing

@testable import P2PDNode

/// What strangers may have this node do, stepped by hand.
@Suite struct ResponderTableTests {
  private static let start = NIODeadline.uptimeNanoseconds(1)

  private func session(_ key: NodeKey = Identity.ephemeral().key) -> Responder.Session {
    Responder.Session(key: key, id: SessionID())
  }

  @Test("a session is taken once, and not at all when its pipe is there already")
  func once() {
    var table = ResponderTable(at: Self.start)
    let one = session()
    #expect(table.admit(one) == .begin)
    #expect(table.admit(one) == .ignore)
    table.end(one)
    #expect(table.admit(one) == .begin)
    table.end(one)
    table.note(used: one.id)
    #expect(table.admit(one) == .ignore)
    // Of those only the latest are remembered.
    for _ in 0..<ResponderTable.mostUsed { table.note(used: SessionID()) }
    #expect(table.admit(one) == .begin)
  }

  @Test("one key, and all together, have so many at a time")
  func places() {
    var table = ResponderTable(at: Self.start)
    let greedy = Identity.ephemeral().key
    let mine = (0..<ResponderTable.mostPerKey).map { _ in session(greedy) }
    for one in mine { #expect(table.admit(one) == .begin) }
    #expect(table.admit(session(greedy)) == .refuse(.busy))
    #expect(table.admit(session()) == .begin)
    table.end(mine[0])
    #expect(table.admit(session(greedy)) == .begin)
    while table.sessions.count < ResponderTable.mostSessions { #expect(table.admit(session()) == .begin) }
    #expect(table.admit(session()) == .refuse(.busy))
    // An end of what was not begun changes nothing.
    table.end(session(greedy))
    #expect(table.admit(session()) == .refuse(.busy))
    for one in Array(table.sessions.keys) { table.end(one) }
    #expect(table.sessions.isEmpty)
  }

  @Test("so many allocations are open for one key, and for all")
  func lent() {
    var table = ResponderTable(at: Self.start)
    let greedy = Identity.ephemeral().key
    for _ in 0..<ResponderTable.mostLentToKey { #expect(table.lend(to: greedy, at: Self.start) == true) }
    #expect(table.lend(to: greedy, at: Self.start) == false)
    table.gotBack(from: greedy)
    #expect(table.lend(to: greedy, at: Self.start) == true)
    var others: [NodeKey] = []
    while table.lent < ResponderTable.mostLent {
      others.append(Identity.ephemeral().key)
      #expect(table.lend(to: others[others.count - 1], at: Self.start) == true)
    }
    let late = Identity.ephemeral().key
    #expect(table.lend(to: late, at: Self.start) == false)
    // Who has none gives none back.
    table.gotBack(from: late)
    #expect(table.lend(to: late, at: Self.start) == false)
    for key in others { table.gotBack(from: key) }
    for _ in 0..<ResponderTable.mostLentToKey { table.gotBack(from: greedy) }
    #expect(table.lent == 0)
    // Each costs a dial as well.
    for _ in 0..<400 {
      guard table.lend(to: late, at: Self.start) else { break }
      table.gotBack(from: late)
    }
    #expect(table.dials(1, for: late, at: Self.start) == 0)
    #expect(table.lend(to: late, at: Self.start) == false)
    #expect(table.lent == 0)
  }

  @Test("a relay told of before the session has begun waits for it, and goes with it")
  func kept() throws {
    var table = ResponderTable(at: Self.start)
    let one = session()
    let relay = try #require(Endpoint("192.0.2.1:5"))
    #expect(table.keep([relay], for: one) == false, "nobody knows it")
    _ = table.admit(one)
    #expect(table.keep([relay], for: one) == true)
    #expect(table.takeKept(one) == [relay])
    #expect(table.takeKept(one) == nil)
    #expect(table.keep([relay], for: one) == true)
    table.end(one)
    #expect(table.takeKept(one) == nil)
  }

  @Test("so many addresses are dialled for one key, and for all, in a while")
  func dials() {
    var table = ResponderTable(at: Self.start)
    let greedy = Identity.ephemeral().key
    #expect(table.dials(8, for: greedy, at: Self.start) == 8)
    #expect(table.dials(10_000, for: greedy, at: Self.start) == 392)
    #expect(table.dials(8, for: greedy, at: Self.start) == 0)
    #expect(table.dials(8, for: greedy, at: Self.start + .seconds(1)) == 4)
    var dialled = 404
    for _ in 0..<20 { dialled += table.dials(100, for: Identity.ephemeral().key, at: Self.start + .seconds(1)) }
    #expect(dialled <= 1100)
    #expect(table.dials(1, for: Identity.ephemeral().key, at: Self.start + .seconds(1)) == 0)
  }

  @Test("so many punches with one key, and with all; so many calls of theirs, whatever was dialled besides")
  func punches() {
    var table = ResponderTable(at: Self.start)
    func begun(_ key: NodeKey, _ now: NIODeadline) -> Int {
      (0..<1000).first { _ in !table.punch(for: key, at: now) } ?? 1000
    }
    func calls(_ key: NodeKey, _ now: NIODeadline) -> Int {
      (0..<20_000).first { _ in !table.punchCall(for: key, at: now) } ?? 20_000
    }
    let eager = Identity.ephemeral().key
    #expect(begun(eager, Self.start) == 100)
    #expect(begun(eager, Self.start + .seconds(3)) == 6)
    #expect((0..<10).reduce(0) { sum, _ in sum + begun(Identity.ephemeral().key, Self.start + .seconds(3)) } <= 230)
    let greedy = Identity.ephemeral().key
    #expect(calls(greedy, Self.start) == 4000)
    #expect(calls(greedy, Self.start + .seconds(2)) == 200)
    #expect(calls(Identity.ephemeral().key, Self.start + .seconds(2)) == 4000)
    let rest = calls(Identity.ephemeral().key, Self.start + .seconds(2))
    #expect(rest >= 1800 && rest <= 4000, "the budget of all")
    #expect(calls(Identity.ephemeral().key, Self.start + .seconds(2)) <= 200)
    #expect(table.dials(8, for: greedy, at: Self.start) == 8)
  }
}

/// Failures in words.
@Suite struct ConnectFailureTests {
  private static let key = Identity.ephemeral().key

  private func failure(
    _ attempts: [PathAttempt], answered: Bool = false, hasRelay: Bool = false, stopped: NetError? = nil,
    by strategies: [ConnectStrategy] = ConnectStrategy.allCases
  ) -> NetError {
    ConnectFailure(
      PathRace.Failure(stopped: stopped, attempts: attempts, wasAnswered: answered), to: Self.key, by: Set(strategies),
      hasRelay: hasRelay
    ).error
  }

  private func skipped(_ code: NetError.Code, _ why: String) -> [PathAttempt] {
    [.reverse, .punch, .relay].map { PathAttempt($0, code, "not tried: \(why)") }
  }

  private static let refused = PathAttempt(.direct, .refused, "Connection refused")

  @Test("each kind of failure has its remedy")
  func remedies() {
    let offline = failure([Self.refused] + skipped(.unsupported, "this node is offline"))
    #expect(offline.code == .refused && offline.remedy.contains("--offline"))
    let brokerless = failure([Self.refused] + skipped(.unsupported, "the other node's address names no broker"))
    #expect(brokerless.remedy.contains("broker"))
    let dead = failure([Self.refused] + skipped(.timeout, "the other side did not answer through its brokers"))
    #expect(dead.remedy.contains("runs and reaches its brokers"))
    let walled = failure(
      [Self.refused, PathAttempt(.relay, .unsupported, "not tried: this node knows no TURN server")], answered: true)
    #expect(walled.remedy.contains("Name a TURN server"))
    let relayed = failure([Self.refused, PathAttempt(.relay, .timeout, "silent")], answered: true, hasRelay: true)
    #expect(relayed.remedy.contains("check that the TURN server answers"))
    let refused = failure([PathAttempt(.reverse, .permission, "the other side refuses")], answered: true)
    #expect(refused.code == .permission && refused.remedy.contains("accept_cb"))
    #expect(failure([PathAttempt(.direct, .wrongKey, "another")]).remedy.contains("present address"))
    #expect(failure([PathAttempt(.direct, .noProtocol, "none")]).remedy.contains("protocol it hosts"))
    let busy = failure([PathAttempt(.punch, .limit, "the other side refuses")], answered: true, by: [.punch])
    #expect(busy.remedy.contains("busy"))
    let limited = failure([Self.refused], answered: true, by: [.direct, .punch])
    #expect(limited.remedy == "The other node lives. Allow the strategies reverse and relay, which were left out.")
    let alone = failure([Self.refused], by: [.direct])
    #expect(alone.remedy.contains("runs") && alone.remedy.contains("reverse, punch and relay"))
    // None is without.
    for attempts in [[], [Self.refused], skipped(.unsupported, "nothing is known of this network")] {
      for answered in [false, true] { #expect(!failure(attempts, answered: answered).remedy.isEmpty) }
    }
  }

  @Test("of a relayed pipe the attempts at better ways are told, and what would make it needless")
  func relayed() {
    let attempts = [
      Self.refused, PathAttempt(.punch, .unreachable, "symmetric"), PathAttempt(.relay, .timeout, "slow"),
    ]
    let why = { (strategies: [ConnectStrategy]) in
      ConnectFailure(
        PathRace.Failure(attempts: attempts, wasAnswered: true), to: Self.key, by: Set(strategies), hasRelay: true
      ).whyRelayed
    }
    #expect(why(ConnectStrategy.allCases).attempts.map(\.cause) == ["Connection refused", "symmetric"])
    #expect(why(ConnectStrategy.allCases).remedy.contains("port opened"))
    #expect(why([.direct, .relay]).remedy == "Allow the strategies reverse and punch, which were left out.")
  }

  @Test("the most telling failure names the whole")
  func codes() {
    #expect(failure([Self.refused, PathAttempt(.direct, .wrongKey, "")]).code == .wrongKey)
    let none = failure([Self.refused, PathAttempt(.direct, .noProtocol, "")] + skipped(.unsupported, "offline"))
    #expect(none.code == .noProtocol && none.attempts.count == 2)
    #expect(failure(skipped(.unsupported, "offline")).code == .unreachable)
    #expect(failure([], stopped: NetError(.cancelled, "")).code == .cancelled)
    // What the other side met is no code of ours.
    var theirs = PathAttempt(.reverse, .wrongKey, "")
    theirs.isPeers = true
    #expect(failure([Self.refused, theirs]).code == .refused)
  }
}
