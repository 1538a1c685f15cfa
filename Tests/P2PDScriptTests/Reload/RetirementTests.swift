import Glibc
import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// What is left of old generations: nothing, and proven so.
@Suite(.timeLimit(.minutes(5))) struct RetirementTests {
  private func handler(_ number: Int) -> String {
    """
    local big = ("x"):rep(1000) .. \(number)
    p2pd.every(60, function() return big end)
    p2pd.spawn(function() p2pd.sleep(math.huge) end)
    local d = p2pd.daemon { msg_cb = function(msg, tup, pipe) pipe:send(msg) end }
    d:add_listener(p2pd.TCP, { "127.0.0.1", 0 })
    function M.start() while true do p2pd.sleep(math.huge) end end
    function M.up_cb(pipe) pipe:add_end_cb(function() return big end) end
    function M.msg_cb(msg, tup, pipe)
      pipe:add_msg_cb(function() return big end)
      pipe:send(\(number) .. " " .. msg)
    end
    """
  }

  /// Files this process has open.
  private var descriptors: Int {
    guard let folder = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count
  }

  /// The whole measure is `P2PD_RELOADS=10000`; some hundreds show a leak as well.
  @Test func manyReloadsLeaveNothing() async throws {
    let reloads = getenv("P2PD_RELOADS").flatMap { Int(String(cString: $0)) } ?? 300
    try await withHandler(handler(0)) { bench, pipe async throws in
      // One that speaks to each generation, one that never speaks again.
      let idle = try await bench.connect()
      #expect(try await idle.ask("x") == "0 x")
      let measure: @Sendable (ScriptHost) -> [Int] = { host in
        for _ in 0..<3 { host.vm.collectAll() }
        let timers = host.generations.values.reduce(0) { $0 + $1.timers.count }
        return [host.vm.memoryUsed, host.vm.stats.references, host.generations.count, timers, host.vm.stats.tasksLive]
      }
      var before: [Int] = []
      var open = 0
      for number in 1...reloads {
        #expect(try await bench.reload(handler(number)).result == .active)
        #expect(try await pipe.ask("x") == "\(number) x")
        if number == reloads / 2 {
          await bench.until { $0.generations.count == 2 }
          before = await bench.host.onLoop(measure)
          open = descriptors
        }
      }
      await bench.until { $0.generations.count == 2 }
      let after = await bench.host.onLoop(measure)
      #expect(after[0] < before[0] + 100_000, "memory: \(before[0]), \(after[0])")
      #expect(after[1] <= before[1] + 8, "references: \(before[1]), \(after[1])")
      #expect(after[2...] == before[2...], "\(before) \(after)")
      #expect(descriptors <= open + 2)
      // Each generation that ended has been collected.
      #expect(await bench.host.generationList().filter { $0.phase == .retired }.isEmpty)
      #expect(try await idle.ask("x") == "\(reloads) x")
    }
  }

  /// The proof can fail: a function of old code that something still holds shows.
  @Test func whatHoldsAnOldGenerationShows() async throws {
    try await withHandler(
      """
      function M.msg_cb(msg, tup, pipe)
        pipe.data = function() return print end
        pipe:send("held")
      end
      """, { $0.autoRollback = false }
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("x") == "held")
      try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe.data = nil pipe:send('freed') end")
      await bench.until { $0.generations.count == 1 }
      await bench.host.onLoop { $0.vm.collectAll() }
      let held = await bench.host.generationList()
      #expect(held.map(\.id) == [2, 1] && held.last?.phase == .retired)
      #expect(held.last?.keptAliveBy == ["Lua has not collected it yet"])
      let found = await bench.host.generationList(holders: true).last?.keptAliveBy ?? []
      #expect(found.count == 1 && found[0].hasPrefix("held by ") && found[0].hasSuffix(".data"), "\(found)")
      #expect(try await pipe.ask("x") == "freed")
      await bench.host.onLoop { $0.vm.collectAll() }
      #expect(await bench.host.generationList().map(\.id) == [2])
    }
  }

  @Test func pathsAreReadable() {
    #expect(HolderPath.readable("registry._LOADED.foo.cb^_ENV") == "package.loaded.foo.cb")
    #expect(HolderPath.readable("registry[50] (p2pd.pipe 7).data.on_reply^_ENV") == "(p2pd.pipe 7).data.on_reply")
    #expect(HolderPath.readable("registry[3][1]^list") == "the engine[1]^list")
    #expect(HolderPath.readable("registry") == "registry")
  }

  @Test func theListSaysWhatKeepsAGenerationAlive() async throws {
    try await withHandler(
      "function M.msg_cb(msg, tup, pipe) pipe:send('waiting') p2pd.sleep(math.huge) end",
      { $0.reload.grace = .milliseconds(10) }
    ) { bench, pipe async throws in
      #expect(try await pipe.ask("x") == "waiting")
      try await bench.reload("function M.msg_cb(msg, tup, pipe) pipe:send('new') end")
      let infos = await bench.alive
      #expect(infos.map(\.phase) == [.live, .standby])
      #expect(infos[0].keptAliveBy == ["it serves the protocol"])
      #expect(
        infos[1].keptAliveBy == [
          "it stands by while its successor is on probation", "1 handlers or sessions in flight",
        ])
      #expect(infos[1].messages == 1 && infos[0].hash != infos[1].hash && infos[0].hash.count == 64)
    }
  }
}

