import NIOCore

/// A token bucket for each key (a sender, a source address), in bounded memory. Where keys cost nothing to make, this holds
/// back one insistent key; what many keys can do together is for another bound.
package struct KeyedRates<Key: Hashable & Sendable>: Sendable {
  let rate: Double
  let burst: Double
  let capacity: Int
  private var buckets: [Key: TokenBucket] = [:]
  private var order: CircularBuffer<Key> = []

  /// - Parameters:
  ///   - rate: what each key may do in a second; more than 0.
  ///   - burst: the most at once.
  ///   - capacity: the most keys in mind.
  package init(rate: Double, burst: Double, capacity: Int) {
    self.rate = rate
    self.burst = burst
    self.capacity = max(1, capacity)
  }

  package var count: Int { buckets.count }

  package mutating func allows(_ key: Key, at now: NIODeadline) -> Bool {
    if buckets[key] == nil {
      // Over the bound the one known longest goes, whatever its state: its key begins anew with a full bucket.
      if buckets.count >= capacity, let oldest = order.popFirst() { buckets[oldest] = nil }
      buckets[key] = TokenBucket(rate: rate, burst: burst, at: now)
      order.append(key)
    }
    return buckets[key]?.take(at: now) ?? false
  }

  /// How long until the key may do one more; zero where it may now.
  package func wait(_ key: Key, at now: NIODeadline) -> TimeAmount { buckets[key]?.wait(at: now) ?? .zero }
}
