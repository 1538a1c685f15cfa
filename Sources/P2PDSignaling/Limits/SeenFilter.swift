import NIOCore

/// What was seen before, for as long as it could be played again. It never forgets too early: when it is full it calls
/// everything seen, and the rates before it are such that it does not become full.
struct SeenFilter {
  let capacity: Int
  let retention: TimeAmount
  private var known: Set<Digest> = []
  private var order: CircularBuffer<(digest: Digest, until: NIODeadline)> = []

  /// The first 16 bytes of a SHA-256 over a message.
  struct Digest: Hashable {
    let high: UInt64
    let low: UInt64
  }

  init(capacity: Int, retention: TimeAmount) {
    self.capacity = max(1, capacity)
    self.retention = retention
  }

  var count: Int { known.count }

  /// Without noting it.
  mutating func contains(_ digest: Digest, at now: NIODeadline) -> Bool {
    forget(now)
    return known.contains(digest)
  }

  /// Notes it. False: it was there, or there is no room for more.
  mutating func insert(_ digest: Digest, at now: NIODeadline) -> Bool {
    forget(now)
    guard known.count < capacity, known.insert(digest).inserted else { return false }
    order.append((digest, now + retention))
    return true
  }

  private mutating func forget(_ now: NIODeadline) {
    while let first = order.first, first.until <= now {
      known.remove(first.digest)
      order.removeFirst()
    }
  }
}
