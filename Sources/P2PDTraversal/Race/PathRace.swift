import NIOCore
import P2PDNet

/// Which of many ways to a peer becomes the pipe: direct dials at once and paced, the peer asked over signalling to take
/// part in the other strategies, the first proven way given a moment to be beaten by a better one, and a relayed pipe
/// handed out before better ways are given up.
///
/// A decision only: it owns nothing and asks no clock. Hand it events with the time, and perform what it answers, in order.
/// A *stream* is known by a number: the race numbers those it has dialled, ``add(_:)`` the others.
public struct PathRace: Sendable {
  public struct Way: Hashable, Sendable {
    public var strategy: ConnectStrategy
    public var path: DialPath
    public var remote: Endpoint?

    public init(_ strategy: ConnectStrategy, _ path: DialPath, _ remote: Endpoint? = nil) {
      self.strategy = strategy
      self.path = path
      self.remote = remote
    }
  }

  public enum Event: Sendable {
    case start
    /// The time asked for by `.wake(at:)` has come. One that comes early or late does no harm.
    case tick
    /// A stream's peer has proven its key, this long after the stream was begun.
    case proven(Int, took: TimeAmount)
    /// A stream did not come about, or ended before it was chosen.
    case failed(Int, NetError)
    /// The answer to the offer; of the peer's paths only those not dialled yet count.
    case answered(Rendezvous.Answer, DirectPlan)
    /// The offer got no answer.
    case unanswered(NetError)
    /// The peer's attempts up to now; it makes no others by itself.
    case reported([PathAttempt])
    /// A strategy is at its end: nothing more comes of it than what is there already.
    case over(ConnectStrategy, [PathAttempt])
    /// The stream of `.use` is the pipe now.
    case used(Int)
    /// The caller gives up: its deadline has passed or it was cancelled, as the error says. Also the end for a peer that
    /// says it does not host the protocol.
    case stop(NetError)
  }

  public enum Action: Sendable {
    case dial(Int, DialCandidate)
    /// Send the offer.
    case offer
    case punch(PunchSide)
    /// Open a relay for a peer that is seen from outside at these addresses.
    case relay([IPAddress])
    /// Choose this stream: tell the peer, and hand it out. Answer with `.used`, or with `.failed`.
    case use(Int)
    /// Move the relayed pipe, that was handed out, to this stream.
    case move(Int)
    /// Give the stream up, or what is being made of it. It needs no answer.
    case cancel(Int)
    /// Give up what a strategy still does.
    case end(ConnectStrategy)
    /// Tell the peer that nobody waits for it any more.
    case abort
    /// There is no pipe. The end.
    case fail(Failure)
    /// There is a pipe, and no better one to come. The end.
    case finish
    /// Send a `.tick` then; replaces any time asked for before.
    case wake(at: NIODeadline)
  }

  /// Why there is no pipe.
  public struct Failure: Sendable {
    /// What ended the race from outside, if anything did.
    public var stopped: NetError?
    /// All that was tried, and what was not tried and why.
    public var attempts: [PathAttempt]
    /// Whether the peer has answered over signalling.
    public var wasAnswered: Bool
  }

  private struct Stream {
    var way: Way
    var state = State.running
    enum State { case running, proven(TimeAmount), over }
    var isOver: Bool { if case .over = state { true } else { false } }
    var isRunning: Bool { if case .running = state { true } else { false } }
  }

  private let plan: RacePlan
  private var waiting: [DialCandidate]
  private var streams: [Stream] = []
  private var attempts: [PathAttempt]
  private var peers: [PathAttempt] = []
  /// What may still give streams.
  private var open: Set<ConnectStrategy>
  private var signalling: Signalling
  private var nextDial: NIODeadline?
  private var offerAt: NIODeadline?
  private var relayAt: NIODeadline?
  private var settleAt: NIODeadline?
  private var lastCall: NIODeadline?
  private var peerAddresses: [IPAddress] = []
  private var chosen: Int?
  /// The relay waits for what the punch brings; nothing but the peer's report is waited for.
  private var isRelayHeld = false
  private var isLastCall = false
  private var isOver = false

  private enum Signalling { case none, held, waiting, answered, failed }

  public init(_ plan: RacePlan) {
    self.plan = plan
    waiting = plan.strategies.contains(.direct) ? plan.direct.candidates : []
    attempts = plan.strategies.contains(.direct) ? plan.direct.skipped : []
    open = []
    signalling = plan.noSignalling == nil ? .held : .none
    if let reason = plan.noSignalling {
      attempts += plan.signalled.map { PathAttempt($0, reason.code, "not tried: \(reason.cause)") }
    } else {
      open = Set(plan.signalled)
    }
  }

