import Foundation
import Testing

@testable import LuaVM

@Suite struct EnvironmentTests {
  /// A folder that goes away with the test.
  final class Folder {
    let path: String
    init() throws {
      path = NSTemporaryDirectory() + "luavm-" + UUID().uuidString
      try FileManager.default.createDirectory(atPath: path + "/sub", withIntermediateDirectories: true)
    }
    func write(_ name: String, _ text: String) throws {
      try text.write(toFile: path + "/" + name, atomically: true, encoding: .utf8)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  func run(_ b: Bench, _ environment: LuaRef, _ source: String) throws -> [LuaValue] {
    let f = try b.vm.load(source, name: "script.lua", environment: environment)
    defer { b.vm.release(f) }
    return try b.vm.callNow(f)
  }

  @Test func environmentsShareNothing() throws {
    let b = try Bench()
    let one = try b.vm.makeEnvironment(directory: "/tmp", printTag: "one")
    let two = try b.vm.makeEnvironment(directory: "/tmp", printTag: "two")
    _ = try run(
      b, one,
      "x = 1 string.upper = nil table.extra = 1 require('host').extra = 1 package.loaded.mine = 2 print('a', nil, 3)")
    let seen = try run(
      b, two,
      "print(x) return x, string.upper ~= nil, table.extra, require('host').extra, package.loaded.mine, _G.x, ('a'):upper()"
    )
    #expect(
      seen[0].isNil && seen[1].bool == true && seen[2].isNil && seen[3].isNil && seen[4].isNil && seen[5].isNil
        && seen[6].text == "A")
    #expect(b.printed == ["one:a\tnil\t3", "two:nil"])
    let module = try b.vm.module("host", in: two)
    try b.vm.setField(module, "state", .table([]))
    #expect(try run(b, two, "return require('host').state ~= nil").first?.bool == true)
    #expect(try run(b, one, "return require('host').state == nil").first?.bool == true)
    #expect(throws: LuaFailure.self) { try b.vm.module("nope", in: two) }
  }

  @Test func requireLooksBesideTheScriptFirst() throws {
    let folder = try Folder()
    try folder.write(
      "near.lua", "loads = (loads or 0) + 1 return {where = 'beside', name = ..., file = select(2, ...)}")
    try folder.write("sub/near.lua", "return {where = 'library'}")
    try folder.write("sub/far.lua", "return {where = 'library'}")
    try folder.write("bad.lua", "local x = 1 +")
    try folder.write("fails.lua", "\nerror('at load')")
    try folder.write("loop.lua", "return require 'loop'")
    let b = try Bench()
    let e = try b.vm.makeEnvironment(directory: folder.path, moduleDirectories: [folder.path + "/sub"])
    let values = try run(
      b, e, "local n = require 'near' return n.where, n.name, n.file, require('far').where, require('near') == n, loads"
    )
    #expect(values[0].text == "beside" && values[1].text == "near" && values[2].text == folder.path + "/near.lua")
    #expect(values[3].text == "library" && values[4].bool == true && values[5].int == 1)
    func message(_ source: String) -> String {
      do {
        _ = try run(b, e, source)
        return ""
      } catch { return (error as? LuaFailure)?.message ?? "" }
    }
    #expect(message("require 'nowhere'").hasPrefix("script.lua:1: module 'nowhere' not found:"))
    #expect(message("require 'nowhere'").contains(folder.path + "/nowhere.lua"))
    #expect(message("require 'bad'").contains("bad.lua:1: unexpected symbol near <eof>"))
    #expect(message("require 'fails'").hasSuffix("fails.lua:2: at load"))
    #expect(message("require 'fails'").hasSuffix("fails.lua:2: at load"))
    #expect(message("require 'loop'").contains("loop in require"))
    #expect(
      try run(b, e, "package.preload.made = function(n) return n .. '!' end return require 'made'").first?.text
        == "made!")
    #expect(try run(b, e, "return dofile('\(folder.path)/near.lua').where").first?.text == "beside")
  }

