import NIOCore

/// How long to wait before the next try: twice as long each time up to a bound, and by chance, so that the clients of a
/// broker that comes back do not come back together.
struct Backoff {
  var first: TimeAmount
  var longest: TimeAmount
  private(set) var failures = 0

  init(first: TimeAmount, longest: TimeAmount) {
    self.first = first
    self.longest = longest
  }

  /// - Parameter chance: evenly from 0 up to 1.
  mutating func next(chance: Double) -> TimeAmount {
    let doublings = min(failures, 16)
    failures += 1
    let ceiling = min(longest.nanoseconds, first.nanoseconds << doublings)
    // Between a half and the whole: never at once, never twice the same.
    let share = 0.5 + min(max(chance, 0), 1) / 2
    return .nanoseconds(Int64(Double(ceiling) * share))
  }

  /// Nothing but the longest waits from here on.
  mutating func giveUp() { failures = 16 }

  mutating func reset() { failures = 0 }
}