  /// Numbers a stream that the race has not dialled.
  public mutating func add(_ way: Way) -> Int {
    streams.append(Stream(way: way))
    return streams.count - 1
  }

  /// What a stream is; nil for a number that was not given.
  public func way(_ id: Int) -> Way? { streams.indices.contains(id) ? streams[id].way : nil }

  /// Whether a relayed pipe was handed out and a better way is looked for.
  public var isImproving: Bool { !isOver && chosen != nil }

  /// Whether a stream that the peer has dialled would be of use.
  public var awaitsReverse: Bool { !isOver && open.contains(.reverse) && (chosen == nil || isImproving) }

  // MARK: Events

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else {
      // It crossed with the end.
      if case .proven(let id, _) = event { return [.cancel(id)] }
      return []
    }
    var actions: [Action] = []
    switch event {
    case .start:
      nextDial = now
      if case .held = signalling {
        // Whoever is near answers sooner than a broker, and is spared the message.
        let isNear = waiting.contains { Rank(.init(.direct, $0.path)) == .near }
        offerAt = isNear ? now + Self.holdForNear : now
      }
    case .tick: break
    case .proven(let id, let took): actions += proven(id, took, now)
    case .failed(let id, let error): failed(id, error, now)
    case .answered(let answer, let fresh): actions += answered(answer, fresh, now)
    case .unanswered(let error):
      guard case .waiting = signalling else { break }
      signalling = .failed
      for strategy in plan.signalled where open.contains(strategy) {
        over(strategy, [PathAttempt(strategy, error.code, "not tried: \(error.cause)")])
      }
    case .reported(let told):
      peers = told.map { attempt in
        var attempt = attempt
        attempt.isPeers = true
        return attempt
      }
      open.remove(.reverse)
    case .over(let strategy, let more): over(strategy, more)
    case .used(let id): actions += used(id)
    case .stop(let error): return fail(error)
    }
    return isOver ? actions : actions + goOn(now)
  }

  private mutating func failed(_ id: Int, _ error: NetError, _ now: NIODeadline) {
    guard streams.indices.contains(id), !streams[id].isOver else { return }
    streams[id].state = .over
    attempts.append(PathAttempt(streams[id].way.strategy, remote: streams[id].way.remote, error))
    // The next one need not wait any longer.
    if streams[id].way.strategy == .direct { nextDial = now }
    if chosen == id { chosen = nil }
  }

  private mutating func over(_ strategy: ConnectStrategy, _ more: [PathAttempt]) {
    attempts += more
    open.remove(strategy)
  }

  private mutating func proven(_ id: Int, _ took: TimeAmount, _ now: NIODeadline) -> [Action] {
    guard streams.indices.contains(id), case .running = streams[id].state else { return [.cancel(id)] }
    streams[id].state = .proven(took)
    if let chosen, chosen != id {
      guard Rank(streams[id].way) < Rank(streams[chosen].way) else {
        streams[id].state = .over
        return [.cancel(id)]
      }
      return [.move(id)] + end(keeping: [id, chosen]) + [.finish]
    }
    // Connecting and the handshake are two round trips.
    let settled = now + max(Self.leastSettling, .nanoseconds(took.nanoseconds / 8))
    settleAt = settleAt.map { min($0, settled) } ?? settled
    return []
  }

  private mutating func answered(_ answer: Rendezvous.Answer, _ fresh: DirectPlan, _ now: NIODeadline) -> [Action] {
    guard case .waiting = signalling else { return [] }
    signalling = .answered
    lastCall = now + Self.patience
    if let refusal = answer.refusal {
      for strategy in plan.signalled {
        over(strategy, [PathAttempt(strategy, refusal.code, "the other side refuses: \(refusal.words)")])
      }
      if refusal == .noProtocol {
        return fail(NetError(.noProtocol, "", cause: refusal.words))
      }
    }
    for strategy in plan.signalled where open.contains(strategy) {
      guard let refusal = answer.declined[strategy] else { continue }
      over(strategy, [PathAttempt(strategy, refusal.code, "the other side refuses: \(refusal.words)")])
    }
    if plan.strategies.contains(.direct) {
      let known = Set(waiting.map(\.endpoint) + streams.filter { $0.way.strategy == .direct }.compactMap(\.way.remote))
      waiting += fresh.candidates.filter { !known.contains($0.endpoint) }
      if nextDial == nil { nextDial = now }
    }
    peerAddresses = answer.side.outside
    var actions: [Action] = []
    if open.contains(.punch) {
      if let side = answer.side.punch {
        actions.append(.punch(side))
      } else {
        over(.punch, [PathAttempt(.punch, .unsupported, "not tried: the other side punches no holes")])
      }
    }
    // Whether the punch goes on is told before the next tick.
    if open.contains(.relay) { relayAt = now }
    return actions
  }

  private mutating func used(_ id: Int) -> [Action] {
    guard chosen == id else { return [] }
    guard Rank(streams[id].way) == .relayed, !open.subtracting([.relay]).isEmpty || hasRunning else {
      return end(keeping: [id]) + [.finish]
    }
    // The pipe is out; what is better may still come.
    open.remove(.relay)
    return streams.indices.filter { $0 != id && streams[$0].way.strategy == .relay && !streams[$0].isOver }.map {
      streams[$0].state = .over
      return .cancel($0)
    }
  }

  // MARK: What follows

  private mutating func goOn(_ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if let at = offerAt, at <= now {
      offerAt = nil
      signalling = .waiting
      actions.append(.offer)
    }
    if let at = nextDial, at <= now {
      nextDial = nil
      if !waiting.isEmpty {
        let candidate = waiting.removeFirst()
        actions.append(.dial(add(Way(.direct, candidate.path, candidate.endpoint)), candidate))
        if !waiting.isEmpty { nextDial = now + Self.headStart }
      }
    }
    if chosen == nil {
      if let best = bestProven, !isBetterPossible(than: best) || settleAt.map({ $0 <= now }) ?? false {
        settleAt = nil
        chosen = best
        return actions + [.use(best)]
      }
      if bestProven == nil { settleAt = nil }
    }
    if let at = relayAt, at <= now, chosen == nil {
      // Where a hole may be punched, it gets a head start: an allocation is other people's property.
      if open.contains(.punch), !isRelayHeld {
        isRelayHeld = true
        relayAt = at + Self.holdForPunch
      } else {
        relayAt = nil
        actions.append(.relay(peerAddresses))
      }
    } else if relayAt != nil, isRelayHeld, !open.contains(.punch), chosen == nil {
      relayAt = nil
      actions.append(.relay(peerAddresses))
    }
    if let at = lastCall, at <= now { actions += callLast(now) }
    if isOver { return actions }
    if isHopeless { return actions + (chosen == nil ? fail(nil) : end(keeping: chosen.map { [$0] } ?? []) + [.finish]) }
    let times = [offerAt, nextDial, settleAt, relayAt, lastCall].compactMap { $0 }
    if let first = times.min() { actions.append(.wake(at: first)) }
    return actions
  }

  /// Who has not got through by now will not. The peer has a moment more to report.
  private mutating func callLast(_ now: NIODeadline) -> [Action] {
    lastCall = nil
    var actions: [Action] = []
    waiting = []
    nextDial = nil
    for id in streams.indices {
      guard streams[id].isRunning else { continue }
      streams[id].state = .over
      attempts.append(
        PathAttempt(streams[id].way.strategy, remote: streams[id].way.remote, .timeout, "no answer in 5 s"))
      actions.append(.cancel(id))
    }
    for strategy in [ConnectStrategy.punch, .relay] where open.contains(strategy) {
      open.remove(strategy)
      actions.append(.end(strategy))
    }
    relayAt = nil
    if open.contains(.reverse) {
      guard !isLastCall else {
        over(.reverse, [PathAttempt(.reverse, .timeout, "the other side was asked to dial, and nothing came of it")])
        return actions
      }
      isLastCall = true
      lastCall = now + Self.patienceForReport
    }
    return actions
  }

  /// Nothing runs, waits or can come any more.
  private var isHopeless: Bool {
    if case .held = signalling { return false }
    if case .waiting = signalling { return false }
    return open.isEmpty && waiting.isEmpty && !hasRunning && (chosen != nil || bestProven == nil)
  }

  private var hasRunning: Bool {
    streams.contains(where: \.isRunning) || !waiting.isEmpty
  }

  private var bestProven: Int? {
    streams.indices.compactMap { id -> (Int, Rank, TimeAmount)? in
      guard case .proven(let took) = streams[id].state else { return nil }
      return (id, Rank(streams[id].way), took)
    }.min { ($0.1, $0.2) < ($1.1, $1.2) }?.0
  }

  /// Whether a better way than this one may come about within the settling time.
  private func isBetterPossible(than id: Int) -> Bool {
    let rank = Rank(streams[id].way)
    if streams.contains(where: { $0.isRunning && Rank($0.way) < rank }) || waiting.contains(where: { Rank(Way(.direct, $0.path)) < rank }) { return true }
    switch rank {
    case .near, .ipv6, .ipv4: return false
    case .punched: return open.contains(.reverse)
    case .relayed: return open.contains(.reverse) || open.contains(.punch)
    }
  }

  // MARK: The end

  private mutating func end(keeping kept: [Int]) -> [Action] {
    isOver = true
    waiting = []
    var actions: [Action] = []
    for id in streams.indices where !kept.contains(id) && !streams[id].isOver {
      streams[id].state = .over
      actions.append(.cancel(id))
    }
    for strategy in [ConnectStrategy.punch, .relay] where open.contains(strategy) { actions.append(.end(strategy)) }
    return actions
  }

  private mutating func fail(_ stopped: NetError?) -> [Action] {
    let running = streams.filter(\.isRunning)
    let wasOffered = switch signalling {
    case .waiting, .answered: true
    case .none, .held, .failed: false
    }
    var wasAnswered = false
    if case .answered = signalling { wasAnswered = true }
    if case .waiting = signalling {
      for strategy in plan.signalled where open.contains(strategy) {
        attempts.append(
          PathAttempt(strategy, .timeout, "not tried: the other side did not answer through its brokers"))
      }
    } else if open.contains(.reverse) {
      attempts.append(PathAttempt(.reverse, .timeout, "the other side was asked to dial, and nothing came of it"))
    }
    if let chosen {
      // A relayed pipe is out and stays.
      return end(keeping: [chosen]) + [.finish]
    }
    let actions = end(keeping: [])
    attempts += running.map {
      PathAttempt($0.way.strategy, remote: $0.way.remote, .timeout, "no answer in time")
    }
    return actions + (wasOffered ? [.abort] : [])
      + [.fail(Failure(stopped: stopped, attempts: attempts + peers, wasAnswered: wasAnswered))]
  }

  /// What an attempt gets before the next one starts. RFC 8305 §5 allows down to 10 ms: near addresses answer in a few
  /// milliseconds or not at all, and a wasted attempt between nodes costs little.
  public static let headStart = TimeAmount.milliseconds(50)
  /// A neighbour has answered, and proven its key, by then.
  static let holdForNear = TimeAmount.milliseconds(10)
  /// NAT.md 5.3: what a better way may come late.
  static let leastSettling = TimeAmount.milliseconds(10)
  /// A punch takes a round trip and a handshake; most are done by then.
  static let holdForPunch = TimeAmount.milliseconds(250)
  /// NAT.md 5.3: a punch that has not come about in 5 s never will; a SYN has been sent five times by then.
  static let patience = TimeAmount.seconds(5)
  static let patienceForReport = TimeAmount.milliseconds(300)
}

