import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// What runs on old code when new code comes.
@Suite(.timeLimit(.minutes(1))) struct InFlightTests {
  @Test func aHandlerEndsOnItsOwnCodeAndTheNextMessageIsTheNewCodes() async throws {
    try await withHandler(
      """
      local gate = p2pd.queue()
      function M.start() M.open = function() gate:put(true) end p2pd.state.open = nil end
      function M.msg_cb(msg, tup, pipe)
        pipe:send("waiting")
        p2pd.sleep(0.05)
        pipe:send("old " .. msg)
      end
      """
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("1") == "waiting")
      try await pipe.say("2")
      let report = try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new ' .. msg) end")
      #expect(report.inFlight == 1)
      #expect(try await pipe.hear() == "old 1")
      #expect(try await pipe.hear() == "new 2")
    }
  }

  @Test func pastTheDeadlineItsWaitFailsAndThenItIsEnded() async throws {
    let text = """
      function M.msg_cb(msg, tup, pipe)
        local guard <close> = setmetatable({}, { __close = function(_, e) print("closed " .. msg .. " " .. tostring(e and e.code)) end })
        pipe:send("waiting")
        if msg == "polite" then p2pd.sleep(math.huge) end
        while true do print("caught " .. tostring(select(2, pcall(p2pd.sleep, math.huge)).code)) end
      end
      """
    try await withHandler(
      text,
      {
        $0.reload.handlerDeadline = .milliseconds(30)
        $0.reload.grace = .milliseconds(30)
      }
    ) { bench, pipe async throws in
      let other = try await bench.connect()
      #expect(try await pipe.ask("polite") == "waiting")
      #expect(try await other.ask("stubborn") == "waiting")
      try await pipe.say("next")
      try await other.say("next")
      try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new ' .. msg) end")
      #expect(try await pipe.hear() == "new next")
      #expect(try await other.hear() == "new next")
      let log = bench.bench.logged.text
      #expect(
        log.contains("closed polite reloaded") && log.contains("caught reloaded") && log.contains("closed stubborn"))
      #expect(!log.contains("failed"))
    }
  }

  /// A pipe that a handler in flight has opened is its until it ends.
  @Test func pipesOfAHandlerInFlightStay() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        local server = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 }, framing = "line" }))
        local client = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname(), framing = "line" }))
        local taken = server:accept(5)
        pipe:send("open")
        p2pd.sleep(0.05)
        client:send("through")
        pipe:send(taken:recv(5))
      end
      """
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("x") == "open")
      try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new') end")
      #expect(try await pipe.hear() == "through")
      #expect(try await pipe.ask("y") == "new")
    }
  }

  /// Pipes a script opened end with it, but for those its state holds: they go on with the new code.
  @Test func pipesInTheStateAreTheNewCodes() async throws {
    try await withHandlers(
      [
        ("e.lua", "function M.msg_cb(msg, tup, pipe) pipe:send('echo ' .. msg) end"),
        (
          "h.lua",
          """
          function M.start()
            local function open()
              return assert(p2pd.node():connect(p2pd.node():address(), { protocol = "e", msg_cb = function(msg) print("old got " .. msg) end }))
            end
            p2pd.state.kept = open()
            M.lost = open()
            M.lost:add_end_cb(function(_, reason) print("lost", reason) end)
            print("opened")
          end
          function M.msg_cb(msg, tup, pipe) p2pd.state.kept:send(msg) end
          """
        ),
      ], { $0.autoRollback = false }
    ) { bench async throws in
      let pipe = try await bench.connect()
      await bench.bench.logged.contains("opened")
      try await pipe.say("1")
      await bench.bench.logged.contains("old got echo 1")
      try await bench.reload(
        """
        function M.adopt(pipe) if pipe == p2pd.state.kept then print("kept") end end
        function M.start()
          p2pd.state.kept:add_msg_cb(function(msg) print("new got " .. msg) end)
        end
        function M.msg_cb(msg, tup, pipe) p2pd.state.kept:send(msg) end
        """)
      await bench.bench.logged.contains("lost\tlocal")
      try await pipe.say("2")
      await bench.bench.logged.contains("new got echo 2")
      #expect(!bench.bench.logged.text.contains("old got echo 2"))
      await bench.until { $0.generations.values.filter { $0.name == "h" }.count == 1 }
    }
  }
}

/// `M.session`: straight lines for each pipe, begun anew on new code.
@Suite(.timeLimit(.minutes(1))) struct SessionTests {
  private let text = """
    function M.session(pipe, data)
      local guard <close> = setmetatable({}, { __close = function(_, e) print("NAME closed " .. tostring(e and e.code)) end })
      data.sum = data.sum or 0
      pipe:send("NAME begins at " .. data.sum)
      for msg in pipe:messages() do
        if msg == "end" then return end
        if msg == "fail" then error("failed") end
        if msg == "busy" then pipe:send("busy") p2pd.sleep(0.05) end
        data.sum = data.sum + (tonumber(msg) or 0)
        pipe:send("NAME " .. data.sum)
      end
    end
    """

  @Test func aSessionThatWaitsInRecvBeginsAnewWithItsData() async throws {
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe async throws in
      #expect(try await pipe.hear() == "one begins at 0")
      #expect(try await pipe.ask("5") == "one 5")
      let report = try await bench.reload(text.replacing("NAME", with: "two"))
      #expect(report.result == .active && report.inFlight == 1)
      #expect(try await pipe.hear() == "two begins at 5")
      #expect(try await pipe.ask("2") == "two 7")
      #expect(bench.bench.logged.text.contains("one closed reloaded"))
      #expect(!bench.bench.logged.text.contains("session failed"))
    }
  }

  /// A message that arrives between the swap and the unwinding is the new code's; what waits in the pipe too.
  @Test func noUnreadMessageIsLost() async throws {
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe async throws in
      #expect(try await pipe.hear() == "one begins at 0")
      #expect(try await pipe.ask("busy") == "busy")
      for number in 1...5 { try await pipe.say("\(number)") }
      try await bench.reload(text.replacing("NAME", with: "two"))
      #expect(try await pipe.hear() == "one 0")
      #expect(try await pipe.hear() == "two begins at 0")
      for sum in [1, 3, 6, 10, 15] { #expect(try await pipe.hear() == "two \(sum)") }
      // And in the very turn of the swap.
      try bench.save("h.lua", text.replacing("NAME", with: "three"))
      async let report = bench.again()
      for _ in 0..<50 { try await pipe.say("1") }
      #expect(try await report.result == .active)
      var heard: [String] = []
      while heard.last != "two 65", heard.last != "three 65" { heard.append(try await pipe.hear()) }
      let sums = heard.filter { !$0.contains("begins") }.compactMap { Int($0.split(separator: " ").last ?? "") }
      #expect(sums == Array(16...65))
    }
  }

  @Test func theEndOfASessionIsTheEndOfItsPipe() async throws {
    try await withHandler(
      text.replacing("NAME", with: "one") + "\nfunction M.end_cb(pipe, reason) print('end', reason) end"
    ) { bench, pipe async throws in
      #expect(try await pipe.hear() == "one begins at 0")
      try await pipe.say("end")
      #expect(try await pipe.ended.get().code == "closed")
      let other = try await bench.connect()
      _ = try await other.hear()
      try await other.say("fail")
      #expect(try await other.ended.get().code == "closed")
      await bench.bench.logged.contains("h.lua:9: failed")
      #expect(await bench.host.statistics().errors == 1)
    }
  }

  @Test func fromCallbacksToASessionAndBack() async throws {
    let callbacks =
      "function M.msg_cb(msg, tup, pipe) pipe.data = pipe.data or { sum = 0 } pipe:send('cb ' .. msg .. pipe.data.sum) end"
    try await withHandler(callbacks) { bench, pipe async throws in
      #expect(try await pipe.ask("a") == "cb a0")
      try await bench.reload(text.replacing("NAME", with: "session"))
      #expect(try await pipe.hear() == "session begins at 0")
      #expect(try await pipe.ask("3") == "session 3")
      try await bench.reload(callbacks + " -- again")
      #expect(try await pipe.ask("b") == "cb b3")
    }
  }

  /// A session that will not go is ended.
  @Test func aSessionThatCatchesTheErrorIsEnded() async throws {
    try await withHandler(
      """
      function M.session(pipe, data)
        pipe:send("old")
        while true do pcall(function() pipe:recv() end) end
      end
      """,
      {
        $0.reload.grace = .milliseconds(20)
        $0.limits.runTime = 20
      }
    ) { bench, pipe async throws in
      #expect(try await pipe.hear() == "old")
      try await bench.reload(text.replacing("NAME", with: "new"))
      #expect(try await pipe.hear() == "new begins at 0")
    }
  }

  @Test func aRollbackBringsOldSessionsBack() async throws {
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe async throws in
      #expect(try await pipe.hear() == "one begins at 0")
      try await bench.reload(text.replacing("NAME", with: "two"))
      #expect(try await pipe.hear() == "two begins at 0")
      #expect(try await pipe.ask("4") == "two 4")
      _ = try await bench.host.rollback("h")
      #expect(try await pipe.hear() == "one begins at 4")
      #expect(try await pipe.ask("4") == "one 8")
    }
  }
}
