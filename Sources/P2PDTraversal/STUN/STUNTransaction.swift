import NIOCore

/// One question and its retransmissions (RFC 8489 §6.2): when to send it, and when to give it up. Knows no socket and no
/// clock; whoever drives it performs what it answers.
public struct STUNTransaction: Sendable {
  /// How often and for how long to ask.
  public struct Schedule: Hashable, Sendable {
    /// The wait after the first request; it doubles with every one.
    public var rto: TimeAmount
    /// Requests sent in all, Rc.
    public var requests: Int
    /// The last wait, in RTOs: Rm.
    public var lastWait: Int

    public init(rto: TimeAmount, requests: Int, lastWait: Int) {
      self.rto = rto
      self.requests = max(1, requests)
      self.lastWait = max(1, lastWait)
    }

    /// The RFC's: requests at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, given up at 39.5 s.
    public static let standard = Schedule(rto: .milliseconds(500), requests: 7, lastWait: 16)
    /// For finding out about a network while somebody waits: at 0, 0.2, 0.6 and 1.4 s, given up at 2.2 s. A server
    /// that needs longer is no help for that; others are asked beside it.
    public static let quick = Schedule(rto: .milliseconds(200), requests: 4, lastWait: 4)
    /// Over TCP and TLS, which retransmit by themselves: once, for the time that ``standard`` takes (Ti, §6.2.2).
    public static let stream = Schedule(rto: .milliseconds(39_500), requests: 1, lastWait: 1)
  }

  public enum Event: Sendable {
    case start
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
    /// A response of this transaction came.
    case answered
  }

  public enum Action: Hashable, Sendable {
    case send
    case wait(until: NIODeadline)
    /// It was answered, so long after the start. A round trip only if nothing was retransmitted (Karn's rule).
    case succeed(after: TimeAmount, retransmitted: Bool)
    /// No answer in that time.
    case fail(after: TimeAmount)
  }

  private let schedule: Schedule
  private var started: NIODeadline?
  private var sent = 0
  private var due: NIODeadline?
  private var isOver = false

  public init(_ schedule: Schedule) { self.schedule = schedule }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start:
      guard started == nil else { return [] }
      started = now
      return send(now)
    case .timer:
      guard let due, let started else { return [] }
      guard now >= due else { return [.wait(until: due)] }
      if sent < schedule.requests { return send(due) }
      isOver = true
      return [.fail(after: now - started)]
    case .answered:
      guard let started else { return [] }
      isOver = true
      return [.succeed(after: now - started, retransmitted: sent > 1)]
    }
  }

  /// - Parameter time: when it should have been sent: a late timer does not shift those that follow.
  private mutating func send(_ time: NIODeadline) -> [Action] {
    sent += 1
    let wait =
      sent < schedule.requests
      ? schedule.rto * (1 << min(sent - 1, Self.mostDoublings)) : schedule.rto * schedule.lastWait
    let next = time + wait
    due = next
    return [.send, .wait(until: next)]
  }

  private static let mostDoublings = 16
}
