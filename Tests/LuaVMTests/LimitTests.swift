import Testing

@testable import LuaVM

@Suite struct LimitTests {
  static let short = LuaLimits(runTime: 0.15)

  @Test(arguments: [
    "while true do end", "while true do pcall(function() while true do end end) end",
    "table.sort({3, 2, 1}, function() while true do end end)",
    "coroutine.wrap(function() while true do end end)()", "string.gsub('a', 'a', function() while true do end end)",
    "local t = setmetatable({}, {__index = function() while true do end end}) local x = t.y",
  ])
  func runawaysAreStopped(source: String) throws {
    let b = try Bench(Self.short)
    try b.run("\n" + source)
    b.settle()
    let failure = try #require(b.failure())
    #expect(failure.kind == .time)
    #expect(failure.message.hasPrefix("main.lua:2: stopped: it ran for 0.15 s"))
    #expect(failure.traceback.contains("main.lua:2: in"))
    try b.run("log('on')")
    #expect(b.log == ["on"])
    #expect(b.vm.stats.kills == 1)
  }

  @Test func othersAreServedMeanwhile() throws {
    let b = try Bench(LuaLimits(runTime: 0.3))
    #expect(try b.run("while true do end") == .waiting)
    var served = 0
    while b.vm.stats.tasksReady > 0 {
      b.vm.runReady(max: 1)
      try b.run("log('served')")
      served += 1
    }
    #expect(served > 5 && b.log.count == served)
    #expect(b.vm.stats.slices >= served - 1)
  }

  @Test func aWaitStartsTheTimeAnew() throws {
    let b = try Bench(LuaLimits(runTime: 0.4))
    let spin = "local function spin() local t = os.clock() while os.clock() - t < 0.1 do end end "
    try b.run(spin + "for i = 1, 8 do spin() recv() end log('done')")
    for i in 0..<8 {
      b.settle()
      try #require(b.waits.count == i + 1)
      b.vm.resume(b.waits[i])
    }
    b.settle()
    #expect(b.log == ["done"])
  }

  @Test func memoryIsCapped() throws {
    let b = try Bench(LuaLimits(memory: 8 << 20, runTime: 20))
    try b.run("local t = {}\nwhile true do t[#t + 1] = ('x'):rep(1000) end")
    b.settle()
    #expect(b.failure()?.kind == .memory)
    #expect(b.failure()?.message == "main.lua:2: not enough memory")
    try b.run("local ok, e = pcall(string.rep, 'x', 7 << 20) log(ok)")
    b.settle()
    try b.run("log('on')")
    #expect(b.log.last == "on")
    #expect(b.vm.stats.memoryPeak <= 9 << 20)
  }

  @Test func patternsHaveABudget() throws {
    let b = try Bench(LuaLimits(patternSteps: 100_000))
    try b.run(
      "local ok, e = pcall(string.find, ('a'):rep(5000), '.-.-.-b') log(e.code); ('a'):rep(5000):match('.-.-.-b')")
    #expect(b.log == ["too_complex"])
    #expect(b.failure()?.message.contains("pattern too complex") == true)
  }

  @Test func patternsWithoutAVM() throws {
    func matches(_ pattern: String, _ subject: String, steps: Int = 10_000) throws -> Bool {
      try Array(subject.utf8).withUnsafeBytes { try LuaVM.patternMatches(Array(pattern.utf8), $0, steps: steps) }
    }
    #expect(try matches("^PING", "PING 1"))
    #expect(try !matches("^PING", "xPING 1"))
    #expect(try matches("", ""))
    #expect(try matches("%d+%s*$", "abc 12 "))
    #expect(throws: LuaFailure.self) { try matches("[a", "a") }
    #expect(throws: LuaFailure.self) { try matches(".-.-.-b", String(repeating: "a", count: 200), steps: 1000) }
  }

  @Test func manyVMsComeAndGo() throws {
    for _ in 0..<3 {
      let vms = try (0..<4).map { _ in try LuaVM(limits: Self.short) }
      for vm in vms {
        let f = try vm.load("while true do end", name: "x")
        let failure = #expect(throws: LuaFailure.self) { try vm.callNow(f) }
        #expect(failure?.kind == .time)
        vm.close()
        vm.release(f)
      }
    }
  }

  @Test func theTopLevelIsStoppedToo() throws {
    let b = try Bench(Self.short)
    let f = try b.load("while true do pcall(function() while true do end end) end")
    let failure = #expect(throws: LuaFailure.self) { try b.vm.callNow(f) }
    #expect(failure?.kind == .time)
  }
}
