import Testing

@testable import LuaVM

/// Counts live objects, so one at a time.
@Suite(.serialized) struct ObjectTests {
  @Test func objectsLiveAsLongAsLuaHoldsThem() throws {
    let before = Thing.live
    let b = try Bench()
    try b.run(
      "local t = host.thing(4) log(t.number, t:add(3), t[7], tostring(t)) t.data = {9} log(t.data[1]) host.things() held = host.thing(1)"
    )
    #expect(b.log == ["4", "7", "70", "thing 4", "9"])
    b.vm.collectAll()
    #expect(Thing.live == before + 1)
    try b.run("log(held.number) held = nil")
    b.vm.collectAll()
    #expect(Thing.live == before)
    try b.run("held = host.thing(1)")
    b.vm.close()
    #expect(Thing.live == before)
  }

  @Test func oneLuaObjectPerSwiftObject() throws {
    let before = Thing.live
    let b = try Bench()
    do {
      let thing = Thing(5)
      let a = try b.vm.makeObject(b.thingClass, thing)
      let c = try b.vm.makeObject(b.thingClass, thing)
      let same = try b.load("local a, b, c = ... return rawequal(a, b), rawequal(b, c), a")
      let values = try b.vm.callNow(same, [.ref(a), .ref(c), .object(thing)])
      #expect(values[0].bool == true && values[1].bool == true && values[2].object === thing)
      b.vm.release(a)
      b.vm.release(c)
    }
    b.vm.collectAll()
    #expect(Thing.live == before)
  }

  @Test func preludesAddMethods() throws {
    let b = try Bench()
    try b.vm.defineModule(
      "more", functions: [], hidden: [("secret", { _ in .one(.int(40)) })],
      prelude:
        "local m, host = ... local C = host.class_methods('test.thing') function C:twice() return self.number * 2 + host.secret() end m.v = 1"
    )
    try b.run("log(host.thing(1):twice(), require('more').v, tostring(require('more').secret))")
    #expect(b.log == ["42", "1", "nil"])
    #expect(throws: LuaFailure.self) { try b.vm.defineModule("bad", functions: [], prelude: "error('in prelude')") }
  }

  @Test func objectsOfOtherTypesAreRefused() throws {
    final class Stranger {}
    let b = try Bench()
    let f = try b.load("return ...")
    #expect(throws: LuaFailure.self) { try b.vm.callNow(f, [.object(Stranger())]) }
    #expect(b.vm.start(f, arguments: [.object(Stranger())]) == .failed)
    #expect(b.failure()?.message == "no Lua class for Stranger")
  }

  /// The 0th, 1st, 2nd, ... allocation of every door fails: no live object is left, and the VM works.
  @Test(arguments: ["start", "resume", "object", "environment", "module", "class", "values", "spawn", "load"])
  func failingAllocations(door: String) throws {
    let b = try Bench()
    let script = try b.load(
      """
      local a = host.thing(1) local _, x, t = host.things() a.data = x
      local c = coroutine.wrap(function() return host.thing(2) end)()
      local ok, e = pcall(host.throw) local n, err = host.fail()
      local s = host.copy(3000) .. tostring(a) local u = host.spawn(function() return host.thing(3) end) u:cancel()
      return c, t.t, s, {a}
      """)
    let waiting = try b.load("local x, t = recv() local a = host.thing(5) return x.number, t.list[1]")
    b.vm.collectAll()
    let before = Thing.live
    var succeeded = false
    for n in 0..<2000 where !succeeded {
      b.ends = []
      b.vm.failAllocations(after: n)
      succeeded = pass(door, b, script, waiting)
      b.vm.failAllocations(after: nil)
      b.settle()
      b.ends = []
      b.vm.collectAll()
      try #require(Thing.live == before, "\(door), allocation \(n)")
      #expect(b.vm.stats.tasksLive == 0)
      if n % 10 == 0 {
        b.log = []
        try b.run("log('works')")
        #expect(b.log == ["works"])
      }
    }
    #expect(succeeded)
  }

