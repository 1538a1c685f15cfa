import Testing

@testable import LuaVM

@Suite struct ValueTests {
  func echo(_ value: LuaValue) throws -> LuaValue {
    let b = try Bench()
    let f = try b.load("return host.echo(...)")
    return try b.vm.callNow(f, [value]).first ?? .nil
  }

  @Test func integersStayIntegers() throws {
    for i in [Int64.min, -1, 0, 1, Int64.max] {
      guard case .int(let back) = try echo(.int(i)) else {
        Issue.record("\(i) came back as something else")
        continue
      }
      #expect(back == i)
    }
    guard case .number(let n) = try echo(.number(3)) else {
      Issue.record("3.0 became an integer")
      return
    }
    #expect(n == 3)
  }

  @Test func floats() throws {
    #expect(try echo(.number(.nan)).number?.isNaN == true)
    #expect(try echo(.number(-.infinity)).number == -.infinity)
    #expect(try echo(.number(-0.0)).number?.sign == .minus)
    #expect(LuaValue.number(2.5).int == nil && LuaValue.number(2).int == 2 && LuaValue.number(1e300).int == nil)
  }

  @Test func strings() throws {
    for bytes: [UInt8] in [[], [0], [0, 255, 0, 128], Array(repeating: 7, count: 100_000)] {
      guard case .string(let back) = try echo(.string(bytes)) else {
        Issue.record("no string")
        continue
      }
      #expect(back == bytes)
    }
  }

  @Test func tables() throws {
    let value = LuaValue.table([
      (key: .string("list"), value: .list([.int(1), .string("two"), .table([])])), (key: .int(-3), value: .bool(false)),
      (key: .number(0.5), value: .string("half")),
    ])
    let back = try echo(value)
    guard case .table(let pairs) = back["list"] else {
      Issue.record("no list")
      return
    }
    #expect(pairs.count == 3)
    guard case .table(let all) = back else { return }
    #expect(all.count == 3)
    #expect(all.contains { $0.key.number == 0.5 && $0.value.text == "half" })
  }

  @Test func depthAndCycles() throws {
    func nested(_ n: Int) -> LuaValue { n == 1 ? .table([]) : .list([nested(n - 1)]) }
    _ = try echo(nested(64))
    #expect(throws: LuaFailure.self) { try echo(nested(65)) }
    let b = try Bench()
    try b.run("local t = {} t[1] = t host.echo(t)")
    #expect(b.failure()?.message == "main.lua:1: table contains itself")
    try b.run("local t = {} for i = 1, 64 do t = {t} end host.echo(t)")
    #expect(b.failure()?.message == "main.lua:1: table nested deeper than 64")
    try b.run("local t = {} t.t = t return t", wantsResults: true)
    #expect(b.failure()?.message == "table contains itself")
  }

  @Test func functionsAreReferences() throws {
    let b = try Bench()
    let f = try b.load("local n = 0 return {count = function() n = n + 1 return n end}")
    let made = try b.vm.callNow(f)
    let count = try #require(made.first?["count"].ref)
    #expect(try b.vm.callNow(count).first?.int == 1)
    let second = try b.vm.retain(count)
    b.vm.release(count)
    #expect(try b.vm.callNow(second).first?.int == 2)
    let back = try b.vm.callNow(try b.load("local f = ... return f()"), [.ref(second)])
    #expect(back.first?.int == 3)
    b.vm.release(second)
  }

  @Test func bytesOfTheHostsFrame() throws {
    let b = try Bench()
    try b.run("for _, n in ipairs{0, 1, 2048, 2049, 100000} do local s = host.copy(n) log(#s, s == ('A'):rep(n)) end")
    #expect(b.log == ["0", "true", "1", "true", "2048", "true", "2049", "true", "100000", "true"])
  }

  @Test func fieldsOfTables() throws {
    let b = try Bench()
    let table = try b.vm.reference(.table([(key: .string("a"), value: .int(1))]))
    try b.vm.setField(table, "b", .list([.int(5)]))
    try b.vm.setField(table, .int(1), .string("one"))
    #expect(try b.vm.field(table, "a").int == 1)
    #expect(try b.vm.field(table, .int(1)).text == "one")
    let inner = try #require(try b.vm.field(table, "b", tablesAsRefs: true).ref)
    #expect(try b.vm.field(inner, .int(1)).int == 5)
    #expect(throws: LuaFailure.self) { try b.vm.setField(table, .nil, .int(1)) }
    let nothing = try b.vm.reference(.nil)
    #expect(try b.vm.value(nothing).isNil)
    #expect(try b.vm.callNow(try b.load("return ... == nil"), [.ref(nothing)]).first?.bool == true)
    b.vm.release(nothing)
    let notTable = try b.vm.reference(.int(1))
    #expect(throws: LuaFailure.self) { try b.vm.field(notTable, "x") }
  }

  @Test func argumentErrors() throws {
    let b = try Bench()
    try b.run("host.thing(3).add(4)")
    #expect(b.failure()?.message == "main.lua:1: bad argument #1 to 'add' (thing expected)")
  }
}
