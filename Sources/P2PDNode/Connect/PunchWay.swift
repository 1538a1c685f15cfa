import P2PDNet
import P2PDTraversal

/// The punch of a race, seen from the node that connects: the ports that the peer is told of with the offer, and the
/// dialling when it has answered. Confined to its event loop.
final class PunchWay: @unchecked Sendable {
  private unowned let node: Node
  private let connected: (Transport, PunchReport.Attempt) -> Void
  private let over: ([PathAttempt]) -> Void
  private var hand: PunchHand?
  private var punch: TCPPunch?
  private var isOver = false

  /// - Parameters:
  ///   - connected: a raw stream that the peer may be at the other end of.
  ///   - over: nothing more will come.
  init(
    of node: Node, connected: @escaping (Transport, PunchReport.Attempt) -> Void,
    over: @escaping ([PathAttempt]) -> Void
  ) {
    self.node = node
    self.connected = connected
    self.over = over
  }

  /// What the peer is told; nil before ``prepare(_:)`` is done.
  var side: PunchSide? { hand?.side }

  /// Takes ports.
  /// - Parameter done: not called where it was ended meanwhile.
  func prepare(_ done: @escaping () -> Void) {
    node.punchPorts.take { [self] hand in
      if isOver { return node.punchPorts.giveBack(hand) }
      self.hand = hand
      done()
    }
  }

  /// Dials: the peer waits as long as its answer took.
  /// - Returns: what is to be expected of it; nil where it ends at once, before or after this returns.
  func start(_ peer: PunchSide) -> PunchRule.Verdict? {
    guard let hand else {
      over([PathAttempt(.punch, .unsupported, "not tried: nothing is known of this network")])
      return nil
    }
    self.hand = nil
    let punch = TCPPunch(hand, peer: peer, at: node.loop.now, on: node.loop, connected: connected) { [self] report in
      self.punch = nil
      over(report.pathAttempts)
    }
    self.punch = punch
    punch.start()
    return punch.verdict.isImpossible ? nil : punch.verdict
  }

  /// Gives it up.
  /// - Returns: what became of it, unless that was told.
  func end() -> [PathAttempt] {
    isOver = true
    let met = punch?.report.pathAttempts ?? []
    punch?.cancel()
    punch = nil
    if let hand { node.punchPorts.giveBack(hand) }
    hand = nil
    return met
  }
}

extension PunchReport {
  /// What became of the pairs that were dialled, or why none was.
  var pathAttempts: [PathAttempt] {
    let failed = attempts.filter { $0.seen != .connected }
    guard failed.isEmpty else { return failed.map { PathAttempt(.punch, from: $0.from, to: $0.to, $0.error) } }
    return reason.map { [PathAttempt(.punch, .unreachable, $0)] } ?? []
  }
}
