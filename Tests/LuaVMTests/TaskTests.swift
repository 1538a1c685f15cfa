import Testing

@testable import LuaVM

@Suite struct TaskTests {
  @Test func aTaskRunsAndTheDelegateHearsOfItsEnd() throws {
    let b = try Bench()
    let f = try b.load("local m, n = ... log(m, n) return #m, n, nil, {k = 1}")
    let status = withBytes("a\0b") { b.vm.start(f, $0, .int(5), tag: 42, wantsResults: true) }
    #expect(status == .done)
    #expect(b.log == ["a\0b", "5"])
    let end = try #require(b.ends.last)
    #expect(end.tag == 42 && !end.late && end.task != 0)
    let values = try end.result.get()
    #expect(values.count == 4)
    #expect(values[0].int == 3 && values[1].int == 5 && values[2].isNil && values[3]["k"].int == 1)
    #expect(b.ends.count == 1)
  }

  @Test func coroutinesAreReused() throws {
    let b = try Bench()
    let f = try b.load("local x = ...")
    for i in 0..<1000 { b.vm.start(f, .int(i)) }
    #expect(b.vm.stats.coroutinesMade < 5)
    #expect(b.ends.count == 1000)
  }

  @Test func aWaitIsResumedWithValues() throws {
    let b = try Bench()
    #expect(try b.run("local a, c = recv() log(a, c) return 'r'", tag: 3, wantsResults: true) == .waiting)
    #expect(b.ends.isEmpty)
    let wait = try #require(b.waits.last)
    #expect(withBytes("hello") { b.vm.resume(wait, $0, .number(1.5)) })
    #expect(b.log == ["hello", "1.5"])
    #expect(b.ends.last?.late == true && b.ends.last?.tag == 3)
    #expect(b.results()?.first?.text == "r")
    #expect(!b.vm.resume(wait, .int(1)))
    #expect(!b.vm.exists(wait.task))
  }

  @Test func aLateResumeDoesNotReachTheNextWait() throws {
    let b = try Bench()
    try b.run("log(recv()) log(recv())")
    let first = b.waits[0]
    #expect(b.vm.resume(first, .int(1)))
    #expect(!b.vm.resume(first, .int(99)))
    #expect(b.vm.resume(b.waits[1], .int(2)))
    #expect(b.log == ["1", "2"])
  }

  @Test func aWaitEndsWithAnError() throws {
    let b = try Bench()
    try b.run("local ok, e = pcall(recv) log(e.code) recv()")
    #expect(b.vm.raise(in: b.waits[0], .object(CodedError("refused"))))
    #expect(b.log == ["refused"])
    #expect(b.vm.raise(in: b.waits[1].task, .string("plain")))
    #expect(b.failure()?.message == "plain")
  }

  @Test func theAnswerMayComeBeforeTheWait() throws {
    let b = try Bench()
    #expect(try b.run("log(host.answer_first())") == .done)
    #expect(b.log == ["11"])
  }

  @Test func resumingWhileLuaRunsIsQueued() throws {
    let b = try Bench()
    try b.vm.defineModule(
      "bus",
      functions: [
        ("wake", { [unowned b] c in .one(.bool(b.vm.resume(b.waits[0], values: [.string("woken"), .table([])]))) })
      ])
    try b.run("local a, t = recv() log(a, type(t))")
    try b.run("log(require('bus').wake()) log('after')")
    #expect(b.log == ["true", "after"])
    #expect(b.readyCalls == 1)
    b.settle()
    #expect(b.log == ["true", "after", "woken", "table"])
  }

  @Test func hostFunctionsSpawn() throws {
    let b = try Bench()
    try b.run("host.reenter(function(x) log('spawned', x) end) log('first')")
    b.settle()
    #expect(b.log == ["first", "spawned", "7"])
    #expect(b.ends.map(\.tag) == [0, 3])
  }

  @Test func joinGivesTheFailureToTheJoinerOnly() throws {
    let b = try Bench()
    try b.run("local t = host.spawn(function() error('inner') end) log(host.join(t))")
    b.settle()
    #expect(b.log == ["false", "main.lua:1: inner"])
    #expect(b.ends.allSatisfy { (try? $0.result.get()) != nil })
    try b.run("host.spawn(function() error('alone') end)")
    b.settle()
    #expect(b.failure()?.message == "main.lua:1: alone")
  }

