import NIOCore

/// How the way between two simulated hosts is. The same both ways.
public struct LinkConditions: Sendable {
  /// How long anything takes to get there.
  public var latency = TimeAmount.zero
  /// Up to this much more, different for each packet.
  public var jitter = TimeAmount.zero
  /// The part of the packets that is lost, 0 to 1. A lost datagram never comes; a stream's piece comes later.
  public var loss = 0.0
  /// Bytes a second each way; nil: any number.
  public var bandwidth: Int?
  /// Nothing gets through, and nobody is told.
  public var isCut = false

  public init() {}
}

/// The way between two hosts, with the luck that its packets have. Pure: the caller says what time it is.
struct MemoryLink {
  var conditions: LinkConditions
  private var luck: SplitMix64
  /// When the last byte of each direction is on the way.
  private var busyUntil = (forward: NIODeadline.uptimeNanoseconds(0), back: NIODeadline.uptimeNanoseconds(0))

  init(_ conditions: LinkConditions, seed: UInt64) {
    self.conditions = conditions
    luck = SplitMix64(seed)
  }

  /// How long a packet that is sent now takes; nil: it is lost.
  mutating func datagram(_ bytes: Int, forward: Bool, now: NIODeadline) -> TimeAmount? {
    let delay = transit(bytes, forward, now)
    return isLost() ? nil : delay
  }

  /// How long a stream's piece takes: a lost one is sent again, later each time (RFC 6298 §5).
  mutating func segment(_ bytes: Int, forward: Bool, now: NIODeadline, firstRetry: TimeAmount) -> TimeAmount {
    var delay = transit(bytes, forward, now)
    var retry = firstRetry
    for _ in 0..<Self.mostLosses where isLost() {
      delay = delay + retry
      retry = retry + retry
    }
    return delay
  }

  private mutating func transit(_ bytes: Int, _ forward: Bool, _ now: NIODeadline) -> TimeAmount {
    var delay = conditions.latency
    if conditions.jitter > .zero {
      delay = delay + .nanoseconds(Int64(luck.fraction() * Double(conditions.jitter.nanoseconds)))
    }
    guard let bandwidth = conditions.bandwidth, bandwidth > 0 else { return delay }
    let length = TimeAmount.nanoseconds(Int64(Double(bytes) / Double(bandwidth) * 1e9))
    let start = max(now, forward ? busyUntil.forward : busyUntil.back)
    if forward { busyUntil.forward = start + length } else { busyUntil.back = start + length }
    return (start - now) + length + delay
  }

  /// Draws only where there is something to lose, so that a link without loss has the same luck as ever.
  private mutating func isLost() -> Bool { conditions.loss > 0 && luck.fraction() < conditions.loss }

  private static let mostLosses = 8
}
