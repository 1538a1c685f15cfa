import NIOCore
import P2PDNet

/// What follows from an event: the next dial, the offer, the relay, the choice, the end.
extension PathRace {
  // MARK: What follows

  mutating func goOn(_ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if let at = offerAt, at <= now {
      offerAt = nil
      signalling = .waiting
      actions.append(.offer)
      // Where little speaks for a punch, the relay need not wait for the answer.
      if plan.opensRelayEarly, open.contains(.relay) {
        isRelayOpen = true
        actions.append(.relay)
      }
    }
    if let at = nextDial, at <= now {
      nextDial = nil
      if !waiting.isEmpty {
        let candidate = waiting.removeFirst()
        let id = add(Way(.direct, candidate.path, candidate.endpoint))
        streams[id].isLikely = candidate.isLikely
        actions.append(.dial(id, candidate))
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
        actions += openRelay()
      }
    } else if relayAt != nil, isRelayHeld, !open.contains(.punch), chosen == nil {
      actions += openRelay()
    }
    if let at = lastCall, at <= now { actions += callLast(now) }
    if isOver { return actions }
    if isHopeless { return actions + (chosen == nil ? fail(nil) : end(keeping: chosen.map { [$0] } ?? []) + [.finish]) }
    let times = [offerAt, nextDial, settleAt, relayAt, lastCall].compactMap { $0 }
    if let first = times.min() { actions.append(.wake(at: first)) }
    return actions
  }

  mutating func openRelay() -> [Action] {
    relayAt = nil
    isRelayOpen = true
    return [.relay, .permit(peerAddresses)]
  }

  /// Who has not got through by now will not. The peer has a moment more to report.
  mutating func callLast(_ now: NIODeadline) -> [Action] {
    lastCall = nil
    var actions: [Action] = []
    waiting = []
    nextDial = nil
    for id in streams.indices {
      guard streams[id].isRunning else { continue }
      streams[id].state = .over
      streams[id].met = PathAttempt(
        streams[id].way.strategy, remote: streams[id].way.remote, .timeout, "no answer in 5 s")
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
  var isHopeless: Bool {
    if case .held = signalling { return false }
    if case .waiting = signalling { return false }
    return open.isEmpty && waiting.isEmpty && !hasRunning && (chosen != nil || bestProven == nil)
  }

  var hasRunning: Bool {
    streams.contains(where: \.isRunning) || !waiting.isEmpty
  }

  var bestProven: Int? {
    streams.indices.compactMap { id -> (Int, Rank, TimeAmount)? in
      guard case .proven(let took) = streams[id].state else { return nil }
      return (id, Rank(streams[id].way), took)
    }.min { ($0.1, $0.2) < ($1.1, $1.2) }?.0
  }

  /// Whether a better way than this one may come about within the settling time.
  private func isBetterPossible(than id: Int) -> Bool {
    let rank = Rank(streams[id].way)
    // A relayed pipe can move, so nobody has to wait.
    if rank == .relayed { return false }
    return streams.contains { $0.isRunning && $0.isLikely && Rank($0.way) < rank }
      || waiting.contains { $0.isLikely && Rank(Way(.direct, $0.path)) < rank }
      || rank == .punched && plan.expectsReverse && open.contains(.reverse)
  }

  // MARK: The end

  mutating func end(keeping kept: [Int]) -> [Action] {
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

  mutating func fail(_ stopped: NetError?) -> [Action] {
    for id in streams.indices where streams[id].isRunning {
      streams[id].met = PathAttempt(
        streams[id].way.strategy, remote: streams[id].way.remote, .timeout, "no answer in time")
    }
    let wasOffered =
      switch signalling {
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
    return actions + (wasOffered ? [.abort] : [])
      + [.fail(Failure(stopped: stopped, attempts: met, wasAnswered: wasAnswered))]
  }

  /// What an attempt gets before the next one starts. RFC 8305 §5 allows down to 10 ms: near addresses answer in a few
  /// milliseconds or not at all, and a wasted attempt between nodes costs little.
  public static let headStart = TimeAmount.milliseconds(50)
  /// A neighbour has answered, and proven its key, by then.
  static let holdForNear = TimeAmount.milliseconds(10)
  /// What a better way may come late: one beside it on the same line arrives within this.
  static let leastSettling = TimeAmount.milliseconds(10)
  /// A punch takes a round trip and a handshake; most are done by then.
  static let holdForPunch = TimeAmount.milliseconds(250)
  /// A punch that has not come about by then never will, and a SYN has been sent five times (Linux 6.5 and later).
  static let patience = TimeAmount.seconds(5)
  static let patienceForReport = TimeAmount.milliseconds(300)
}
