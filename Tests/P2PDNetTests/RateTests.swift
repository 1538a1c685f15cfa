import NIOCore
import Testing

@testable import P2PDNet

private let start = NIODeadline.uptimeNanoseconds(5_000_000_000_000)

@Suite struct RateTests {
  @Test("a bucket gives its burst, then its rate")
  func bucket() {
    var bucket = TokenBucket(rate: 10, burst: 3, at: start)
    #expect((0..<5).map { _ in bucket.take(at: start) } == [true, true, true, false, false])
    #expect(bucket.take(at: start + .milliseconds(99)) == false)
    #expect(bucket.take(at: start + .milliseconds(101)) == true)
    #expect((0..<5).filter { _ in bucket.take(at: start + .seconds(60)) }.count == 3)
    #expect(bucket.take(at: start) == false, "a clock that goes back gives nothing")
    var slow = TokenBucket(rate: 0.5, burst: 1, at: start)
    #expect(slow.wait(at: start) == .zero)
    #expect(slow.take(at: start) == true)
    let wait = slow.wait(at: start)
    #expect(wait > .milliseconds(1999) && wait <= .milliseconds(2001))
    #expect(slow.take(at: start + wait) == true, "who waits as long as told gets one")
  }

  @Test("a debt says how long to wait")
  func debt() {
    var bucket = TokenBucket(rate: 1000, burst: 500, at: start)
    #expect(bucket.spend(500, at: start) == .zero)
    #expect(bucket.spend(250, at: start) == .milliseconds(250))
    #expect(bucket.spend(0, at: start + .milliseconds(250)) == .zero)
  }

  @Test("keys are held apart, and only so many are kept")
  func keys() {
    let keys = Array(0..<100)
    var limits = KeyedRates<Int>(rate: 1, burst: 2, capacity: 10)
    #expect((0..<3).map { _ in limits.allows(keys[0], at: start) } == [true, true, false])
    #expect(limits.allows(keys[1], at: start) == true)
    for key in keys { _ = limits.allows(key, at: start) }
    #expect(limits.count == 10)
    #expect(limits.wait(keys[99], at: start) == .zero && limits.wait(-1, at: start) == .zero)
    #expect(limits.allows(keys[0], at: start + .seconds(1)) == true)
  }
}
