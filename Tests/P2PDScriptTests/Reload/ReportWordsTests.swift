import Testing

@testable import P2PDScript

@Suite("What a report says") struct ReportWordsTests {
  private func report(_ result: ReloadReport.Result, _ change: (inout ReloadReport) -> Void = { _ in }) -> String {
    var report = ReloadReport(protocolName: "ping", path: "ping.lua", trigger: "watch")
    report.result = result
    (report.from, report.to, report.fromVersion, report.toVersion) = (1, 2, 1, 1)
    report.files = [FileChange(path: "ping.lua", change: .changed, hash: "00")]
    (report.times.total, report.times.swap) = (0.0125, 0.0005)
    change(&report)
    return report.description
  }

  @Test func whatServesNowAndWhatItTook() {
    #expect(
      report(.active) { $0.pipes = 2 }
        == "ping: generation 2 serves: ping.lua changed (saved, loaded in 12.0 ms, swapped in 0.5 ms, 2 open pipes moved)"
    )
    #expect(report(.active) { $0.toVersion = 3 }.contains("generation 2 serves, version 1 -> 3: "))
    let new = report(.active) { ($0.from, $0.fromVersion, $0.times.swap) = (nil, nil, 0) }
    #expect(new == "ping: generation 2 serves: ping.lua changed (saved, loaded in 12.5 ms)")
  }

  @Test func aRefusalSaysWhatServesOnAndWhatToDo() {
    let refused = report(.rejected) { ($0.to, $0.error) = (nil, "ping.lua:3: boom") }
    #expect(
      refused == """
        ping: not reloaded, generation 1 serves on: ping.lua changed (saved)
        ping.lua:3: boom
        It is tried again when a file of it is saved.
        """)
    #expect(report(.rejected) { ($0.to, $0.trigger) = (nil, "command") }.hasSuffix("ping.lua changed (by command)"))
    #expect(report(.rejected) { ($0.from, $0.to) = (nil, nil) }.hasPrefix("ping: not loaded: ping.lua changed"))
  }

  @Test func manyFilesAreCounted() {
    let many = report(.active) { report in
      report.files = (1...7).map { FileChange(path: "\($0)", change: .added, hash: "00") }
    }
    #expect(many.contains(": 1 added, 2 added, 3 added, 4 added, 5 added and 2 more ("))
    #expect(report(.removed) { $0.files = [] } == "ping: not hosted any more (gone)")
    #expect(report(.unchanged) == "ping: the files are unchanged (saved)")
  }
}
