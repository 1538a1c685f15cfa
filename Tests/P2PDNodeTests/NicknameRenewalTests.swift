import NIOCore
import P2PDNet
import Testing

@testable import P2PDNode

@Suite struct NicknameRenewalTests {
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

  @Test("pushed at once, again before half of its life is over")
  func life() {
    var one = NicknameRenewal()
    #expect(one.handle(.tick, now: start) == [])
    #expect(one.handle(.address("a"), now: start) == [.push("a")])
    #expect(one.handle(.address("a"), now: start) == [])
    #expect(one.handle(.tick, now: start + .seconds(1)) == [], "one push at a time")
    let renewal = start + .seconds(1) + NicknameRenewal.renewal
    #expect(one.handle(.pushed, now: start + .seconds(1)) == [.wake(renewal)])
    #expect(one.registered == "a" && NicknameRenewal.renewal < .hours(84))
    #expect(one.handle(.tick, now: renewal) == [.push("a")])
  }

  @Test("a new address is pushed soon, several as one, and not too often")
  func changes() {
    var one = NicknameRenewal()
    _ = one.handle(.address("a"), now: start)
    #expect(one.handle(.address("b"), now: start) == [])
    #expect(one.handle(.pushed, now: start) == [.wake(start + .seconds(20))])
    let second = start + .seconds(20)
    #expect(one.handle(.tick, now: second) == [.push("b")])
    #expect(one.handle(.pushed, now: second) == [.wake(second + NicknameRenewal.renewal)])
    var now = start + .hours(1)
    #expect(one.handle(.address("c"), now: now) == [.wake(now + .seconds(2))])
    #expect(one.handle(.address("d"), now: now + .seconds(1)) == [.wake(now + .seconds(2))])
    now = now + .seconds(2)
    #expect(one.handle(.tick, now: now) == [.push("d")])
    #expect(one.handle(.pushed, now: now) == [.wake(now + NicknameRenewal.renewal)])
    #expect(one.handle(.address("e"), now: now + .seconds(1)) == [.wake(now + .seconds(20))])
    #expect(one.registered == "d")
  }

  @Test("what fails is tried again, ever more rarely, and what is lasting rarely from the beginning")
  func failures() {
    var one = NicknameRenewal()
    var now = start
    _ = one.handle(.address("a"), now: now)
    var waits: [TimeAmount] = []
    for _ in 0..<12 {
      guard case .wake(let next)? = one.handle(.failed(NetError(.noQuorum, "push")), now: now).first else { return }
      waits.append(next - now)
      now = next
      #expect(one.handle(.tick, now: now) == [.push("a")])
    }
    #expect(waits.prefix(3) == [.seconds(5), .seconds(10), .seconds(20)] && waits.last == .minutes(30))
    #expect(one.problem?.code == .noQuorum)
    #expect(one.handle(.pushed, now: now) == [.wake(now + NicknameRenewal.renewal)])
    #expect(one.problem == nil)
    var two = NicknameRenewal()
    _ = two.handle(.address("a"), now: start)
    #expect(two.handle(.failed(NetError(.taken, "push")), now: start) == [.wake(start + .minutes(30))])
    // A new address may be what helps.
    #expect(two.handle(.address("b"), now: start + .minutes(1)) == [.wake(start + .minutes(1) + .seconds(2))])
  }
}
