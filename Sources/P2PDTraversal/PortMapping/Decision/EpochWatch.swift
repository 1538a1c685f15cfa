import NIOCore

/// Notices by a server's clock that it has lost what it knew: it restarted, or another one took its place. Knows no
/// clock of its own.
public struct EpochWatch: Sendable {
  public enum Rule: Sendable {
    /// RFC 6887 §8.5: the two clocks must agree up to a sixteenth and two seconds, both ways.
    case pcp
    /// RFC 6886 §3.6: the server's may be slow by an eighth and two seconds, not slower.
    case natpmp
  }

  private let rule: Rule
  private var last: (epoch: UInt32, at: NIODeadline)?

  public init(_ rule: Rule) { self.rule = rule }

  /// Takes in what an answer says. False: the server's state is gone, and with it our mappings.
  public mutating func isSame(_ epoch: UInt32, now: NIODeadline) -> Bool {
    defer { last = (epoch, now) }
    guard let last else { return true }
    // Both in milliseconds; 32 bits of seconds are far from the edge.
    let client = max(0, (now - last.at).nanoseconds / 1_000_000)
    let server = (Int64(epoch) - Int64(last.epoch)) * 1000
    switch rule {
    case .natpmp: return server + 2000 >= client - client / 8
    case .pcp:
      // Two answers may overtake each other.
      if server < 0 { return server >= -1000 }
      return client + 2000 >= server - server / 16 && server + 2000 >= client - client / 16
    }
  }
}
