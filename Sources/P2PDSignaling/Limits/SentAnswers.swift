import NIOCore

/// The latest answers, by the request each belongs to: a request that comes again says that its answer was lost, mostly with
/// the broker that had it. Bounded: the oldest is forgotten.
struct SentAnswers {
  struct Answer {
    let message: [UInt8]
    let receiver: SignalKey
    let brokers: [Broker]
    fileprivate var next: NIODeadline
    fileprivate var left = SentAnswers.repeats
  }

  private var known: [SeenFilter.Digest: Answer] = [:]
  private var order: CircularBuffer<SeenFilter.Digest> = []

  var count: Int { known.count }

  mutating func keep(
    _ message: [UInt8], to receiver: SignalKey, _ brokers: [Broker], for request: SeenFilter.Digest, at now: NIODeadline
  ) {
    if known.updateValue(
      Answer(message: message, receiver: receiver, brokers: brokers, next: now + Self.pause), forKey: request) == nil
    {
      order.append(request)
    }
    if known.count > Self.capacity, let oldest = order.popFirst() { known[oldest] = nil }
  }

  /// The answer to send again, now that the request has come once more; nil where it is a mere copy of the first through
  /// another broker, or somebody plays it again and again.
  mutating func again(_ request: SeenFilter.Digest, at now: NIODeadline) -> Answer? {
    guard var answer = known[request], answer.left > 0, answer.next <= now else { return nil }
    answer.left -= 1
    answer.next = now + Self.pause
    known[request] = answer
    return answer
  }

  static let capacity = 256
  /// As often as a request is repeated.
  static let repeats = SignalingConf.repeats.count
  /// Copies of one sending arrive within this; the first repetition comes after twice as long.
  static let pause = TimeAmount.milliseconds(500)
}
