import Testing

@testable import LuaVM

/// A counted object of the host's.
final class Thing {
  nonisolated(unsafe) static var live = 0
  var number: Int64
  init(_ number: Int64 = 0) {
    self.number = number
    Thing.live += 1
  }
  deinit { Thing.live -= 1 }
}

/// An error value with a code, as the script room's errors are.
final class CodedError {
  let code: String
  init(_ code: String) { self.code = code }
}

/// A VM with module "host": log, recv, sleep (woken by hand), thing, fail. Made and used on the test's thread.
final class Bench: LuaVMDelegate {
  let vm: LuaVM
  var log: [String] = []
  var printed: [String] = []
  var exits: [Int] = []
  var waits: [LuaWait] = []
  var abandoned: [LuaWait] = []
  var ends: [(task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool)] = []
  var readyCalls = 0
  let thingClass: LuaClassID
  let errorClass: LuaClassID

  init(_ limits: LuaLimits = LuaLimits(), sandbox: Bool = false) throws {
    vm = try LuaVM(limits: limits, sandbox: sandbox)
    thingClass = try vm.defineClass(
      LuaClass(
        name: "test.thing", type: Thing.self,
        methods: [
          (
            "add",
            { c in
              c.object(0, as: Thing.self).map { .one(.int($0.number + (c.int(1) ?? 0))) }
                ?? .badArgument(0, "thing expected")
            }
          )
        ],
        getter: { c in
          if let i = c.int(1) { return .one(.int(i * 10)) }
          return c.string(1) == "number" ? .one(.int(c.object(0, as: Thing.self)?.number ?? -1)) : .none
        },
        toString: { c in .string("thing \(c.object(0, as: Thing.self)?.number ?? -1)") }, hasData: true))
    errorClass = try vm.defineClass(
      LuaClass(
        name: "test.error", type: CodedError.self,
        getter: { c in c.string(1) == "code" ? .string(c.object(0, as: CodedError.self)?.code ?? "?") : .none },
        toString: { c in .string("it went wrong: \(c.object(0, as: CodedError.self)?.code ?? "?")") }, identity: false))
    vm.delegate = self
    vm.onPrint = { [unowned self] tag, line in printed.append(tag + ":" + String(decoding: line, as: UTF8.self)) }
    vm.onExit = { [unowned self] code in exits.append(code) }
    try vm.defineModule(
      "host", functions: functions(),
      prelude: "local m, host = ... m.spawn, m.join, m.cancel = host.spawn, host.join, host.cancel")
  }

  deinit { vm.close() }

  private func functions() -> [(String, HostFunction)] {
    [
      (
        "log",
        { [unowned self] c in
          for i in 0..<c.count {
            log.append(
              c.string(i) ?? c.int(i).map { "\($0)" } ?? c.number(i).map { "\($0)" } ?? c.bool(i).map { "\($0)" }
                ?? "\(c.kind(i))")
          }
          return .none
        }
      ),
      (
        "recv",
        { [unowned self] c in
          if c.canWait { waits.append(c.wait) }
          return .wait
        }
      ),
      ("thing", { c in .object(Thing(c.int(0) ?? 0)) }),
      ("things", { c in .values([.nil, .object(Thing(1)), .table([(key: .string("t"), value: .object(Thing(2)))])]) }),
      ("fail", { c in .failure(CodedError("timeout")) }),
      ("throw", { c in .raiseValue(.object(CodedError("closed"))) }),
      ("raise", { c in .raise("raised") }),
      (
        "echo",
        { c in
          do throws(LuaFailure) { return .values([try c.value(0)]) } catch { return .raise(error.message) }
        }
      ),
      (
        "copy",
        { c in
          let bytes = [UInt8](repeating: 65, count: Int(c.int(0) ?? 0))
          return bytes.withUnsafeBytes { c.copy($0) }.map { .one($0) } ?? .raise("no memory")
        }
      ),
      (
        "reenter",
        { [unowned self] c in
          let f = c.function(0)
          defer { f.map(vm.release) }
          guard let f, let task = try? vm.spawn(f, [.int(7)], tag: 3) else { return .raise("no") }
          return .one(.int(Int64(bitPattern: task)))
        }
      ),
      (
        "answer_first",
        { [unowned self] c in
          vm.resume(c.wait, .int(11))
          return .wait
        }
      ),
    ]
  }

  func luaTaskEnded(_ vm: LuaVM, task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    ends.append((task, tag, result, late))
  }
  func luaHasReadyTasks(_ vm: LuaVM) { readyCalls += 1 }
  func luaWaitAbandoned(_ vm: LuaVM, wait: LuaWait) { abandoned.append(wait) }

  func load(_ source: String, name: String = "main.lua") throws -> LuaRef {
    try vm.load("local host = require 'host' local log, recv = host.log, host.recv " + source, name: name)
  }

  @discardableResult
  func run(_ source: String, _ argument: LuaArg = .nil, tag: UInt64 = 0, wantsResults: Bool = false) throws -> LuaStatus
  {
    let f = try load(source)
    defer { vm.release(f) }
    return vm.start(f, argument, tag: tag, wantsResults: wantsResults)
  }

  func settle() { while vm.runReady() {} }

  func failure() -> LuaFailure? {
    guard case .failure(let f) = ends.last?.result else { return nil }
    return f
  }
  func results() -> [LuaValue]? { try? ends.last?.result.get() }
}

func withBytes<R>(_ text: String, _ body: (LuaArg) -> R) -> R {
  Array(text.utf8).withUnsafeBytes { body(.bytes($0)) }
}