  private func pass(_ door: String, _ b: Bench, _ script: LuaRef, _ waiting: LuaRef) -> Bool {
    switch door {
    case "start":
      b.vm.start(script, .int(1), wantsResults: true)
      return b.results()?.count == 4
    case "resume":
      guard b.vm.start(waiting, .nil, wantsResults: true) == .waiting, let wait = b.waits.last else { return false }
      #expect(
        b.vm.resume(wait, values: [.object(Thing(6)), .table([(key: .string("list"), value: .list([.string("x")]))])]))
      return b.results()?.last?.text == "x"
    case "object":
      guard let ref = try? b.vm.makeObject(b.thingClass, Thing(7)) else { return false }
      b.vm.release(ref)
      return true
    case "environment":
      guard let e = try? b.vm.makeEnvironment(directory: "/tmp", moduleDirectories: ["/usr"], printTag: "t") else {
        return false
      }
      defer { b.vm.release(e) }
      return (try? b.vm.module("host", in: e)).map { b.vm.release($0) } != nil
    case "module":
      return (try? b.vm.defineModule("m", functions: [("f", { _ in .none })], prelude: "local m = ... m.x = {}")) != nil
    case "class":
      return (try? b.vm.defineClass(LuaClass(name: "c", methods: [("f", { _ in .none })], getter: { _ in .none })))
        != nil
    case "values":
      guard
        let ref = try? b.vm.reference(
          .list([.object(Thing(8)), .string("some string of a length that is not interned, forty and more")]))
      else { return false }
      defer { b.vm.release(ref) }
      return (try? b.vm.value(ref)) != nil && (try? b.vm.setField(ref, "k", .object(Thing(9)))) != nil
        && (try? b.vm.field(ref, "k")) != nil
    case "spawn":
      guard let task = try? b.vm.spawn(script, [.object(Thing(1))], wantsResults: true) else { return false }
      b.settle()
      return b.ends.contains { $0.task == task && (try? $0.result.get())?.count == 4 }
    default:
      guard let f = try? b.vm.load("return function() return {} end", name: "n") else { return false }
      b.vm.release(f)
      return true
    }
  }
}

@Suite struct PreludeTests {
  /// The prelude runs on the main stack, unlike every task: arguments must still be found.
  @Test func preludesHandFunctionsToTheHost() throws {
    let b = try Bench()
    var kept: [String: LuaRef] = [:]
    var table: LuaValue = .nil
    try b.vm.defineModule(
      "keeper", functions: [],
      hidden: [
        (
          "keep",
          { c in
            guard let name = c.string(0), let f = c.function(1) else {
              return .badArgument(1, "function expected, got " + c.kindName(1))
            }
            kept[name] = f
            return .none
          }
        ),
        (
          "table",
          { c in
            table = (try? c.value(0)) ?? .nil
            return [UInt8](repeating: 66, count: 5000).withUnsafeBytes { c.copy($0) }.map { .one($0) } ?? .none
          }
        ),
      ],
      prelude: """
        local m, host = ...
        host.keep('make', function(x) return {x = x} end)
        assert(#host.table({1, {k = 'v'}}) == 5000)
        assert(not pcall(host.keep, 'a', {}))
        """)
    let make = try #require(kept["make"])
    #expect(try b.vm.callNow(make, [.int(4)]).first?["x"].int == 4)
    guard case .table(let pairs) = table else {
      Issue.record("no table")
      return
    }
    #expect(pairs.count == 2 && pairs.last?.value["k"].text == "v")
    let again = try b.vm.retain(make)
    #expect(b.vm.identity(of: again) == b.vm.identity(of: make))
  }

  @Test func callsKnowTheirTagAndKinds() throws {
    let b = try Bench()
    var seen: [String] = []
    try b.vm.defineModule(
      "probe",
      functions: [
        (
          "kinds",
          { c in
            seen = (0...c.count).map { c.kindName($0) } + ["\(c.tag)"]
            return .none
          }
        )
      ])
    try b.run(
      "require('probe').kinds(nil, 1, 2.5, 'x', {}, print, host.thing(1), io.stdout, coroutine.create(print), true)",
      tag: 17)
    #expect(
      seen == [
        "nil", "number", "number", "string", "table", "function", "test.thing", "userdata", "thread", "boolean",
        "no value", "17",
      ])
  }

  @Test func aQuietStartReportsOnlyWhatIsNotPlain() throws {
    let b = try Bench()
    func quietly(_ source: String) throws -> LuaStatus {
      let f = try b.vm.load(source, name: "=quiet")
      defer { b.vm.release(f) }
      return b.vm.startQuietly(f, .nil, .nil, .nil, tag: 3)
    }
    #expect(try quietly("local x = 1") == .done)
    #expect(b.ends.isEmpty)
    #expect(try quietly("coroutine.yield()") == .waiting)
    b.vm.runReady()
    #expect(try quietly("error('x')") == .failed)
    #expect(b.ends.count == 2)
  }
}
