import NIOCore

/// When to ask again for what was not answered. Each protocol has its own times.
public struct Retransmission: Sendable {
  public enum Rule: Sendable {
    /// RFC 6887 §8.1.1: 3 s, doubled each time up to 1024 s, each time up to a tenth more or less.
    case pcp
    /// RFC 6886 §3.1: 250 ms, doubled each time; the ninth is the last.
    case natpmp
    /// UPnP Device Architecture 1.1 §1.3.2: a search is UDP, so it is repeated, a second apart.
    case ssdp
  }

  private let rule: Rule
  private var sent = 0
  private var interval: TimeAmount = .zero

  public init(_ rule: Rule) { self.rule = rule }

  /// It was sent just now. When to send it again; nil: not any more.
  /// - Parameter luck: -1 to 1, drawn anew each time.
  public mutating func next(luck: Double) -> TimeAmount? {
    sent += 1
    switch rule {
    case .pcp:
      interval = sent == 1 ? .seconds(3) : min(interval * 2, .seconds(1024))
      interval = .nanoseconds(Int64(Double(interval.nanoseconds) * (1 + luck * 0.1)))
      return interval
    case .natpmp: return sent < 9 ? .milliseconds(250) * (1 << (sent - 1)) : nil
    case .ssdp: return sent < 3 ? .seconds(1) : nil
    }
  }
}

/// When to ask for a mapping to go on (RFC 6887 §11.2.1; RFC 6886 §3.3 says half of the time as well): at a half of its
/// life up to an eighth later, at three quarters, at seven eighths, and so on, by luck a bit later each.
public enum Renewal {
  /// - Parameters:
  ///   - attempt: 0 for the first after the mapping was given.
  ///   - luck: 0 to 1.
  /// - Returns: the time after it was given; nil when there is no time left for an answer.
  public static func delay(lifetime: TimeAmount, attempt: Int, luck: Double) -> TimeAmount? {
    guard attempt < 16 else { return nil }
    let (part, spread) = (1 - 1 / Double(2 << attempt), 1 / Double(8 << attempt))
    let delay = TimeAmount.nanoseconds(Int64(Double(lifetime.nanoseconds) * (part + spread * luck)))
    // Never closer than that to the end or to the one before.
    return attempt > 0 && lifetime - delay < leastWait ? nil : delay
  }

  /// §11.2.1: requests are four seconds apart at least.
  private static let leastWait: TimeAmount = .seconds(4)
}