  @Test func modulesMayWaitWhenATaskLoadsThem() throws {
    let folder = try Folder()
    try folder.write("slow.lua", "local x = require('host').recv() return {x = x}")
    let b = try Bench()
    let e = try b.vm.makeEnvironment(directory: folder.path)
    let f = try b.vm.load("require('host').log(require('slow').x)", name: "s", environment: e)
    #expect(b.vm.start(f) == .waiting)
    b.vm.resume(b.waits[0], .int(8))
    #expect(b.log == ["8"])
  }

  @Test func cModulesComeFromTheUsualPlaces() throws {
    let b = try Bench()
    let e = try b.vm.makeEnvironment(directory: "/tmp")
    let path = try #require(try run(b, e, "return package.cpath").first?.text)
    #expect(path.contains("/usr/local/lib/lua/5.4/?.so"))
    guard FileManager.default.fileExists(atPath: "/usr/lib/x86_64-linux-gnu/lua/5.4/lfs.so") else { return }
    #expect(try run(b, e, "return type(require('lfs').currentdir)").first?.text == "function")
    #expect(
      try run(b, e, "local d = getmetatable(select(2, require('lfs').dir('/'))) d.__gc = nil return type(d)").first?
        .text == "table")
  }

  @Test func theSandbox() throws {
    let folder = try Folder()
    try folder.write("ok.lua", "return 'inside'")
    let b = try Bench(sandbox: true)
    let e = try b.vm.makeEnvironment(directory: folder.path)
    let gone = try run(
      b, e,
      """
      local t = {io = io, execute = os.execute, exit = os.exit, remove = os.remove, rename = os.rename, tmpname = os.tmpname, getenv = os.getenv,
        loadlib = package.loadlib, searchpath = package.searchpath, debug = debug.getinfo, dump = string.dump}
      local names = {} for k in pairs(t) do names[#names + 1] = k end return table.concat(names, ' '), type(os.time), type(os.clock)
      """)
    #expect(gone[0].text == "" && gone[1].text == "function" && gone[2].text == "function")
    #expect(try run(b, e, "return dofile('ok.lua'), (require('ok'))").map(\.text) == ["inside", "inside"])
    #expect(try run(b, e, "return loadfile('/etc/passwd')").last?.text == "cannot open '/etc/passwd' in the sandbox")
    #expect(try run(b, e, "return loadfile('../../etc/passwd')").first?.isNil == true)
    #expect(throws: LuaFailure.self) {
      try run(b, e, "package.cpath = '/usr/lib/x86_64-linux-gnu/lua/5.4/?.so' require 'lfs'")
    }
    #expect(throws: LuaFailure.self) { try run(b, e, "package.path = '/etc/?' require 'hostname'") }
  }

  @Test func codeIsTextOnly() throws {
    let b = try Bench()
    let failure = #expect(throws: LuaFailure.self) { try b.vm.load("x = = 1", name: "dir/ping.lua") }
    #expect(failure?.kind == .syntax)
    #expect(failure?.message == "dir/ping.lua:1: unexpected symbol near '='")
    #expect(throws: LuaFailure.self) { try b.vm.load([0x1b, 0x4c, 0x75, 0x61], name: "b") }
    #expect(throws: LuaFailure.self) { try b.vm.load(Array(repeating: 32, count: 5 << 20), name: "big") }
    try b.run("log(select(2, load('\\27Lua')))")
    #expect(b.log == ["attempt to load a binary chunk (mode is 't')"])
  }

  @Test func finalizersAndDebugAreOutOfReach() throws {
    let b = try Bench()
    try b.run(
      """
      log((pcall(setmetatable, {}, {__gc = function() end})))
      log(tostring(getmetatable('')), tostring(getmetatable(io.stdout)), tostring(debug.sethook), type(debug.traceback('x')))
      log(tostring(collectgarbage('generational')), collectgarbage('count') > 0)
      """)
    #expect(b.log == ["false", "false", "false", "nil", "string", "incremental", "true"])
  }
}
