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
    /// A strategy goes on, but nobody should wait for it.
    case unlikely(ConnectStrategy)
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
    /// Open a relay.
    case relay
    /// Let a peer through the relay that is seen from outside at these addresses.
    case permit([IPAddress])
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

    public init(stopped: NetError? = nil, attempts: [PathAttempt], wasAnswered: Bool) {
      self.stopped = stopped
      self.attempts = attempts
      self.wasAnswered = wasAnswered
    }
  }

  struct Stream {
    var way: Way
    /// Worth waiting for.
    var isLikely = true
    var state = State.running
    /// Why it came to nothing.
    var met: PathAttempt?
    enum State { case running, proven(TimeAmount), over }
    var isOver: Bool { if case .over = state { true } else { false } }
    var isRunning: Bool { if case .running = state { true } else { false } }
  }

  let plan: RacePlan
  var waiting: [DialCandidate]
  var streams: [Stream] = []
  var attempts: [PathAttempt]
  var peers: [PathAttempt] = []
  /// What may still give streams.
  var open: Set<ConnectStrategy>
  var signalling: Signalling
  var nextDial: NIODeadline?
  var offerAt: NIODeadline?
  var relayAt: NIODeadline?
  var settleAt: NIODeadline?
  var lastCall: NIODeadline?
  var peerAddresses: [IPAddress] = []
  var chosen: Int?
  /// The relay waits for what the punch brings; nothing but the peer's report is waited for.
  var isRelayHeld = false
  var isRelayOpen = false
  var isLastCall = false
  var isOver = false

  enum Signalling { case none, held, waiting, answered, failed }

  public init(_ plan: RacePlan) {
    self.plan = plan
    waiting = plan.strategies.contains(.direct) ? plan.direct.candidates : []
    attempts = plan.strategies.contains(.direct) ? plan.direct.skipped : []
    open = []
    signalling = plan.noSignalling == nil ? .held : .none
    if plan.isRelayed {
      streams.append(Stream(way: Way(.relay, .relay), state: .proven(.zero)))
      chosen = 0
    }
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

  /// All that was tried up to now and came to nothing, and what was not tried and why; the peer's attempts last.
  public var met: [PathAttempt] { streams.compactMap(\.met) + attempts + peers }

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
        let isNear = waiting.contains { $0.isLikely && Rank(.init(.direct, $0.path)) == .near }
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
    case .unlikely(let strategy):
      guard strategy == .punch, relayAt != nil else { break }
      isRelayHeld = true
      relayAt = now
    case .over(let strategy, let more): over(strategy, more)
    case .used(let id): actions += used(id)
    case .stop(let error): return fail(error)
    }
    return isOver ? actions : actions + goOn(now)
  }

  mutating func failed(_ id: Int, _ error: NetError, _ now: NIODeadline) {
    guard streams.indices.contains(id), !streams[id].isOver else { return }
    streams[id].state = .over
    streams[id].met = PathAttempt(streams[id].way.strategy, remote: streams[id].way.remote, error)
    // The next one need not wait any longer.
    if streams[id].way.strategy == .direct { nextDial = now }
    if chosen == id { chosen = nil }
  }

  mutating func over(_ strategy: ConnectStrategy, _ more: [PathAttempt]) {
    attempts += more
    open.remove(strategy)
  }

  mutating func proven(_ id: Int, _ took: TimeAmount, _ now: NIODeadline) -> [Action] {
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

  mutating func answered(_ answer: Rendezvous.Answer, _ fresh: DirectPlan, _ now: NIODeadline) -> [Action] {
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
    if open.contains(.relay) {
      if isRelayOpen { actions.append(.permit(peerAddresses)) } else { relayAt = now }
    }
    return actions
  }

  mutating func used(_ id: Int) -> [Action] {
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
}
