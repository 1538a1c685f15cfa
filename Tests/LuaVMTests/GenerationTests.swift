import Testing

@testable import LuaVM

/// What replacing code in a running VM needs.
@Suite struct GenerationTests {
  /// Counts how many of it are held.
  final class Sentinel {
    nonisolated(unsafe) static var live = 0
    init() { Sentinel.live += 1 }
    deinit { Sentinel.live -= 1 }
  }

  @Test func aCancelCarriesACode() throws {
    let b = try Bench()
    try b.run("local ok, e = pcall(recv) log(e.code, e.reason, tostring(e)) recv()")
    #expect(b.vm.cancel(b.waits[0].task, code: "reloaded", reason: "ping.lua was saved"))
    #expect(b.abandoned == [b.waits[0]])
    b.settle()
    #expect(b.log == ["reloaded", "ping.lua was saved", "reloaded: ping.lua was saved"])
    let failure = try #require(b.failure())
    #expect(failure.kind == .cancelled)
    #expect(failure.value["code"].text == "reloaded")
    #expect(failure.message == "reloaded: ping.lua was saved")
  }

  @Test func aKilledTaskRunsItsCloseHandlersOnly() throws {
    let b = try Bench()
    try b.run(
      """
      local c <close> = setmetatable({}, {__close = function() log('root') end})
      local gen = coroutine.wrap(function()
        local c <close> = setmetatable({}, {__close = function() log('inner') end})
        while true do pcall(recv) end
      end)
      gen() log('never')
      """)
    #expect(b.vm.kill(b.waits[0].task, reason: "10 s after the reload"))
    #expect(b.log.isEmpty && b.vm.exists(b.waits[0].task))
    b.settle()
    #expect(b.log == ["inner", "root"])
    #expect(b.abandoned == [b.waits[0]])
    let failure = try #require(b.failure())
    #expect(failure.kind == .cancelled)
    #expect(failure.message == "main.lua:4: ended: 10 s after the reload")
    #expect(failure.traceback.contains("main.lua:6: in"))
    #expect(!b.vm.kill(b.waits[0].task, reason: "again"))
  }

  @Test func aTaskIsKilledBetweenItsSlices() throws {
    let b = try Bench()
    #expect(try b.run("while true do end") == .waiting)
    #expect(b.vm.kill(b.vm.lastTask, reason: "enough"))
    b.settle()
    #expect(b.failure()?.kind == .cancelled)
    try b.run("log('still here')")
    #expect(b.log == ["still here"])
  }

  @Test func theHostKillsTheTaskThatCallsIt() throws {
    let b = try Bench()
    try b.vm.defineModule("stop", functions: [("me", { c in .one(.bool(c.vm.kill(c.task, reason: "asked"))) })])
    try b.run("pcall(function() require('stop').me() log('never') end)")
    b.settle()
    #expect(b.log.isEmpty)
    #expect(b.failure()?.message == "main.lua:1: ended: asked")
  }

  @Test func tasksAreFoundByTheirTag() throws {
    let b = try Bench()
    for tag in [0x1_0001, 0x1_0002, 0x2_0001] as [UInt64] { try b.run("recv()", tag: tag) }
    #expect(b.vm.tasks(tag: 0x1_0002) == [b.waits[1].task])
    #expect(Set(b.vm.tasks(tag: 0x1_0000, mask: 0xffff_0000)) == Set(b.waits[..<2].map(\.task)))
    #expect(b.vm.tasks(tag: 5).isEmpty)
    for task in b.vm.tasks(tag: 0, mask: 0) { b.vm.kill(task, reason: "end") }
    b.settle()
    #expect(b.vm.tasks(tag: 0, mask: 0).isEmpty && b.vm.stats.tasksLive == 0)
    #expect(b.ends.map(\.tag) == [0x1_0001, 0x1_0002, 0x2_0001])
  }

  @Test func aStagedRunTakesTurnsAndCannotWait() throws {
    let b = try Bench()
    func stage(_ source: String) throws {
      let f = try b.load(source)
      defer { b.vm.release(f) }
      try b.vm.spawn(f, tag: 4, wantsResults: true, tablesAsRefs: true, noWait: "move it into start")
      b.settle()
    }
    try stage("local n = 0 while n < 4e7 do n = n + 1 end return {n = n}")
    #expect(b.vm.stats.slices > 0)
    let table = try #require(b.results()?.first?.ref)
    #expect(try b.vm.field(table, "n").int == 40_000_000)
    b.vm.release(table)
    for wait in ["recv()", "coroutine.yield()"] {
      try stage("log('begun') " + wait)
      #expect(b.failure()?.message == "main.lua:1: move it into start")
    }
    #expect(b.log == ["begun", "begun"])
    #expect(b.waits.isEmpty)
  }

