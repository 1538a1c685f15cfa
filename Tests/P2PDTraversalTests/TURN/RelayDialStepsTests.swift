import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// When a relayed address is dialled, and when the way round is taken, stepped by hand.
@Suite struct RelayDialStepsTests {
  private static let zero = NIODeadline.uptimeNanoseconds(1_000_000_000)

  private static func at(_ milliseconds: Int64) -> NIODeadline { zero + .milliseconds(milliseconds) }

  /// The longest pauses there are.
  private static func steps(canOpen: Bool = true) -> RelayDialSteps { RelayDialSteps(canOpen: canOpen) { 1 } }

  @Test("the address is dialled at once; the own relay comes when nothing has answered for 400 ms")
  func silent() {
    var steps = Self.steps()
    #expect(steps.handle(.start, now: Self.zero) == [.dial(.plain), .wake(at: Self.at(400))])
    #expect(steps.handle(.tick, now: Self.at(399)) == [.wake(at: Self.at(400))])
    #expect(steps.handle(.tick, now: Self.at(400)) == [.open])
    #expect(steps.handle(.opened, now: Self.at(600)) == [.dial(.round)])
    #expect(!steps.wasReached && steps.tries == 1)
    // Refused beside it, much too late: it is dialled again, and nothing is opened twice.
    #expect(steps.handle(.failed(.plain, .refused), now: Self.at(900)) == [.wake(at: Self.at(920))])
    #expect(steps.handle(.tick, now: Self.at(920)) == [.dial(.plain)])
  }

  @Test("where dialling was of no use the last time, the own relay is opened beside it at once")
  func walled() {
    var steps = RelayDialSteps(canOpen: true, isWalled: true) { 1 }
    #expect(steps.handle(.start, now: Self.zero) == [.dial(.plain), .open])
    #expect(steps.handle(.connected(.plain), now: Self.at(40)) == [.wake(at: Self.at(1540))])
    #expect(steps.handle(.opened, now: Self.at(120)) == [.dial(.round), .wake(at: Self.at(1540))])
    // Without servers it makes no difference.
    steps = RelayDialSteps(canOpen: false, isWalled: true) { 1 }
    #expect(steps.handle(.start, now: Self.zero) == [.dial(.plain)])
  }

  @Test("without TURN servers there is only dialling")
  func without() {
    var steps = Self.steps(canOpen: false)
    #expect(steps.handle(.start, now: Self.zero) == [.dial(.plain)])
    #expect(steps.handle(.failed(.plain, .unreachable), now: Self.at(1)) == [.wake(at: Self.at(21))])
    #expect(steps.handle(.tick, now: Self.at(5000)) == [.dial(.plain)])
  }

  @Test(
    "who is told that nobody is there opens at once", arguments: [NetError.Code.refused, .unreachable, .permission])
  func refused(_ code: NetError.Code) {
    var steps = Self.steps()
    _ = steps.handle(.start, now: Self.zero)
    #expect(steps.handle(.failed(.plain, code), now: Self.at(3)) == [.open, .wake(at: Self.at(23))])
  }

  @Test("a relay that resets whom it does not let through yet was reached: it has a second and a half")
  func reset() {
    for event in [RelayDialSteps.Event.connected(.plain), .cut(.plain), .failed(.plain, .reset)] {
      var steps = Self.steps()
      _ = steps.handle(.start, now: Self.zero)
      _ = steps.handle(event, now: Self.at(50))
      #expect(steps.wasReached)
      #expect(!steps.handle(.tick, now: Self.at(1499)).contains(.open))
      // Refused now is no firewall: the allocation is gone.
      #expect(!steps.handle(.failed(.plain, .refused), now: Self.at(1499)).contains(.open))
      #expect(steps.handle(.tick, now: Self.at(1500)).contains(.open))
    }
  }

  @Test("three silent connections at most, one every second and a half")
  func several() {
    var steps = Self.steps(canOpen: false)
    var now: Int64 = 0
    var dials: [Int64] = []
    var actions = steps.handle(.start, now: Self.zero)
    while !actions.isEmpty, now < 60_000 {
      if actions.contains(.dial(.plain)) {
        dials.append(now)
        actions = steps.handle(.connected(.plain), now: Self.at(now))
      } else {
        now += 100
        actions = steps.handle(.tick, now: Self.at(now))
      }
    }
    #expect(dials == [0, 1500, 3000])
    // One ends: there is room again.
    #expect(steps.handle(.cut(.plain), now: Self.at(9000)) == [.wake(at: Self.at(9080))])
  }

  @Test("the way round is tried again after 447, 446 and a reset, with growing pauses; after 403 and its like never")
  func round() {
    for code in [NetError.Code.refused, .inUse, .timeout] {
      var steps = Self.steps()
      _ = steps.handle(.start, now: Self.zero)
      _ = steps.handle(.tick, now: Self.at(400))
      _ = steps.handle(.opened, now: Self.at(500))
      var now: Int64 = 500
      var pauses: [Int64] = []
      for _ in 0..<6 {
        guard case .wake(let time)? = steps.handle(.failed(.round, code), now: Self.at(now)).last else { break }
        pauses.append((time - Self.at(now)).nanoseconds / 1_000_000)
        now += pauses.last ?? 0
        #expect(steps.handle(.tick, now: Self.at(now)).contains(.dial(.round)))
      }
      #expect(pauses == [20, 40, 80, 160, 250, 250])
    }
    for code in [NetError.Code.permission, .unsupported, .closed] {
      var steps = Self.steps()
      _ = steps.handle(.start, now: Self.zero)
      _ = steps.handle(.tick, now: Self.at(400))
      _ = steps.handle(.opened, now: Self.at(500))
      #expect(steps.handle(.failed(.round, code), now: Self.at(600)).isEmpty)
      #expect(steps.handle(.tick, now: Self.at(9000)).isEmpty)
    }
  }

  @Test("a stream round that stays silent makes room for the next; without the own relay there is none")
  func silentRound() {
    var steps = Self.steps()
    _ = steps.handle(.start, now: Self.zero)
    _ = steps.handle(.tick, now: Self.at(400))
    _ = steps.handle(.opened, now: Self.at(500))
    #expect(steps.handle(.connected(.round), now: Self.at(600)) == [.wake(at: Self.at(2100))])
    #expect(steps.handle(.tick, now: Self.at(2100)) == [.dial(.round)])
    #expect(steps.handle(.cut(.round), now: Self.at(2200)).isEmpty, "the next is being made")
    #expect(steps.handle(.connected(.round), now: Self.at(2300)) == [.wake(at: Self.at(3800))])
    #expect(steps.handle(.closed, now: Self.at(2400)).isEmpty)
    #expect(steps.handle(.tick, now: Self.at(4000)).isEmpty)
  }
}