/// Files of a hosted folder come and go.
@Suite(.timeLimit(.minutes(1))) struct MembershipTests {
  private let text =
    "local M = {} function M.stop() print('stop NAME') end function M.msg_cb(msg, tup, pipe) pipe:send('NAME') end return M"

  @Test func anAddedFileIsHostedAndARemovedOneEnds() async throws {
    try await withHandlers([("a.lua", text.replacing("NAME", with: "a"))]) { bench async throws in
      try bench.save("b.lua", text.replacing("NAME", with: "b"))
      let added = await bench.host.addProtocol(path: bench.path("b.lua"))
      #expect(added.result == .active && added.protocolName == "b")
      let pipe = try await bench.connect("b")
      #expect(try await pipe.ask("x") == "b")
      let removed = await bench.host.removeProtocol(name: "b")
      #expect(removed.result == .removed)
      let reason = try await pipe.ended.get()
      #expect(reason.description.contains("'b' is not hosted any more"), "\(reason)")
      await bench.bench.logged.contains("stop b")
      await #expect(throws: (any Error).self) { try await bench.connect("b") }
      #expect(await bench.host.protocols.map(\.name) == ["a"])
      #expect(try await bench.connect("a").ask("x") == "a")
      #expect(await bench.host.onLoop { $0.generations.count } == 1)
      // And it comes back.
      #expect(await bench.host.addProtocol(path: bench.path("b.lua")).result == .active)
      #expect(try await bench.connect("b").ask("x") == "b")
    }
  }

  @Test func aFileThatCannotBeLoadedIsTriedAgain() async throws {
    try await withHandlers([("a.lua", text.replacing("NAME", with: "a"))]) { bench async throws in
      try bench.save("b.lua", "return = 1 -- return M")
      let refused = await bench.host.addProtocol(path: bench.path("b.lua"))
      #expect(refused.result == .rejected && refused.error?.contains("b.lua:1:") == true)
      #expect(await bench.host.trackedFiles()[bench.path("b.lua")] == [bench.path("b.lua")])
      try bench.save("b.lua", text.replacing("NAME", with: "b"))
      let reports = await bench.host.reload(using: [bench.path("b.lua")], trigger: "watch")
      #expect(reports.map(\.result) == [.active])
      #expect(try await bench.connect("b").ask("x") == "b")
    }
  }
}
