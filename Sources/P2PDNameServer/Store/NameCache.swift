/// What was looked up lately, names that do not exist included, in bounded memory: two generations, and what is in the older
/// one and asked for again moves to the younger. All of it costs a few steps, however full it is.
struct NameCache<Key: Hashable, Value> {
  private var young: [Key: Value] = [:]
  private var old: [Key: Value] = [:]
  private let capacity: Int

  /// - Parameter capacity: the most that is kept.
  init(capacity: Int) { self.capacity = max(2, capacity) }

  var count: Int { young.count + old.count }

  subscript(_ key: Key) -> Value? {
    mutating get {
      if let value = young[key] { return value }
      guard let value = old.removeValue(forKey: key) else { return nil }
      put(value, for: key)
      return value
    }
  }

  mutating func put(_ value: Value, for key: Key) {
    old[key] = nil
    young[key] = value
    guard young.count >= capacity / 2 else { return }
    old = young
    young = [:]
  }
}
