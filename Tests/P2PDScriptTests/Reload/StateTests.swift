import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// `p2pd.state` through reloads: shared while the version stays, copied and migrated when it changes.
@Suite(.timeLimit(.minutes(1))) struct StateTests {
  private let old = """
    function M.msg_cb(msg, tup, pipe)
      local s = p2pd.state
      s.names = s.names or {}
      s.names[#s.names + 1] = msg
      s.self = s
      s.pipe = pipe
      pipe:send(table.concat(s.names, " "))
    end
    """

  @Test func migrateMakesTheNewStateOutOfACopy() async throws {
    try await withHandler(old) { bench, pipe async throws in
      #expect(try await pipe.ask("ann") == "ann")
      let report = try await bench.reload(
        """
        M.version = 3
        function M.migrate(state, old_version)
          assert(state.self == state and state.pipe.is_open)
          state.names[1] = "changed"
          return { count = #state.names, from = old_version, pipe = state.pipe }
        end
        function M.msg_cb(msg, tup, pipe)
          local s = p2pd.state
          s.count = s.count + 1
          s.pipe:send(("%d from %d %s"):format(s.count, s.from, tostring(s.pipe == pipe)))
        end
        """)
      #expect(report.result == .active && report.fromVersion == 1 && report.toVersion == 3)
      #expect(report.description.contains("version 1 -> 3"))
      #expect(try await pipe.ask("x") == "2 from 1 true")
      #expect(await bench.host.generationList().first?.version == 3)
      // The old state is as it was.
      #expect(try await bench.host.rollback("h").first?.result == .rolledBack)
      #expect(try await pipe.ask("bob") == "ann bob")
    }
  }

  @Test func aFailingMigrationLeavesTheStateAlone() async throws {
    try await withHandler(old) { bench, pipe async throws in
      #expect(try await pipe.ask("ann") == "ann")
      let report = try await bench.reload(
        """
        M.version = 2
        function M.migrate(state) state.names = nil state.self.pipe = nil error("cannot") end
        function M.msg_cb() end
        """)
      #expect(report.error?.hasSuffix("h.lua:4: cannot") == true && !report.traceback.isEmpty)
      #expect(try await pipe.ask("bob") == "ann bob")
    }
  }

  @Test func anotherVersionNeedsNoMigrationWhereThereIsNoState() async throws {
    try await withHandler("function M.msg_cb() end") { bench, pipe in
      let report = try await bench.reload("M.version = 2 function M.msg_cb(m, t, pipe) pipe:send('two') end")
      #expect(report.result == .active)
      let answer = try await pipe.ask("x")
      #expect(answer == "two")
    }
  }

  /// Nothing may change between the copy and the swap: messages wait while a big state is migrated.
  @Test func messagesWaitForTheMigration() async throws {
    try await withHandler(
      """
      function M.start() p2pd.state.n = 0 for i = 1, 20000 do p2pd.state[i] = { i } end print("filled") end
      function M.msg_cb(msg, tup, pipe) p2pd.state.n = p2pd.state.n + 1 pipe:send("one " .. p2pd.state.n) end
      """, { $0.limits.slice = 0.001 }
    ) { bench, pipe async throws in
      await bench.bench.logged.contains("filled")
      try bench.save(
        "h.lua",
        """
        M.version = 2
        function M.migrate(state)
          for round = 1, 3 do for i = 1, #state do state[i] = { state[i] } end end
          return state
        end
        function M.msg_cb(msg, tup, pipe) p2pd.state.n = p2pd.state.n + 1 pipe:send("two " .. p2pd.state.n) end
        """)
      async let report = bench.again()
      for _ in 0..<300 { try await pipe.say("x") }
      var counts: [Int] = []
      for _ in 0..<300 {
        let answer = try await pipe.hear()
        counts.append(Int(answer.dropFirst(4)) ?? 0)
      }
      // Every message is counted once, whichever generation counted it.
      #expect(counts == Array(1...300))
      let made = try await report
      #expect(made.result == .active, "\(made)")
    }
  }

  @Test(arguments: [
    ("p2pd.state = { rooms = { {}, {}, { cb = print } } }", "p2pd.state.rooms[3].cb is a function"),
    ("p2pd.state = { co = coroutine.create(print) }", "p2pd.state.co is a coroutine"),
    ("p2pd.state = { t = setmetatable({}, { __index = string }) }", "p2pd.state.t has a metatable"),
    ("p2pd.state = { task = p2pd.spawn(print) }", "p2pd.state.task"),
    ("p2pd.state = { timer = p2pd.after(60, print) }", "p2pd.state.timer"),
    ("p2pd.state = 5", "p2pd.state must be a table"),
  ])
  func stateIsPlainData(_ text: String, _ why: String) async throws {
    try await withHandler(
      "function M.msg_cb(msg, tup, pipe)\n local ok, err = pcall(function() \(text) end) pipe:send(err) end"
    ) {
      _, pipe async throws in
      let answer = try await pipe.ask("x")
      #expect(answer.contains(why), "\(answer)")
      #expect(answer.contains("h.lua:4:"), "\(answer)")
    }
  }

  /// What got into the state all the same must not carry old code along.
  @Test func aStateThatIsNotPlainRefusesTheReload() async throws {
    try await withHandler(
      "function M.msg_cb(msg, tup, pipe) p2pd.state.rooms = { a = { cb = msg == 'bad' and print or nil } } pipe:send('set') end"
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("bad") == "set")
      let report = try await bench.reload("function M.msg_cb(m, t, pipe) pipe:send('new') end")
      #expect(report.error?.contains("p2pd.state.rooms.a.cb is a function") == true, "\(report.error ?? "")")
      #expect(try await pipe.ask("good") == "set")
      #expect(try await bench.again().result == .active)
      #expect(try await pipe.ask("x") == "new")
    }
  }
}
