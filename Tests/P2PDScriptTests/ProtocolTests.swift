import LuaVM
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import Testing

@testable import P2PDScript

/// Handlers as `p2pd-lua run` hosts them.
@Suite(.timeLimit(.minutes(1))) struct ProtocolTests {
  /// Runs a handler on a node and connects to it from a second one.
  private func withHandler(
    _ text: String, limits: LuaLimits = LuaLimits(), errorsPerSecond: Int = 5,
    _ body: (Bench, Pipe) async throws -> Void
  ) async throws {
    try await withBench(limits: limits, errorsPerSecond: errorsPerSecond) { bench in
      let path = try bench.write("handler.lua", "local p2pd = require 'p2pd'\nlocal M = {}\n" + text + "\nreturn M\n")
      _ = try await bench.host.loadProtocols([path])
      let quiet = Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
      let node = try await Node.start(Bench.loopbackNode, on: bench.host.loop, logger: quiet)
      try await bench.host.attach(node)
      let client = try await Node.start(
        Bench.loopbackNode, on: sharedLoop, logger: quiet)
      let address = try await bench.host.loop.submit { node.address }.get()
      let pipe = try await client.connect(address, protocol: "handler", timeout: .seconds(10))
      do {
        try await body(bench, pipe)
      } catch {
        await client.close()
        await node.close()
        throw error
      }
      await client.close()
      await node.close()
    }
  }

  /// The handler of DESIGN §5.1, as it stands there.
  @Test func theProtocolOfTheDesign() async throws {
    try await withBench { bench in
      let path = try bench.write(
        "ping.lua",
        """
        -- ping.lua                          $ p2pd-lua run ping.lua
        local p2pd = require "p2pd"
        local M = {}

        function M.msg_cb(msg, client_tup, pipe)        -- a message arrived
          if msg:find("PING", 1, true) then
            pipe:send("PONG", client_tup)
          end
        end

        function M.up_cb(pipe) end                      -- a pipe opened
        function M.end_cb(pipe, reason) end             -- a pipe closed

        return M
        """)
      let loaded = try await bench.host.loadProtocols([path])
      #expect(loaded.map(\.name) == ["ping"] && loaded[0].version == 1)
    }
  }

  @Test func messagesReachTheHandlerAndItsStateStays() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        p2pd.state.count = (p2pd.state.count or 0) + 1
        pipe:send(msg .. p2pd.state.count .. tostring(p2pd.node() ~= nil) .. pipe.protocol)
      end
      """
    ) { bench, pipe in
      let answer1 = try await pipe.ask("a")
      #expect(answer1 == "a1truehandler")
      let answer2 = try await pipe.ask("b")
      #expect(answer2 == "b2truehandler")
      let statistics = await bench.host.statistics()
      #expect(statistics.messages == 2 && statistics.pipes == 1)
    }
  }

  @Test func anErrorIsLoggedCountedAndToldToTheScriptAndThePipeStays() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        if msg == "bad" then local x = nil; x.y = 1 end
        pipe:send("fine")
      end
      function M.error_cb(err, pipe) pipe:send("caught " .. tostring(err):match("%d+: (.*)")) end
      """
    ) { bench, pipe in
      let answer9 = try await pipe.ask("bad")
      #expect(answer9.hasPrefix("caught attempt to index a nil value"))
      let answer3 = try await pipe.ask("good")
      #expect(answer3 == "fine")
      #expect(bench.logged.text.contains("handler.lua:4:") && bench.logged.text.contains("stack traceback"))
      #expect(bench.logged.text.contains("script=handler") && bench.logged.text.contains("pipe="))
      #expect(await bench.host.statistics().errors == 1)
    }
  }

  @Test func anErrorOfTheEngineReachesErrorCbWithItsCode() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe) string.find(("a"):rep(50000), (".-"):rep(20) .. "b") end
      function M.error_cb(err, pipe) pipe:send(err.code .. ": " .. tostring(err)) end
      """
    ) { _, pipe in
      let answer = try await pipe.ask("x")
      #expect(answer.hasPrefix("too_complex: ") && answer.contains("pattern too complex"))
    }
  }

  @Test func manyErrorsFillNoLog() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        if msg == "end" then pipe:send("end") end
        error("again")
      end
      """, errorsPerSecond: 3
    ) { bench, pipe in
      try await pipe.loop.submit { for _ in 0..<200 { _ = Array("x".utf8).withUnsafeBytes { pipe.send($0) } } }.get()
      let answer4 = try await pipe.ask("end")
      #expect(answer4 == "end")
      #expect(await bench.host.statistics().errors >= 200)
      #expect(bench.logged.all.filter { $0.contains("again") }.count <= 9)
    }
  }

  @Test func aHandlerThatLoopsForEverIsStoppedAndTheNodeServesOn() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        if msg == "loop" then while true do pcall(function() while true do end end) end end
        pipe:send("served " .. msg)
      end
      """, limits: LuaLimits(runTime: 0.2)
    ) { bench, pipe in
      try await pipe.say("loop")
      let answer5 = try await pipe.ask("on")
      #expect(answer5 == "served on")
      #expect(bench.logged.text.contains("handler.lua:4"))
    }
  }

  @Test func memoryBeyondTheLimitIsAnErrorOfTheHandler() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        if msg == "fill" then local t = {} while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end end
        pipe:send("served " .. msg)
      end
      """, limits: LuaLimits(memory: 8 << 20, runTime: 5)
    ) { bench, pipe in
      try await pipe.say("fill")
      let answer6 = try await pipe.ask("on")
      #expect(answer6 == "served on")
      #expect(bench.logged.text.contains("not enough memory"))
    }
  }

  @Test func startRunsOnceTheNodeIsThereAndTimersBegin() async throws {
    try await withHandler(
      """
      local ticks = 0
      p2pd.every(0.002, function() ticks = ticks + 1 end)
      local started
      function M.start() p2pd.sleep(0.001) started = p2pd.node().id end
      function M.msg_cb(msg, tup, pipe)
        while ticks < 2 or not started do p2pd.sleep(0.001) end
        pipe:send(started)
      end
      """
    ) { _, pipe in
      let answer10 = try await pipe.ask("x")
      #expect(answer10.count > 20)
    }
  }

  @Test func shutdownRunsEndCallbacksAndStop() async throws {
    try await withBench { bench in
      let path = try bench.write(
        "h.lua",
        """
        local M = {}
        function M.msg_cb(msg, tup, pipe) pipe:send(msg) end
        function M.end_cb(pipe, reason) require "p2pd".sleep(0.01) print("end_cb", reason) end
        function M.stop() print("stop") end
        return M
        """)
      _ = try await bench.host.loadProtocols([path])
      let quiet = Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
      let node = try await Node.start(Bench.loopbackNode, on: bench.host.loop, logger: quiet)
      try await bench.host.attach(node)
      let client = try await Node.start(
        Bench.loopbackNode, on: sharedLoop, logger: quiet)
      let address = try await bench.host.loop.submit { node.address }.get()
      let pipe = try await client.connect(address, timeout: .seconds(10))
      let answer7 = try await pipe.ask("default protocol")
      #expect(answer7 == "default protocol")
      await bench.host.shutdown(deadline: .seconds(5))
      await bench.host.shutdown(deadline: .seconds(5))
      #expect(bench.logged.text.contains("stop") && bench.logged.text.contains("end_cb\tlocal"))
      let reason = try await pipe.ended.get()
      #expect(reason.code == "closed")
      await client.close()
      await node.close()
    }
  }

  @Test func aLoopInStartDoesNotHoldUpTheEnd() async throws {
    try await withHandler(
      """
      function M.start()
        local guard <close> = setmetatable({}, { __close = function() print("start ended") end })
        while true do p2pd.sleep(0.001) end
      end
      function M.msg_cb(msg, tup, pipe) pipe:send(msg) end
      """
    ) { bench, pipe in
      let answer = try await pipe.ask("x")
      #expect(answer == "x")
      let before = ContinuousClock.now
      await bench.host.shutdown(deadline: .seconds(20))
      #expect(ContinuousClock.now - before < .seconds(10))
      #expect(bench.logged.text.contains("start ended"))
      #expect(!bench.logged.text.contains("failed"))
    }
  }

  /// A handler that waits for ever is not waited for longer than the deadline.
  @Test func shutdownHasADeadline() async throws {
    try await withHandler("function M.msg_cb(msg, tup, pipe) pipe:send(msg) p2pd.sleep(math.huge) end") { bench, pipe in
      let answer = try await pipe.ask("x")
      #expect(answer == "x")
      await bench.host.shutdown(deadline: .milliseconds(50))
      let reason = try await pipe.ended.get()
      #expect(reason.code == "closed")
    }
  }

  @Test(arguments: [
    ("return 5", "a handler must return a table of callbacks, this returned number"),
    ("", "is 'return M' missing"),
    ("return {}", "no msg_cb, session, up_cb, end_cb or start"),
    ("return { msg_bc = print, msg_cb = print, mesage_cb = print }", "unknown callback 'mesage_cb'"),
    ("return { msgcb = print }", "unknown callback 'msgcb' (did you mean 'msg_cb'?)"),
    ("return { msg_cb = 5 }", "'msg_cb' must be a function, not a integer"),
    ("return { msg_cb = print, version = 'x' }", "'version' must be a integer, not a string"),
    ("return { msg_cb = print, protocol = 'a b' }", "bad protocol name 'a b'"),
    ("local x = = 1", "handler.lua:1:"),
    ("local x\nx.y = 1", "handler.lua:2: attempt to index a nil value"),
    ("require 'p2pd'.sleep(1)", "move it into 'function M.start()'"),
    ("require 'p2pd'.pipe_open('tcp')", "'pipe_open' waits for the network"),
    ("require 'p2pd'.node()", "'node' waits for the network"),
    ("require 'p2pd'.state.x = 1", "p2pd.state is not available at the top level"),
    ("require 'nosuchmodule'", "module 'nosuchmodule' not found"),
    ("while true do end", "handler.lua:1"),
    ("error({ 1 })", "handler.lua"),
  ])
  func aBadHandlerIsRefusedWithItsReason(_ text: String, _ reason: String) async throws {
    try await withBench(limits: LuaLimits(runTime: 0.1)) { bench in
      let path = try bench.write("handler.lua", text)
      do {
        _ = try await bench.host.loadProtocols([path])
        Issue.record("loaded: \(text)")
      } catch let error as ScriptError {
        #expect(error.description.contains(reason), "\(error)")
        #expect(error.description.contains("handler.lua"), "\(error)")
      }
      #expect(await bench.host.protocols.isEmpty)
    }
  }

  @Test func aFolderStandsForItsHandlersAndNamesAreTakenOnce() async throws {
    try await withBench { bench in
      for name in ["b.lua", "a.lua", "a_test.lua", ".hidden.lua"] {
        _ = try bench.write(name, "return { msg_cb = print }")
      }
      let answer8 = try await bench.host.loadProtocols([bench.folder.path]).map(\.name)
      #expect(answer8 == ["a", "b"])
      let again = try bench.write("other.lua", "return { msg_cb = print, protocol = 'a', version = 3 }")
      await #expect(throws: ScriptError.self) { try await bench.host.loadProtocols([again]) }
    }
  }

  @Test func handlersOfOneHostDoNotSeeEachOther() async throws {
    try await withBench { bench in
      let one = try bench.write(
        "one.lua", "shared = 1 require 'p2pd'.json.mine = 1 string.mine = 1 return { msg_cb = print }")
      let two = try bench.write(
        "two.lua",
        "assert(shared == nil and require 'p2pd'.json.mine == nil and string.mine == nil) return { msg_cb = print }")
      #expect(try await bench.host.loadProtocols([one, two]).count == 2)
    }
  }
}
