import NIOCore
import P2PDNet

/// Finds out whether two hosts behind the router reach each other by its outside address (RFC 4787 §6): two ports of ours
/// send to each other's mapping. Both send, so that what filters opens as it would for two peers.
public struct HairpinTest: Sendable {
  public enum Event: Sendable {
    case start
    case timer
    /// A port got the other one's datagram from there.
    case heard(from: Endpoint)
  }

  public enum Action: Hashable, Sendable {
    /// Both send.
    case send
    case wait(until: NIODeadline)
    case finish(NATReport.Hairpin)
  }

  private let outside: [IPAddress]
  private let interval: TimeAmount
  private var sent = 0
  private var isOver = false

  /// - Parameters:
  ///   - outside: the addresses of the two mappings.
  ///   - roundTrip: to a server, so that a slow access is waited for.
  public init(outside: [IPAddress], roundTrip: TimeAmount) {
    self.outside = outside
    interval = max(Self.shortest, min(roundTrip, Self.longest))
  }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .heard(let source):
      isOver = true
      return [.finish(outside.contains(source.ip) ? .externalSource : .internalSource)]
    case .start, .timer:
      guard sent < Self.datagrams else {
        isOver = true
        return [.finish(.no)]
      }
      sent += 1
      return [.send, .wait(until: now + (sent < Self.datagrams ? interval : interval * 2))]
    }
  }

  /// Each way. One in a hundred lost leaves a wrong *no* in one of 10^8.
  private static let datagrams = 4
  private static let shortest: TimeAmount = .milliseconds(100)
  private static let longest: TimeAmount = .seconds(1)
}
