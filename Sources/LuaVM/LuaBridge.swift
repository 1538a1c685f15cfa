internal import CLua

/// What C holds of the host: its functions, hooks and delegate. Separate from `LuaVM` because it exists before the VM does.
/// Confined to the VM's thread.
final class LuaBridge {
  private(set) var functions = FunctionTable()
  /// Lua class of a Swift type.
  var classes: [ObjectIdentifier: Int32] = [:]
  /// Set while the VM is open, which is whenever Lua calls.
  unowned(unsafe) var vm: LuaVM!
  var delegate: (any LuaVMDelegate)?
  var onPrint: ((String, UnsafeRawBufferPointer) -> Void)?
  var onExit: ((Int) -> Void)?

  func add(_ function: HostFunction?) -> Int32 { function.map { functions.add($0) } ?? -1 }

  func removeFunctions() { functions.removeAll() }

  deinit { functions.removeAll() }

  func callbacks() -> clua_host {
    clua_host(
      context: Unmanaged.passUnretained(self).toOpaque(), call: hostCall, retain: hostRetain, release: hostRelease,
      ready: hostReady,
      abandoned: hostAbandoned, print: hostPrint, exit: hostExit)
  }
}

/// The host functions by their number. Each is behind an object of its own in plain memory: calling it counts no reference.
struct FunctionTable {
  final class Entry {
    let body: HostFunction
    init(_ body: @escaping HostFunction) { self.body = body }
  }

  private var entries = UnsafeMutablePointer<Unmanaged<Entry>>.allocate(capacity: 64)
  private var capacity = 64
  private var count = 0

  mutating func add(_ body: @escaping HostFunction) -> Int32 {
    if count == capacity {
      let larger = UnsafeMutablePointer<Unmanaged<Entry>>.allocate(capacity: 2 * capacity)
      larger.moveInitialize(from: entries, count: count)
      entries.deallocate()
      (entries, capacity) = (larger, 2 * capacity)
    }
    (entries + count).initialize(to: .passRetained(Entry(body)))
    count += 1
    return Int32(count - 1)
  }

  /// The number comes from C, which has it from `add`.
  @inline(__always)
  subscript(number: Int32) -> Unmanaged<Entry> { entries[Int(number)] }

  /// The table is not usable afterwards.
  mutating func removeAll() {
    for i in 0..<count { entries[i].release() }
    if capacity > 0 { entries.deallocate() }
    (count, capacity) = (0, 0)
  }
}

@inline(__always)
private func bridge(_ context: UnsafeMutableRawPointer?) -> LuaBridge? {
  context.map { Unmanaged<LuaBridge>.fromOpaque($0).takeUnretainedValue() }
}

private func hostCall(_ context: UnsafeMutableRawPointer?, _ call: UnsafeMutablePointer<clua_call>?) -> Int32 {
  guard let context, let call else { return CLUA_NO_MEMORY }
  return Unmanaged<LuaBridge>.fromOpaque(context)._withUnsafeGuaranteedRef { run(call, $0) }
}

private func run(_ call: UnsafeMutablePointer<clua_call>, _ bridge: LuaBridge) -> Int32 {
  let answer = bridge.functions[call.pointee.function]._withUnsafeGuaranteedRef { $0.body(LuaCall(call, bridge)) }
  switch answer {
  case .none: return CLUA_RETURN
  case .one(let a):
    call.pointee.results.0 = a.raw
    call.pointee.result_count = 1
    return CLUA_RETURN
  case .two(let a, let b):
    call.pointee.results.0 = a.raw
    call.pointee.results.1 = b.raw
    call.pointee.result_count = 2
    return CLUA_RETURN
  case .wait: return CLUA_WAIT
  case .values(let values): return answerValues(values, call, bridge, CLUA_RETURN)
  case .string(let s): return answerText(s, call, CLUA_RETURN)
  case .object(let o): return answerValues([.object(o)], call, bridge, CLUA_RETURN)
  case .failure(let o): return answerValues([.nil, .object(o)], call, bridge, CLUA_RETURN)
  case .raise(let text): return answerText(text, call, CLUA_RAISE)
  case .raiseValue(let value): return answerValues([value], call, bridge, CLUA_RAISE_VALUE)
  case .badArgument(let index, let text):
    call.pointee.results.1 = LuaArg.int(index).raw
    return answerText(text, call, CLUA_BAD_ARGUMENT)
  }
}

private func answerText(_ text: String, _ call: UnsafeMutablePointer<clua_call>, _ code: Int32) -> Int32 {
  var text = text
  let kind = text.withUTF8 { clua_call_copy(call, $0.baseAddress, $0.count, &call.pointee.results.0) }
  call.pointee.result_count = 1
  return kind == CLUA_OK ? code : CLUA_NO_MEMORY
}

private func answerValues(
  _ values: [LuaValue], _ call: UnsafeMutablePointer<clua_call>, _ bridge: LuaBridge, _ code: Int32
)
  -> Int32
{
  var encoder = LuaEncoder(bridge.vm)
  do {
    for value in values { try encoder.add(value) }
  } catch {
    return answerText(error.message, call, CLUA_RAISE)
  }
  let kind = withExtendedLifetime(values) { encoder.withValues(values.count) { clua_call_results(call, $0) } }
  return kind == CLUA_OK ? code : CLUA_NO_MEMORY
}

private func hostRetain(_: UnsafeMutableRawPointer?, _ object: UnsafeMutableRawPointer?) {
  guard let object else { return }
  _ = Unmanaged<AnyObject>.fromOpaque(object).retain()
}

private func hostRelease(_: UnsafeMutableRawPointer?, _ object: UnsafeMutableRawPointer?) {
  guard let object else { return }
  Unmanaged<AnyObject>.fromOpaque(object).release()
}

private func hostReady(_ context: UnsafeMutableRawPointer?) {
  guard let bridge = bridge(context), let vm = bridge.vm else { return }
  bridge.delegate?.luaHasReadyTasks(vm)
}

private func hostAbandoned(_ context: UnsafeMutableRawPointer?, _ task: UInt64, _ serial: UInt64) {
  guard let bridge = bridge(context), let vm = bridge.vm else { return }
  bridge.delegate?.luaWaitAbandoned(vm, wait: LuaWait(task: task, serial: serial))
}

private func hostPrint(
  _ context: UnsafeMutableRawPointer?, _ tag: UnsafePointer<CChar>?, _ tagLength: Int, _ text: UnsafePointer<CChar>?,
  _ length: Int
) {
  guard let bridge = bridge(context) else { return }
  bridge.onPrint?(LuaDecoder.text(tag, tagLength), UnsafeRawBufferPointer(start: text, count: length))
}

private func hostExit(_ context: UnsafeMutableRawPointer?, _ code: Int32) {
  bridge(context)?.onExit?(Int(code))
}
