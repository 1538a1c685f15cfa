import Foundation
import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// Whatever fails before the swap leaves the generation in service and its state as they were, and says why, once.
@Suite(.timeLimit(.minutes(1))) struct FailureTests {
  private let good = """
    p2pd.every(0.001, function() M.beats = (M.beats or 0) + 1 end)
    function M.msg_cb(msg, tup, pipe)
      p2pd.state.n = (p2pd.state.n or 0) + 1
      pipe:send("good " .. p2pd.state.n)
    end
    """

  @Test(arguments: [
    ("function M.msg_cb( end", "h.lua:3:"),
    ("local t = nil\nt.x = 1", "h.lua:4: attempt to index a nil value"),
    ("function M.mesage_cb() end", "unknown callback 'mesage_cb'"),
    ("M.msg_cb = 5", "'msg_cb' must be a function"),
    ("M.session = {}", "'session' must be a function"),
    ("function M.msg_cb() end M.drain = 1", "'drain' must be a boolean"),
    ("function M.msg_cb() end M.version = 'two'", "'version' must be a integer"),
    ("function M.msg_cb() end M.session = M.msg_cb", "msg_cb and session are both given"),
    ("function M.msg_cb() end function M.check() return false end", "M.check() returned false"),
    ("function M.msg_cb() end function M.check() return nil, 'no key' end", "the check failed: no key"),
    ("function M.msg_cb() end function M.check() error('broken') end", "h.lua:3: broken"),
    ("function M.msg_cb() end function M.check() p2pd.sleep(1) end", "'sleep' waits"),
    ("function M.msg_cb() end function M.check() return p2pd.state end", "p2pd.state is not available"),
    ("function M.msg_cb() end M.version = 2", "without M.migrate"),
    ("function M.msg_cb() end M.version = 2 function M.migrate(s) s.n = 99 error('lost') end", "h.lua:3: lost"),
    ("function M.msg_cb() end M.version = 2 function M.migrate(s) s.n = 99 end", "must return the new state"),
    (
      "function M.msg_cb() end M.version = 2 function M.migrate(s) return { a = { print } } end",
      "is a function"
    ),
    ("function M.msg_cb() end M.version = 2 function M.migrate(s) while true do s.n = 99 end end", "h.lua:3:"),
    ("p2pd.state.n = 7 function M.msg_cb() end", "p2pd.state is not available at the top level"),
    ("p2pd.sleep(1) function M.msg_cb() end", "move it into 'function M.start()'"),
    ("p2pd.pipe_open(p2pd.TCP) function M.msg_cb() end", "move it into 'function M.start()'"),
    ("coroutine.yield() function M.msg_cb() end", "h.lua:3:"),
    ("require 'nothere' function M.msg_cb() end", "module 'nothere' not found"),
    ("while true do end", "h.lua:3:"),
    ("while true do pcall(function() while true do end end) end", "h.lua:3:"),
    ("local t = {} while true do t[#t + 1] = ('x'):rep(65536) .. #t end", "not enough memory"),
    ("function M.msg_cb() end M.protocol = 'other'", "the protocol's name cannot change"),
    ("return 5 -- return M", "must return a table"),
  ])
  func theOldOneServesOnWithItsState(_ text: String, _ why: String) async throws {
    try await withHandler(
      good,
      {
        $0.limits.runTime = 0.3
        $0.limits.memory = 16 << 20
      }
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("x") == "good 1")
      let before = await bench.host.onLoop { $0.generations[1]?.timers.count }
      let report = try await bench.reload(text)
      #expect(report.result == .rejected && report.from == 1 && report.to == nil)
      #expect(report.error?.contains(why) == true, "\(report.error ?? "no error")")
      #expect(report.error?.contains("h.lua") == true)
      #expect(bench.bench.logged.all.filter { $0.contains("not reloaded") }.count == 1)
      #expect(try await pipe.ask("x") == "good 2")
      #expect(await bench.host.generationList().count == 1)
      #expect(await bench.host.onLoop { $0.generations[1]?.timers.count } == before)
      // And a good one is taken after it.
      #expect(try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('better') end").result == .active)
      #expect(try await pipe.ask("x") == "better")
    }
  }

  @Test func aTracebackNamesTheLines() async throws {
    try await withHandlers([
      ("lib.lua", "return 1"), ("h.lua", "local lib = require 'lib' function M.msg_cb() end"),
    ]) { bench async throws in
      try bench.save("lib.lua", "local function deep()\n  error('no good')\nend\ndeep()")
      let report = try await bench.again()
      #expect(report.error?.contains("lib.lua:2: no good") == true, "\(report.error ?? "")")
      #expect(report.traceback.contains("lib.lua:4") && report.traceback.contains("h.lua:3"))
    }
  }

  @Test func aFileThatIsGoneOrUnreadable() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send('on') end") { bench, pipe async throws in
      try FileManager.default.removeItem(atPath: bench.path("h.lua"))
      let report = try await bench.again()
      #expect(report.result == .rejected && report.error?.contains("cannot be opened") == true)
      #expect(try await pipe.ask("x") == "on")
    }
  }

  /// What the failed attempt read counts: saving only the module that was missing or broken reloads.
  @Test func theFilesOfARejectedAttemptAreTracked() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send('old') end") { bench, pipe async throws in
      #expect(
        try await bench.reload("M.word = require 'newlib' function M.msg_cb(m, t, pipe) pipe:send(M.word) end").result
          == .rejected)
      let missing = bench.path("newlib.lua")
      #expect(await bench.host.trackedFiles()["h"]?.contains(missing) == true)
      try bench.save("newlib.lua", "return 'new'")
      let reports = await bench.host.reload(using: [missing], trigger: "watch")
      #expect(reports.first?.result == .active)
      #expect(try await pipe.ask("x") == "new")
    }
  }

  /// A thousand bad saves leave nothing behind.
  @Test func rejectedReloadsLeaveNothing() async throws {
    try await withHandler(good) { bench, pipe async throws in
      var before = (references: 0, memory: 0)
      for round in 0..<600 {
        let bad =
          round % 2 == 0
          ? "p2pd.every(1, print) p2pd.spawn(print) p2pd.daemon { msg_cb = print } error('\(round)')"
          : "function M.msg_cb() end function M.check() return false end -- \(round)"
        let report = try await bench.reload(bad)
        #expect(report.result == .rejected)
        if round == 299 {
          before = await bench.host.onLoop { host in
            host.vm.collectAll()
            return (host.vm.stats.references, host.vm.memoryUsed)
          }
        }
      }
      let after = await bench.host.onLoop { host in
        host.vm.collectAll()
        return (host.vm.stats.references, host.vm.memoryUsed)
      }
      #expect(after.0 <= before.references + 4 && after.1 <= before.memory + 20_000, "\(before) \(after)")
      let answer = try await pipe.ask("x")
      #expect(answer == "good 1")
    }
  }

  @Test func reloadDuringReloadIsOneMoreAfterIt() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send('old') end") { bench, pipe async throws in
      try bench.save("h.lua", "function M.msg_cb(msg, tup, pipe) pipe:send('new') end")
      let reports = await withTaskGroup(of: [ReloadReport].self) { group in
        for _ in 0..<100 { group.addTask { await bench.host.reload("h", trigger: "api") } }
        return await group.reduce(into: []) { $0 += $1 }
      }
      #expect(reports.count == 100 && reports.allSatisfy { [.active, .unchanged].contains($0.result) })
      #expect(reports.contains { $0.result == .active })
      // One took the file; whoever came later was told that nothing is new.
      #expect(await bench.host.onLoop { $0.hosted[0].current.id } == 2)
      #expect(try await pipe.ask("x") == "new")
    }
  }

  @Test func reloadDuringShutdownIsRefused() async throws {
    try await withHandler(
      """
      function M.stop() print("stopping") p2pd.sleep(0.05) end
      function M.msg_cb(msg, tup, pipe) pipe:send('old') end
      """
    ) { bench, _ async throws in
      async let ended: Void = bench.host.shutdown(deadline: .seconds(2))
      await bench.bench.logged.contains("stopping")
      try bench.save("h.lua", "function M.msg_cb() end")
      let report = await bench.host.reload("h", trigger: "api").first
      #expect(report?.result == .rejected && report?.error?.contains("shutting down") == true)
      await ended
    }
  }

  /// A top level that would run for long is stopped by the end of the node.
  @Test func shutdownDuringAReloadEndsIt() async throws {
    try await withHandler(
      "function M.msg_cb(msg, tup, pipe) pipe:send('old') end", { $0.limits.runTime = 30 }
    ) { bench, pipe async throws in
      try bench.save("h.lua", "print('staging') while true do end")
      async let report = bench.host.reload("h", trigger: "api")
      await bench.bench.logged.contains("staging")
      #expect(try await pipe.ask("x") == "old")
      await bench.host.shutdown(deadline: .milliseconds(200))
      #expect(await report.first?.result == .rejected)
    }
  }

  @Test func anUnknownNameSaysWhichThereAre() async throws {
    try await withHandler("function M.msg_cb() end") { bench, _ async throws in
      let report = await bench.host.reload("hh", trigger: "api").first
      #expect(report?.result == .rejected && report?.error?.contains("did you mean 'h'") == true)
      await #expect(throws: ScriptError.self) { try await bench.host.rollback("h") }
    }
  }
}
