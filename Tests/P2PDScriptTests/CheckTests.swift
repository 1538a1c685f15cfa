import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct CheckTests {
  private func check(_ text: String, name: String = "checked.lua") async throws -> ScriptCheck.Report {
    var report: ScriptCheck.Report?
    try await withBench { bench in
      let path = try bench.write(name, text)
      report = await ScriptCheck.check(path, options: ScriptOptions(), on: sharedLoop)
    }
    return try #require(report)
  }

  @Test func aSoundHandlerPasses() async throws {
    let report = try await check(
      "local p2pd = require 'p2pd'\np2pd.every(1, print)\nreturn { msg_cb = function(m, t, pipe) pipe:send(m) end }")
    #expect(report.kind == .handler("checked") && report.error == nil && report.warnings.isEmpty)
  }

  @Test func aScriptForExecIsCompiledButNotRun() async throws {
    let report = try await check("local p2pd = require 'p2pd'\nlocal node = p2pd.node()\nerror('not reached')")
    #expect(report.kind == .script && report.error == nil)
  }

  @Test func wrongNamesAreWarningsWithFileAndLine() async throws {
    let report = try await check(
      "local p2pd = require 'p2pd'\nreturn { msg_cb = function(m, t, pipe)\n pipe:sennd(m) p2pd.slep(1) end }")
    #expect(report.error == nil)
    #expect(report.warnings.map(\.line) == [3, 3])
    #expect(
      report.warnings.first?.description.contains("checked.lua:3: unknown method 'pipe:sennd' (did you mean 'send'?)")
        == true)
  }

  @Test(arguments: [
    ("return 1 +", "checked.lua:1:"), ("return { msg_cb = 1 }", "must be a function"),
    ("error('top')", "checked.lua:1: top"),
    ("local p2pd = require 'p2pd'\nlocal M = { msg_cb = print }\np2pd.sleep(1)\nreturn M", "move it into"),
  ])
  func aBrokenScriptIsAnError(_ text: String, _ reason: String) async throws {
    let report = try await check(text)
    #expect(report.error?.description.contains(reason) == true, "\(String(describing: report.error))")
  }

  @Test func aMissingFileIsAnError() async throws {
    let report = await ScriptCheck.check(
      "/nonexistent.lua", options: ScriptOptions(), on: sharedLoop)
    #expect(report.error?.message.contains("No such file") == true)
  }
}
