import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// The rules, stepped by hand.
struct ProbationTests {
  private let start = NIODeadline.uptimeNanoseconds(1_000)

  private func counters(_ messages: UInt64, _ failed: UInt64, kills: UInt64 = 0) -> Generation.Counters {
    Generation.Counters(messages: messages, errors: failed, failedMessages: failed, kills: kills)
  }

  private func probation(old: Generation.Counters = Generation.Counters()) -> Probation {
    Probation(from: start, for: .seconds(30), old: old)
  }

  @Test func nineteenMessagesSayNothing() {
    var probation = probation()
    #expect(probation.look(counters(19, 19), now: start) == .open)
    #expect(
      probation.look(counters(20, 2), now: start)
        == .failed("2 of 20 messages failed (10.0 %, the generation before: 0.0 %)"))
  }

  @Test func fivePercentAreBearable() {
    var probation = probation()
    #expect(probation.look(counters(100, 5), now: start) == .open)
    #expect(probation.look(counters(100, 6), now: start) != .open)
  }

  @Test func anErrorRateLikeTheOldOnesIsBearable() {
    var probation = probation(old: counters(100, 10))
    #expect(probation.look(counters(100, 30), now: start) == .open)
    #expect(probation.look(counters(100, 31), now: start) != .open)
  }

  @Test func threeKillsAreTooMany() {
    var probation = probation()
    #expect(probation.look(counters(3, 2, kills: 2), now: start) == .open)
    #expect(probation.look(counters(3, 3, kills: 3), now: start) == .failed("3 tasks were stopped by the time limit"))
  }

  @Test func thirtySecondsArePassed() {
    var probation = probation()
    #expect(probation.look(counters(1000, 50), now: start + .seconds(29)) == .open)
    #expect(probation.look(counters(1000, 50), now: start + .seconds(30)) == .passed)
    #expect(probation.look(counters(1000, 900), now: start + .seconds(31)) == .passed)
  }

  @Test func aFailingStartIsAVerdict() {
    var probation = probation()
    #expect(probation.startFailed("h.lua:3: no") == .failed("start failed: h.lua:3: no"))
  }
}
