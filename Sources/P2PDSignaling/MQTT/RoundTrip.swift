import NIOCore

/// How long a broker takes to answer: smoothed as TCP does it (RFC 6298 §2: one eighth of each new sample) and the least
/// of the last samples, which is what the path takes when nobody is busy.
public struct RoundTrip: Hashable, Sendable {
  public private(set) var last: TimeAmount
  public private(set) var smoothed: TimeAmount
  public private(set) var samples = 1
  private var recent: [TimeAmount]

  public var minimum: TimeAmount { recent.min() ?? last }

  init(first sample: TimeAmount) {
    last = sample
    smoothed = sample
    recent = [sample]
  }

  mutating func add(_ sample: TimeAmount) {
    last = sample
    smoothed = .nanoseconds(smoothed.nanoseconds - smoothed.nanoseconds / 8 + sample.nanoseconds / 8)
    samples &+= 1
    recent.append(sample)
    // A path changes: an old least is no bound for the new one.
    if recent.count > Self.window { recent.removeFirst() }
  }

  private static let window = 16
}
