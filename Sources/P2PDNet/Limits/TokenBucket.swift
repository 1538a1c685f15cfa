import NIOCore

/// So much a second, with a reserve for bursts. A value: the caller brings the time.
package struct TokenBucket: Sendable {
  let rate: Double
  let burst: Double
  private var tokens: Double
  private var filled: NIODeadline

  /// - Parameters:
  ///   - rate: tokens that come back each second; more than 0.
  ///   - burst: the most there can be, and how many there are at first.
  package init(rate: Double, burst: Double, at now: NIODeadline) {
    self.rate = rate
    self.burst = burst
    tokens = burst
    filled = now
  }

  /// Takes one if there is one.
  package mutating func take(at now: NIODeadline) -> Bool {
    fill(now)
    guard tokens >= 1 else { return false }
    tokens -= 1
    return true
  }

  /// Takes `count` whether or not they are there, and says how long to wait until the debt is paid.
  package mutating func spend(_ count: Double, at now: NIODeadline) -> TimeAmount {
    fill(now)
    tokens -= count
    return tokens >= 0 ? .nanoseconds(0) : .nanoseconds(Int64(-tokens / rate * 1e9))
  }

  /// How long until there is one to take; zero where there is.
  func wait(at now: NIODeadline) -> TimeAmount {
    var later = self
    later.fill(now)
    return later.tokens >= 1 ? .zero : .nanoseconds(Int64((1 - later.tokens) / rate * 1e9) + 1)
  }

  /// Nobody has taken anything for so long that it is as new.
  package mutating func isFull(at now: NIODeadline) -> Bool {
    fill(now)
    return tokens >= burst
  }

  private mutating func fill(_ now: NIODeadline) {
    guard now > filled else { return }
    tokens = min(burst, tokens + Double((now - filled).nanoseconds) / 1e9 * rate)
    filled = now
  }
}