  @Test func modulesComeFromTheHost() throws {
    struct NoAccess: Error, CustomStringConvertible { var description: String { "no access" } }
    let b = try Bench()
    var asked: [String] = []
    b.vm.readModule = { tag, path in
      asked.append("\(tag) \(path)")
      if path.hasSuffix("secret.lua") { throw NoAccess() }
      return path == "/lib/a.lua" ? Array("return {'from the host'}".utf8) : nil
    }
    let e = try b.vm.makeEnvironment(directory: "/here", moduleDirectories: ["/lib"], printTag: "7")
    func run(_ source: String) throws -> LuaValue {
      let f = try b.vm.load(source, name: "s.lua", environment: e)
      defer { b.vm.release(f) }
      return try b.vm.callNow(f).first ?? .nil
    }
    #expect(try run("return require('a')[1]").text == "from the host")
    #expect(asked == ["7 /here/a.lua", "7 /here/a/init.lua", "7 /lib/a.lua"])
    #expect(try run("return select(2, pcall(require, 'secret'))").text == "s.lua:1: no access")
    #expect(try run("return select(2, pcall(require, 'absent'))").text?.contains("no file '/lib/absent.lua'") == true)
    #expect(try b.vm.loadedModules(in: e).map { "\($0.name) \($0.path)" } == ["a /lib/a.lua"])
    b.vm.readModule = nil
    #expect(try run("return select(2, pcall(require, 'lib.a'))").text?.contains("not found") == true)
  }

  @Test func stateIsCopiedOrSaysWhatIsNotPlain() throws {
    let b = try Bench()
    try b.vm.defineModule(
      "state", functions: [], prelude: "local m, host = ... m.copy, m.check = host.copy_state, host.check_state")
    _ = try b.vm.defineClass(LuaClass(name: "test.kept", type: CodedError.self, plain: true))
    let kept = try b.vm.reference(.object(CodedError("x")))
    let source = """
      local state, thing = require 'state', ...
      local s = {rooms = {{name = 'a'}}, [thing] = thing} s.me = s
      local c = state.copy(s)
      log(c ~= s, c.me == c, c.rooms[1].name, c[thing] == thing)
      s.rooms[3] = {cb = print}
      log(select(2, state.copy(s))) log(select(2, state.check(s, 'pipe.data')))
      log(select(2, state.check({t = host.thing(1)})))
      """
    let f = try b.load(source)
    b.vm.start(f, arguments: [.ref(kept)])
    #expect(b.failure() == nil)
    #expect(
      b.log == [
        "true", "true", "a", "true", "state.rooms[3].cb", "is a function", "pipe.data.rooms[3].cb", "is a function",
        "state.t", "is a test.thing",
      ])
  }

  @Test func whatKeepsAnEnvironmentAliveIsNamed() throws {
    let b = try Bench()
    let kept = try b.vm.makeObject(b.thingClass, Thing(7))
    var e: LuaRef? = try b.vm.makeEnvironment(directory: "/tmp")
    weak var sentinel: Sentinel?
    func search() throws -> String? {
      guard let sentinel else { return nil }
      let task = try b.vm.findHolder(of: sentinel, tag: 9)
      b.settle()
      let end = try #require(b.ends.last(where: { $0.task == task }))
      return try end.result.get().first?.text
    }
    do {
      let made = Sentinel()
      sentinel = made
      try b.vm.setSentinel(made, on: e!)
      let f = try b.vm.load(
        "x = 1 local thing = ... thing.data = {cb = function() return x end}", name: "g", environment: e)
      b.vm.start(f, arguments: [.ref(kept)])
      b.vm.release(f)
    }
    #expect(try search()?.hasPrefix("registry[") == true)
    b.vm.release(e!)
    e = nil
    #expect(try search()?.hasSuffix(" (thing 7).data.cb^_ENV") == true)
    b.vm.release(kept)
    b.vm.collectAll()
    #expect(sentinel == nil)
  }

  @Test func anEnvironmentThatWasDroppedIsCollected() throws {
    let b = try Bench()
    let before = Sentinel.live
    var references = 0
    for round in 0..<3 {
      for _ in 0..<200 {
        let e = try b.vm.makeEnvironment(directory: "/tmp")
        try b.vm.setSentinel(Sentinel(), on: e)
        let f = try b.vm.load("x = function() return x end return {msg_cb = x}", name: "g", environment: e)
        try b.vm.spawn(f, tag: 1, wantsResults: true, tablesAsRefs: true, noWait: "no")
        b.vm.release(f)
        b.settle()
        if let table = b.results()?.first?.ref { b.vm.release(table) }
        b.vm.release(e)
      }
      b.vm.collectAll()
      #expect(Sentinel.live == before)
      if round == 0 { references = b.vm.stats.references }
      #expect(b.vm.stats.references == references)
    }
    let e = try b.vm.makeEnvironment(directory: "/tmp")
    try b.vm.setSentinel(Sentinel(), on: e)
    b.vm.collectAll()
    #expect(Sentinel.live == before + 1)
    b.vm.close()
    #expect(Sentinel.live == before)
    _ = e
  }
}
