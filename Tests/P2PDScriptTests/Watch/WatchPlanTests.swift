import NIOCore
import Testing

@testable import P2PDScript

@Suite("When files are looked at and what is told")
struct WatchPlanTests {
  private var plan = WatchPlan()
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
  private let order = SurveyOrder(files: ["a", "b"], folders: ["d"])
  private let one = SourceContent.content(ContentHash(of: [1]))
  private let two = SourceContent.content(ContentHash(of: [2]))

  private func at(_ milliseconds: Int64) -> NIODeadline { start + .milliseconds(milliseconds) }

  private func survey(
    a: SourceContent? = nil, b: SourceContent? = nil, d: Set<String>? = ["x.lua"], moving: Bool = false,
    blind: Set<BlindSpot> = []
  ) -> WatchPlan.Event {
    let folders = d.map { ["d": $0] } ?? [:]
    return .surveyed(
      Survey(files: ["a": a ?? one, "b": b ?? one], folders: folders, isMoving: moving, blindSpots: blind))
  }

  /// A plan that has had its first look.
  private func tracking() -> WatchPlan {
    var plan = WatchPlan()
    #expect(plan.handle(.track(files: ["a": nil, "b": nil], folders: ["d": nil]), now: start) == [.survey(order)])
    #expect(plan.handle(survey(), now: start) == [])
    return plan
  }

  @Test("100 ms after the last sign, content decides")
  func debounce() {
    var plan = tracking()
    #expect(plan.handle(.signs(WatchSigns()), now: at(0)) == [.wake(at(100))])
    #expect(plan.handle(.signs(WatchSigns()), now: at(60)) == [.wake(at(160))])
    #expect(plan.handle(.woke, now: at(160)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(161)) == [.report(SourceChanges(files: ["a"]))])
    #expect(plan.handle(.signs(WatchSigns()), now: at(300)) == [.wake(at(400))])
    #expect(plan.handle(.woke, now: at(400)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(401)) == [], "touched, and the same")
  }