  @Test func cancelBreaksTheWaitOff() throws {
    let b = try Bench()
    try b.run("local c <close> = setmetatable({}, {__close = function(_, e) log(tostring(e)) end}) recv()")
    #expect(b.vm.cancel(b.waits[0].task, reason: "pipe closed"))
    #expect(b.abandoned == [b.waits[0]])
    #expect(!b.vm.resume(b.waits[0], .int(1)))
    b.settle()
    #expect(b.log == ["cancelled: pipe closed"])
    #expect(b.failure()?.kind == .cancelled)
    #expect(!b.vm.cancel(b.waits[0].task, reason: "again"))
  }

  @Test func callNowCannotWait() throws {
    let b = try Bench()
    let f = try b.load("return 1, 'two', ...")
    let values = try b.vm.callNow(f, [.bool(true)])
    #expect(values.count == 3 && values[0].int == 1 && values[1].text == "two" && values[2].bool == true)
    let waiting = try b.load("\nrecv()", name: "top.lua")
    let failure = #expect(throws: LuaFailure.self) { try b.vm.callNow(waiting) }
    #expect(failure?.message.hasPrefix("top.lua:2: cannot wait here: 'recv'") == true)
    #expect(b.ends.isEmpty)
    let module = try b.load("return {msg_cb = function(m) return m .. '!' end, name = 'x', conf = {1}}")
    let table = try #require(try b.vm.callNow(module, tablesAsRefs: true).first?.ref)
    #expect(b.vm.kind(table) == .table)
    let callback = try #require(try b.vm.field(table, "msg_cb").ref)
    #expect(try b.vm.callNow(callback, [.string("hi")]).first?.text == "hi!")
    #expect(try b.vm.field(table, "name").text == "x")
    #expect(try b.vm.field(table, "missing").isNil)
  }

  @Test func failuresCarryTracebackAndValue() throws {
    let b = try Bench()
    try b.run(
      "local function inner() local x = nil + 1 end\nlocal gen = coroutine.wrap(function()\n inner() end)\ngen()")
    let failure = try #require(b.failure())
    #expect(failure.kind == .error)
    #expect(failure.message.contains("main.lua:1: attempt to perform arithmetic"))
    for line in ["main.lua:1: in", "main.lua:3: in", "main.lua:4: in", "resumed by"] {
      #expect(failure.traceback.contains(line))
    }
    try b.run("assert(host.fail())")
    #expect(b.failure()?.message == "it went wrong: timeout")
    #expect((b.failure()?.value.object as? CodedError)?.code == "timeout")
    try b.run("local ok, e = pcall(host.throw) log(e.code) error(e)")
    #expect(b.log == ["closed"])
    #expect((b.failure()?.value.object as? CodedError)?.code == "closed")
    try b.run("\n\nhost.raise()")
    #expect(b.failure()?.message == "main.lua:3: raised")
  }

  @Test func bareYieldsLetOthersRun() throws {
    let b = try Bench()
    try b.run("log('a') coroutine.yield() log('c')")
    try b.run("log('b')")
    b.settle()
    #expect(b.log == ["a", "b", "c"])
  }

  @Test func theDelegateMayStartTheNextTask() throws {
    final class Chain: LuaVMDelegate {
      var left = 50
      var f: LuaRef?
      func luaTaskEnded(_ vm: LuaVM, task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool) {
        guard left > 0, let f else { return }
        left -= 1
        vm.start(f, .int(left), wantsResults: true)
      }
      func luaHasReadyTasks(_ vm: LuaVM) {}
    }
    let vm = try LuaVM()
    let chain = Chain()
    vm.delegate = chain
    let f = try vm.load("return ..., {}", name: "x")
    chain.f = f
    vm.start(f, .int(1), wantsResults: true)
    #expect(chain.left == 0)
    vm.close()
  }

  @Test func exitIsTheHostsDecision() throws {
    let b = try Bench()
    try b.run("pcall(os.exit, 4) log('never')")
    #expect(b.exits == [4] && b.log.isEmpty)
    #expect(b.failure()?.kind == .cancelled)
    try b.run("log('still here')")
    #expect(b.log == ["still here"])
  }
}
