import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// A good reload: the same pipe, the new code, the same state.
@Suite(.timeLimit(.minutes(1))) struct SwapTests {
  private let counting = """
    function M.msg_cb(msg, tup, pipe)
      p2pd.state.n = (p2pd.state.n or 0) + 1
      pipe.data = (pipe.data or "") .. msg
      pipe:send("VERSION " .. p2pd.state.n .. pipe.data)
    end
    """

  @Test func theSamePipeSpeaksToTheNewCodeWithTheSameState() async throws {
    try await withHandler(counting.replacing("VERSION", with: "one")) { bench, pipe async throws in
      #expect(try await pipe.ask("a") == "one 1a")
      let report = try await bench.reload(counting.replacing("VERSION", with: "two"))
      #expect(report.result == .active && report.from == 1 && report.to == 2 && report.pipes == 1)
      #expect(report.files.map(\.change) == [.changed] && report.files.first?.path == bench.path("h.lua"))
      #expect(try await pipe.ask("b") == "two 2ab")
      #expect(try await bench.connect().ask("c") == "two 3c")
      #expect(bench.bench.logged.all.filter { $0.contains("generation 2 serves") }.count == 1)
    }
  }

  @Test func equalContentIsNoReload() async throws {
    try await withHandler(counting) { bench, _ async throws in
      let report = try await bench.reload(counting)
      #expect(report.result == .unchanged && report.to == 1)
      #expect(!bench.bench.logged.text.contains("unchanged"))
      #expect(await bench.host.generationList().count == 1)
    }
  }

  @Test func adoptComesBeforeThePipesFirstMessageAndWhileItWaitsTheMessageDoes() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send('old ' .. msg) end") {
      bench, pipe async throws in
      #expect(try await pipe.ask("1") == "old 1")
      try await bench.reload(
        """
        function M.adopt(pipe, old_version)
          p2pd.sleep(0.001)
          pipe.data = { from = old_version }
          pipe:send("adopted")
        end
        function M.msg_cb(msg, tup, pipe) pipe:send(msg .. " from " .. pipe.data.from) end
        """)
      #expect(try await pipe.ask("2") == "adopted")
      #expect(try await pipe.hear() == "2 from 1")
      #expect(try await pipe.ask("3") == "3 from 1")
    }
  }

  @Test func callbacksTimersTasksAndSubscriptionsOfOldCodeEndWithIt() async throws {
    try await withHandler(
      """
      p2pd.every(0.001, function() p2pd.state.ticks = (p2pd.state.ticks or 0) + 1 end)
      function M.start() while true do p2pd.sleep(0.001) p2pd.state.loops = (p2pd.state.loops or 0) + 1 end end
      function M.msg_cb(msg, tup, pipe)
        pipe:add_msg_cb(function(msg, tup, pipe) pipe:send("added") end)
        pipe:subscribe("^x")
        pipe:send("old")
      end
      """, { $0.reload.grace = .milliseconds(20) }
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("1") == "old")
      try await bench.reload(
        """
        function M.msg_cb(msg, tup, pipe)
          local seen = p2pd.state.ticks .. " " .. p2pd.state.loops
          p2pd.sleep(0.02)
          pipe:send(seen == p2pd.state.ticks .. " " .. p2pd.state.loops and "still" or "running")
        end
        """)
      await bench.until { $0.generations[1]?.tasks.isEmpty != false }
      #expect(try await pipe.ask("x") == "still")
      #expect(try await pipe.ask("x") == "still")
    }
  }

  @Test func stopOfTheOldComesBeforeStartOfTheNew() async throws {
    let text = """
      function M.start() print("start NAME") end
      function M.stop() p2pd.sleep(0.005) print("stop NAME") end
      function M.msg_cb(msg, tup, pipe) pipe:send("NAME") end
      """
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe async throws in
      await bench.bench.logged.contains("start one")
      try await bench.reload(text.replacing("NAME", with: "two"))
      #expect(try await pipe.ask("x") == "two")
      await bench.bench.logged.contains("start two")
      let order = bench.bench.logged.all.filter { $0.contains("start ") || $0.contains("stop ") }
      #expect(order.count == 3 && order[1].contains("stop one") && order[2].contains("start two"))
    }
  }

  @Test func twoProtocolsDoNotDisturbEachOther() async throws {
    let text = "function M.msg_cb(msg, tup, pipe) pipe:send('NAME') end"
    try await withHandlers([
      ("a.lua", text.replacing("NAME", with: "a1")), ("b.lua", text.replacing("NAME", with: "b1")),
    ]) { bench async throws in
      let (a, b) = (try await bench.connect("a"), try await bench.connect("b"))
      try bench.save("a.lua", text.replacing("NAME", with: "a2"))
      try bench.save("b.lua", text.replacing("NAME", with: "b2"))
      async let first = bench.again("a")
      async let second = bench.again("b")
      #expect(try await [first.result, second.result] == [.active, .active])
      #expect(try await a.ask("x") == "a2")
      #expect(try await b.ask("x") == "b2")
      try await bench.reload(text.replacing("NAME", with: "a3"), "a")
      #expect(try await a.ask("x") == "a3")
      #expect(try await b.ask("x") == "b2")
    }
  }

  /// A change in a shared file reloads each protocol that uses it, once.
  @Test func aSharedModuleReloadsEachProtocolThatRequiresIt() async throws {
    let text = "local deep = require 'deeplib' function M.msg_cb(msg, tup, pipe) pipe:send('NAME' .. deep.word()) end"
    try await withHandlers([
      ("lib.lua", "return { word = 'one' }"),
      ("deeplib.lua", "local lib = require 'lib' return { word = function() return lib.word end }"),
      ("a.lua", text.replacing("NAME", with: "a")), ("b.lua", text.replacing("NAME", with: "b")),
      ("c.lua", "function M.msg_cb() end"),
    ]) { bench async throws in
      let (a, b) = (try await bench.connect("a"), try await bench.connect("b"))
      #expect(try await a.ask("x") == "aone")
      #expect(try await b.ask("x") == "bone")
      try bench.save("lib.lua", "return { word = 'two' }")
      let reports = await bench.host.reload(using: [bench.path("lib.lua")], trigger: "watch")
      #expect(reports.map(\.protocolName) == ["a", "b"] && reports.allSatisfy { $0.result == .active })
      #expect(reports.allSatisfy { $0.files.map(\.path) == [bench.path("lib.lua")] })
      #expect(try await a.ask("x") == "atwo")
      #expect(try await b.ask("x") == "btwo")
      let tracked = await bench.host.trackedFiles()
      #expect(tracked["a"]?.contains(bench.path("deeplib.lua")) == true)
      #expect(tracked["c"]?.contains(bench.path("lib.lua")) == false)
    }
  }

  @Test func aWatchedDataFileIsPartOfTheScript() async throws {
    let text = """
      local path = p2pd.watch("words.txt")
      local word = io.open(path):read("a")
      function M.msg_cb(msg, tup, pipe) pipe:send(word) end
      """
    try await withHandlers([("words.txt", "one"), ("h.lua", text)]) { bench async throws in
      let pipe = try await bench.connect()
      #expect(try await pipe.ask("x") == "one")
      #expect(try await bench.again().result == .unchanged)
      try bench.save("words.txt", "two")
      #expect(await bench.host.trackedFiles()["h"]?.contains(bench.path("words.txt")) == true)
      let report = try await bench.again()
      #expect(report.result == .active && report.files.map(\.path) == [bench.path("words.txt")])
      #expect(try await pipe.ask("x") == "two")
    }
  }

  @Test func aDryRunChangesNothing() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send('old') end") { bench, pipe async throws in
      let good = try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new') end", dryRun: true)
      #expect(good.result == .valid && good.dryRun && good.files.count == 1)
      #expect(try await pipe.ask("x") == "old")
      let bad = try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new' end", dryRun: true)
      #expect(bad.result == .rejected && bad.error?.contains("h.lua:3:") == true)
      #expect(await bench.host.generationList().count == 1)
    }
  }

  /// The reload a handler asks for ends while the handler still runs on its own code.
  @Test func aScriptReloadsItself() async throws {
    try await withHandlers([
      (
        "h.lua",
        """
        function M.msg_cb(msg, tup, pipe)
          local report = p2pd.reload()
          pipe:send("old saw " .. report.result .. " " .. tostring(report.to) .. " " .. #report.files)
          local none, err = p2pd.reload("nothing")
          pipe:send(err.code .. " " .. tostring(p2pd.generation))
        end
        """
      )
    ]) { bench async throws in
      let pipe = try await bench.connect()
      try bench.save("h.lua", "function M.msg_cb(msg, tup, pipe) pipe:send('new ' .. p2pd.generation) end")
      #expect(try await pipe.ask("x") == "old saw active 2 1")
      #expect(try await pipe.hear() == "invalid 1")
      #expect(try await pipe.ask("x") == "new 2")
    }
  }

  @Test func newCodeFindsThePipesThatAreOpen() async throws {
    try await withHandler("function M.msg_cb() end") { bench, pipe async throws in
      let other = try await bench.connect()
      await bench.until { $0.hosted[0].slot.pipes.values.filter { $0.pipeRef != nil }.count == 2 }
      try await bench.reload(
        """
        function M.start() for _, pipe in ipairs(p2pd.pipes()) do pipe:send("hello " .. #p2pd.pipes()) end end
        """)
      #expect(try await pipe.hear() == "hello 2")
      #expect(try await other.hear() == "hello 2")
    }
  }

  /// The end of a pipe that never spoke again is told to the code that serves.
  @Test func endCbIsTheNewCodes() async throws {
    try await withHandler("function M.msg_cb() end function M.end_cb() print('old end') end") {
      bench, pipe async throws in
      try await bench.reload(
        "function M.adopt() print('adopt') end function M.end_cb(pipe, reason) print('new end ' .. reason) end")
      _ = try await pipe.loop.flatSubmit { pipe.close() }.get()
      await bench.bench.logged.contains("new end closed")
      #expect(!bench.bench.logged.text.contains("old end"))
      #expect(bench.bench.logged.text.contains("adopt"))
    }
  }
}