  @Test("signs without pause are looked at after a second")
  func limit() {
    var plan = tracking()
    for time in stride(from: Int64(0), through: 950, by: 50) {
      _ = plan.handle(.signs(WatchSigns()), now: at(time))
    }
    #expect(plan.handle(.signs(WatchSigns()), now: at(960)) == [], "the time is set already: 1 s after the first")
    #expect(plan.handle(.woke, now: at(1000)) == [.survey(order)])
    #expect(plan.handle(.signs(WatchSigns()), now: at(1001)) == [])
    #expect(
      plan.handle(survey(a: two), now: at(1002)) == [.report(SourceChanges(files: ["a"])), .wake(at(1102))],
      "told although it goes on, and looked at again")
    #expect(plan.handle(.woke, now: at(1102)) == [.survey(order)])
    #expect(plan.handle(survey(a: one), now: at(1103)) == [.report(SourceChanges(files: ["a"]))])
  }

  @Test("a file that is open for writing is waited for, a second at most")
  func writing() {
    var plan = tracking()
    #expect(plan.handle(.signs(WatchSigns(isWriting: true)), now: at(0)) == [.wake(at(1000))])
    #expect(plan.handle(.signs(WatchSigns()), now: at(500)) == [.wake(at(600))], "closed")
    #expect(plan.handle(.woke, now: at(600)) == [.survey(order)])
  }

  @Test("what changes while it is looked at is looked at again before it is told")
  func changesDuringTheLook() {
    for isSign in [true, false] {
      var plan = tracking()
      _ = plan.handle(.signs(WatchSigns()), now: at(0))
      #expect(plan.handle(.woke, now: at(100)) == [.survey(order)])
      if isSign { #expect(plan.handle(.signs(WatchSigns()), now: at(101)) == []) }
      #expect(plan.handle(survey(a: two, moving: !isSign), now: at(105)) == [.wake(at(205))])
      #expect(plan.handle(.woke, now: at(205)) == [.survey(order)])
      #expect(plan.handle(survey(a: two, b: two), now: at(206)) == [.report(SourceChanges(files: ["a", "b"]))])
    }
  }

  @Test("a file that is gone or empty is about to be written, for a second", arguments: [true, false])
  func provisional(_ isGone: Bool) {
    let gone = isGone ? SourceContent.missing : .content(.empty)
    var plan = tracking()
    _ = plan.handle(.signs(WatchSigns()), now: at(0))
    var time: Int64 = 100
    while time < 1000 {
      #expect(plan.handle(.woke, now: at(time)) == [.survey(order)])
      #expect(plan.handle(survey(a: gone), now: at(time)) == [.wake(at(min(time + 100, 1000)))])
      time += 100
    }
    #expect(plan.handle(.woke, now: at(1000)) == [.survey(order)])
    #expect(plan.handle(survey(a: gone), now: at(1000)) == [.report(SourceChanges(files: ["a"]))])
    #expect(plan.handle(survey(a: gone), now: at(1200)) == [], "told once")
  }

  @Test("files of a hosted folder come at once and go after a second; a folder that is gone takes none with it")
  func folders() {
    var plan = tracking()
    _ = plan.handle(.signs(WatchSigns()), now: at(0))
    _ = plan.handle(.woke, now: at(100))
    #expect(plan.handle(survey(d: ["x.lua", "y.lua"]), now: at(100)) == [.report(SourceChanges(added: ["d/y.lua"]))])
    _ = plan.handle(.signs(WatchSigns()), now: at(2000))
    _ = plan.handle(.woke, now: at(2100))
    #expect(plan.handle(survey(d: nil), now: at(2100)) == [])
    _ = plan.handle(.signs(WatchSigns()), now: at(3000))
    _ = plan.handle(.woke, now: at(3100))
    #expect(plan.handle(survey(d: ["x.lua"]), now: at(3100)) == [.wake(at(3200))])
    _ = plan.handle(.woke, now: at(3200))
    #expect(plan.handle(survey(d: ["x.lua"]), now: at(4000)) == [.report(SourceChanges(removed: ["d/y.lua"]))])
  }

  @Test("what was loaded differs from what is there: told after a second look; tracked again: not told again")
  func known() {
    var plan = WatchPlan()
    let files: [String: SourceContent?] = ["a": one, "b": one]
    #expect(plan.handle(.track(files: files, folders: ["d": ["x.lua"]]), now: at(0)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(1)) == [.wake(at(101))])
    #expect(plan.handle(.woke, now: at(101)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(101)) == [.report(SourceChanges(files: ["a"]))])
    #expect(plan.handle(.track(files: files, folders: ["d": ["x.lua"]]), now: at(110)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(111)) == [])
  }

  @Test("tracking others during a look asks for another look afterwards, and one at a time")
  func trackDuringALook() {
    var plan = WatchPlan()
    #expect(plan.handle(.track(files: ["a": nil], folders: [:]), now: at(0)) == [.survey(SurveyOrder(files: ["a"]))])
    #expect(plan.handle(.track(files: ["b": nil], folders: [:]), now: at(1)) == [])
    let first = Survey(files: ["a": one])
    #expect(plan.handle(.surveyed(first), now: at(2)) == [.survey(SurveyOrder(files: ["b"]))])
    #expect(plan.handle(.surveyed(Survey(files: ["b": one])), now: at(3)) == [])
  }

  @Test("without the kernel's help: every 2 s, the reason once, a change told when it was seen twice")
  func polling() {
    var plan = tracking()
    _ = plan.handle(.signs(WatchSigns()), now: at(0))
    _ = plan.handle(.woke, now: at(100))
    #expect(plan.handle(survey(blind: [.watchLimit]), now: at(100)) == [.polling([.watchLimit]), .wake(at(2100))])
    #expect(plan.handle(.woke, now: at(2100)) == [.survey(order)])
    #expect(plan.handle(survey(blind: [.watchLimit]), now: at(2100)) == [.wake(at(4100))])
    #expect(plan.handle(.woke, now: at(4100)) == [.survey(order)])
    #expect(plan.handle(survey(a: two, blind: [.watchLimit]), now: at(4100)) == [.wake(at(4200))])
    #expect(plan.handle(.woke, now: at(4200)) == [.survey(order)])
    #expect(
      plan.handle(survey(a: two, blind: [.watchLimit]), now: at(4200))
        == [.report(SourceChanges(files: ["a"])), .wake(at(6200))])
    #expect(plan.handle(.woke, now: at(6200)) == [.survey(order)])
    #expect(plan.handle(survey(a: two), now: at(6200)) == [.polling([])], "watched again, so no more polling")
  }
}
