import NIOCore

/// A token bucket for each sender, in bounded memory. Keys cost nothing to make, so this holds back one insistent node;
/// what many keys can do together is bounded by the budget for all.
struct SenderLimits {
  let rate: Double
  let burst: Double
  let capacity: Int
  private var buckets: [SignalKey: TokenBucket] = [:]
  private var order: CircularBuffer<SignalKey> = []

  init(rate: Double, burst: Double, capacity: Int) {
    self.rate = rate
    self.burst = burst
    self.capacity = max(1, capacity)
  }

  var count: Int { buckets.count }

  mutating func allows(_ sender: SignalKey, at now: NIODeadline) -> Bool {
    if buckets[sender] == nil {
      // Over the bound the one known longest goes, whatever its state: its key begins anew with a full bucket.
      if buckets.count >= capacity, let oldest = order.popFirst() { buckets[oldest] = nil }
      buckets[sender] = TokenBucket(rate: rate, burst: burst, at: now)
      order.append(sender)
    }
    return buckets[sender]?.take(at: now) ?? false
  }
}
