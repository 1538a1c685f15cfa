import P2PDNames

/// What is under a name, in the form in which it is sent.
struct FoundName: Equatable, Sendable {
  let json: [UInt8]
  let expires: UInt64

  init(_ record: NameRecord) {
    json = record.json
    expires = record.expires
  }
}

/// Which lookups are answered from memory and which wait for the disk. Stepped by hand; the registry reads and answers. What a
/// push has stored wins over what a read that began before it brings.
struct Lookups<Waiter> {
  enum Action {
    case answer(Waiter, FoundName?)
    /// Read the name from the disk, and bring what is there to ``read(_:_:_:)`` with the number.
    case read(PeerName, number: UInt64)
  }

  private enum Cached {
    case found(FoundName)
    case nothing
  }

  private struct Reading {
    let number: UInt64
    var waiters: [Waiter]
  }

  private var cache: NameCache<PeerName, Cached>
  private var reading: [PeerName: Reading] = [:]
  private var number: UInt64 = 0
  private(set) var hits = 0
  private(set) var misses = 0

  init(capacity: Int) { cache = NameCache(capacity: capacity) }

  mutating func ask(_ name: PeerName, _ waiter: Waiter, now: UInt64) -> Action? {
    if let cached = cache[name] {
      hits += 1
      return .answer(waiter, Self.live(cached, now))
    }
    misses += 1
    if reading[name] != nil {
      reading[name]?.waiters.append(waiter)
      return nil
    }
    number += 1
    reading[name] = Reading(number: number, waiters: [waiter])
    return .read(name, number: number)
  }

  /// - Parameter found: what the disk has under the name.
  mutating func read(_ name: PeerName, _ number: UInt64, _ found: FoundName?, now: UInt64) -> [Action] {
    guard let done = reading[name], done.number == number else { return [] }
    reading[name] = nil
    return settle(name, found.map(Cached.found) ?? .nothing, done.waiters, now)
  }

  /// The disk could not be read: whoever waited is handed back to be told so.
  mutating func failed(_ name: PeerName, _ number: UInt64) -> [Waiter] {
    guard reading[name]?.number == number else { return [] }
    return reading.removeValue(forKey: name)?.waiters ?? []
  }

  mutating func stored(_ record: NameRecord, now: UInt64) -> [Action] {
    settle(record.name, .found(FoundName(record)), reading.removeValue(forKey: record.name)?.waiters ?? [], now)
  }

  private mutating func settle(_ name: PeerName, _ cached: Cached, _ waiters: [Waiter], _ now: UInt64) -> [Action] {
    cache.put(cached, for: name)
    let found = Self.live(cached, now)
    return waiters.map { .answer($0, found) }
  }

  private static func live(_ cached: Cached, _ now: UInt64) -> FoundName? {
    if case .found(let found) = cached, found.expires > now { found } else { nil }
  }
}