/// The order of preference.
enum Rank: Int, Comparable {
  case near, ipv6, ipv4, punched, relayed

  init(_ way: PathRace.Way) {
    switch (way.strategy, way.path) {
    case (.relay, _), (_, .relay): self = .relayed
    case (.punch, _): self = .punched
    case (_, .sameMachine), (_, .lan), (_, .linkLocal): self = .near
    case (_, .ipv6): self = .ipv6
    case (_, .ipv4): self = .ipv4
    }
  }

  static func < (a: Rank, b: Rank) -> Bool { a.rawValue < b.rawValue }
}

extension Rendezvous.Refusal {
  var code: NetError.Code {
    switch self {
    case .noProtocol: .noProtocol
    case .notAllowed: .permission
    case .busy: .limit
    case .off: .unsupported
    case .closing: .closed
    case .other: .io
    }
  }
}

extension Rendezvous.Side {
  /// Where packets of this side come from, as a relay sees them.
  public var outside: [IPAddress] {
    let seen = paths.compactMap(\.external?.ip) + (punch?.paths.flatMap(\.endpoints).map(\.ip) ?? [])
    let own = paths.map(\.local.ip).filter { !$0.isPrivate && $0.canBeDialled }
    var known: Set<IPAddress> = []
    return (seen + own).filter { known.insert($0).inserted }
  }
}
