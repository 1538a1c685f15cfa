import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// Going back: by itself, and by hand.
@Suite(.timeLimit(.minutes(1))) struct RollbackTests {
  private let good = """
    p2pd.every(0.001, function() p2pd.state.beat = (p2pd.state.beat or 0) + 1 end)
    function M.msg_cb(msg, tup, pipe) p2pd.state.n = (p2pd.state.n or 0) + 1 pipe:send("good " .. p2pd.state.n) end
    """
  private let bad = """
    M.version = 2
    function M.migrate(state) return { n = 1000 } end
    function M.msg_cb(msg, tup, pipe) if msg == "fine" then pipe:send("fine") else error("bad") end end
    """

  @Test func aGenerationThatFailsItsMessagesIsRolledBack() async throws {
    try await withHandler(good) { bench, pipe async throws in
      let reports = Reports(bench.host)
      #expect(try await pipe.ask("x") == "good 1")
      #expect(try await bench.reload(bad).result == .active)
      for _ in 0..<18 { #expect(try await pipe.ask("fine") == "fine") }
      for _ in 0..<2 { try await pipe.say("x") }
      let report = await reports.next { $0.result == .rolledBack }
      #expect(report.trigger == "probation" && report.from == 2 && report.to == 1)
      #expect(report.error?.contains("2 of 20 messages failed") == true)
      // State and timers of the old one are back.
      #expect(try await pipe.ask("x") == "good 2")
      let beat = await bench.host.onLoop { $0.generations[1]?.timers.count }
      #expect(beat == 1)
      #expect(bench.bench.logged.all.filter { $0.contains("rolled back") }.count == 1)
      // The same content is not tried again, whoever asks; another is.
      for trigger in ["watch", "command"] {
        let again = try await bench.again(trigger: trigger)
        #expect(again.result == .rejected && again.error?.contains("was rolled back (2 of 20") == true)
      }
      #expect(try await pipe.ask("x") == "good 3")
      #expect(try await bench.reload(bad + "-- changed").result == .active)
      #expect(try await pipe.ask("fine") == "fine")
    }
  }

  @Test func threeKillsRollBack() async throws {
    try await withHandler(good, { $0.limits.runTime = 0.05 }) { bench, pipe async throws in
      let reports = Reports(bench.host)
      #expect(
        try await bench.reload("function M.msg_cb(msg, tup, pipe) while true do end end").result == .active)
      for _ in 0..<3 { try await pipe.say("x") }
      let report = await reports.next { $0.result == .rolledBack }
      #expect(report.error == "3 tasks were stopped by the time limit")
      #expect(try await pipe.ask("x") == "good 1")
    }
  }

  @Test func aFailingStartRollsBackAndTheOldOneStartsAgain() async throws {
    try await withHandler(good + "\nfunction M.start() print('started', p2pd.generation) end") {
      bench, pipe async throws in
      let reports = Reports(bench.host)
      await bench.bench.logged.contains("started\t1")
      try await bench.reload("function M.start() error('no') end")
      _ = await reports.next { $0.result == .rolledBack }
      await bench.until { _ in bench.bench.logged.all.filter { $0.contains("started\t1") }.count == 2 }
      #expect(try await pipe.ask("x") == "good 1")
    }
  }

  @Test func withoutAutoRollbackItStays() async throws {
    try await withHandler(good, { $0.autoRollback = false }) { bench, pipe async throws in
      try await bench.reload(bad)
      for _ in 0..<40 { try await pipe.say("x") }
      #expect(try await pipe.ask("fine") == "fine")
      await bench.until { $0.generations.count == 1 }
      #expect(await bench.host.onLoop { $0.hosted[0].current.id } == 2)
    }
  }

  @Test func afterProbationTheOldOneIsGivenUp() async throws {
    try await withHandler(good, { $0.reload.probation = .milliseconds(30) }) { bench, pipe async throws in
      try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new') end")
      #expect(await bench.alive.map(\.phase) == [.live, .standby])
      await bench.until { $0.generations.count == 1 }
      #expect(try await pipe.ask("x") == "new")
    }
  }

  /// By hand it goes back as far as sources are kept, after the generations themselves are gone.
  @Test func rollbackByHandGoesBackStepByStep() async throws {
    try await withHandlers(
      [
        ("lib.lua", "return 1"),
        ("h.lua", "local n = require 'lib' function M.msg_cb(m, t, pipe) pipe:send('v1.' .. n) end"),
      ],
      { $0.autoRollback = false }
    ) { bench async throws in
      let pipe = try await bench.connect()
      for version in 2...7 {
        try bench.save("lib.lua", "return \(version)")
        try await bench.reload(
          "local n = require 'lib' function M.msg_cb(m, t, pipe) pipe:send('v\(version).' .. n) end")
        #expect(try await pipe.ask("x") == "v\(version).\(version)")
      }
      await bench.until { $0.generations.count == 1 }
      for version in [6, 5, 4, 3] {
        let report = try #require(await bench.host.rollback("h").first)
        #expect(report.result == .rolledBack, "\(report)")
        #expect(try await pipe.ask("x") == "v\(version).\(version)")
        // What is on the disk does not come back by itself.
        #expect(try await bench.again(trigger: "watch").result == .rejected)
      }
      await #expect(throws: ScriptError.self) { try await bench.host.rollback("h") }
      // Asked for, it does.
      #expect(try await bench.again(trigger: "command").result == .active)
      #expect(try await pipe.ask("x") == "v7.7")
    }
  }

  @Test func rollbackByHandDuringProbationIsAPointer() async throws {
    try await withHandler(good) { bench, pipe async throws in
      #expect(try await pipe.ask("x") == "good 1")
      try await bench.reload(bad)
      #expect(try await pipe.ask("fine") == "fine")
      let report = try #require(await bench.host.rollback().first)
      #expect(report.to == 1 && report.trigger == "command")
      #expect(try await pipe.ask("x") == "good 2")
      await bench.until { $0.generations.count == 1 }
    }
  }

  /// Servers of the top level come back with the old generation.
  @Test func serversComeBack() async throws {
    let server = """
      local d = p2pd.daemon { msg_cb = function(msg, tup, pipe) pipe:send("NAME " .. msg) end, framing = "line" }
      d:add_listener(p2pd.TCP, { "127.0.0.1", 0 })
      function M.msg_cb(msg, tup, pipe) pipe:send(tostring(d:servers()[1]:getsockname())) end
      """
    try await withHandler(server.replacing("NAME", with: "old")) { bench, pipe async throws in
      let place = try await pipe.ask("where")
      let client = try await plainClient(place)
      #expect(try await client.ask("a") == "old a")
      try await bench.reload("function M.msg_cb() end")
      let reason = try await client.ended.get()
      #expect(reason.code == "closed")
      _ = try await bench.host.rollback("h")
      await bench.until { $0.generations[1]?.listeners.count == 1 }
      let again = try await plainClient(try await pipe.ask("where"))
      #expect(try await again.ask("b") == "old b")
      _ = try await again.loop.flatSubmit { again.close() }.get()
    }
  }
}
