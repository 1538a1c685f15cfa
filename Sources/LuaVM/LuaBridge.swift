internal import CLua

/// What C holds of the host: its functions, hooks and delegate. Separate from `LuaVM` because it exists before the VM does.
/// Confined to the VM's thread.
final class LuaBridge {
  var functions: [HostFunction] = []
  /// Lua class of a Swift type.
  var classes: [ObjectIdentifier: Int32] = [:]
  unowned(unsafe) var vm: LuaVM?
  var delegate: (any LuaVMDelegate)?
  var onPrint: ((String, UnsafeRawBufferPointer) -> Void)?
  var onExit: ((Int) -> Void)?

  func add(_ function: HostFunction?) -> Int32 {
    guard let function else { return -1 }
    functions.append(function)
    return Int32(functions.count - 1)
  }

  func callbacks() -> clua_host {
    clua_host(
      context: Unmanaged.passUnretained(self).toOpaque(), call: hostCall, retain: hostRetain, release: hostRelease,
      ready: hostReady,
      abandoned: hostAbandoned, print: hostPrint, exit: hostExit)
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
  guard let vm = bridge.vm else { return CLUA_NO_MEMORY }
  let answer = bridge.functions[Int(call.pointee.function)](LuaCall(call, vm))
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
  case .values(let values): return answerValues(values, call, vm, CLUA_RETURN)
  case .string(let s): return answerText(s, call, CLUA_RETURN)
  case .object(let o): return answerValues([.object(o)], call, vm, CLUA_RETURN)
  case .failure(let o): return answerValues([.nil, .object(o)], call, vm, CLUA_RETURN)
  case .raise(let text): return answerText(text, call, CLUA_RAISE)
  case .raiseValue(let value): return answerValues([value], call, vm, CLUA_RAISE_VALUE)
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

private func answerValues(_ values: [LuaValue], _ call: UnsafeMutablePointer<clua_call>, _ vm: LuaVM, _ code: Int32)
  -> Int32
{
  var encoder = LuaEncoder(vm)
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
