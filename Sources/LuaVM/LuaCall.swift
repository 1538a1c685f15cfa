internal import CLua

/// A Swift function Lua may call. It returns before C pushes results, raises or waits: no Swift frame is ever jumped over.
public typealias HostFunction = (borrowing LuaCall) -> LuaReturn

/// One call from Lua. Valid only while the host function runs; strings are Lua's own bytes, not copies.
/// Methods are called with a colon: argument 0 is the object.
public struct LuaCall: ~Copyable {
  let call: UnsafeMutablePointer<clua_call>
  // Unmanaged: the VM outlives each of its calls, and counting references is what a small message would pay most for.
  private unowned(unsafe) let bridge: LuaBridge

  init(_ call: UnsafeMutablePointer<clua_call>, _ bridge: LuaBridge) {
    self.call = call
    self.bridge = bridge
  }

  public var vm: LuaVM { bridge.vm }

  /// How many arguments there are.
  public var count: Int { Int(call.pointee.count) }
  /// The running task; 0 outside of one (the top level of a prelude).
  public var task: LuaTask { call.pointee.task }
  /// The running task's tag; 0 outside of one and in `callNow`.
  public var tag: UInt64 { call.pointee.tag }
  /// The wait this call begins if it returns `.wait`.
  public var wait: LuaWait { LuaWait(task: call.pointee.task, serial: call.pointee.wait) }
  /// False where nothing can wait: the top level of a file, a callback of `table.sort`, ... `.wait` then raises an error naming the place.
  public var canWait: Bool { clua_call_can_wait(call) }

  func raw(_ i: Int) -> clua_value {
    if i < 0 || i >= count { return clua_value(type: CLUA_NONE, info: 0, bits: 0, length: 0) }
    if i < Int(CLUA_INLINE_ARGS) {
      return withUnsafeBytes(of: &call.pointee.args) {
        $0.loadUnaligned(fromByteOffset: i * MemoryLayout<clua_value>.stride, as: clua_value.self)
      }
    }
    var value = clua_value()
    _ = clua_call_argument(call, Int32(i), &value)
    return value
  }

  public func kind(_ i: Int) -> LuaKind { LuaKind(raw(i).type) }
  /// For messages: "number", "p2pd.pipe", "no value".
  public func kindName(_ i: Int) -> String {
    clua_call_type_name(call, Int32(clamping: i)).map { String(cString: $0) } ?? "?"
  }
  /// Missing or nil.
  public func isNil(_ i: Int) -> Bool { raw(i).type <= CLUA_NIL }
  /// The bytes of a string, valid until the host function returns.
  public func bytes(_ i: Int) -> UnsafeRawBufferPointer? {
    let value = raw(i)
    guard value.type == CLUA_STRING else { return nil }
    return UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: UInt(value.bits)), count: value.length)
  }
  public func string(_ i: Int) -> String? { bytes(i).map { String(decoding: $0, as: UTF8.self) } }
  /// An integer, or a float with an integral value.
  public func int(_ i: Int) -> Int64? {
    let value = raw(i)
    switch value.type {
    case CLUA_INT: return Int64(bitPattern: value.bits)
    case CLUA_NUMBER: return Int64(exactly: Double(bitPattern: value.bits))
    default: return nil
    }
  }
  public func number(_ i: Int) -> Double? {
    let value = raw(i)
    switch value.type {
    case CLUA_INT: return Double(Int64(bitPattern: value.bits))
    case CLUA_NUMBER: return Double(bitPattern: value.bits)
    default: return nil
    }
  }
  public func bool(_ i: Int) -> Bool? {
    let value = raw(i)
    return value.type == CLUA_BOOL ? value.bits != 0 : nil
  }
  /// Lua's idea of truth: everything but nil and false.
  public func truthy(_ i: Int) -> Bool { isNil(i) ? false : bool(i) ?? true }
  /// One of the host's objects, if it is a `T`.
  public func object<T: AnyObject>(_ i: Int, as type: T.Type) -> T? {
    let value = raw(i)
    guard value.type == CLUA_OBJECT, let p = UnsafeRawPointer(bitPattern: UInt(value.bits)) else { return nil }
    let object = Unmanaged<AnyObject>.fromOpaque(p).takeUnretainedValue()
    return Swift.type(of: object) == T.self ? unsafeDowncast(object, to: T.self) : object as? T
  }
  /// Whether the argument is one of the host's objects of exactly this class; counts no reference.
  public func isObject<T: AnyObject>(_ i: Int, of type: T.Type) -> Bool {
    let value = raw(i)
    guard value.type == CLUA_OBJECT, let p = UnsafeRawPointer(bitPattern: UInt(value.bits)) else { return false }
    return Unmanaged<AnyObject>.fromOpaque(p)._withUnsafeGuaranteedRef { Swift.type(of: $0) == T.self }
  }
  /// A new reference to a function; release it. Nil for other kinds, and when memory is out.
  public func function(_ i: Int) -> LuaRef? { kind(i) == .function ? reference(i) : nil }
  /// A new reference to a table, which is not copied.
  public func table(_ i: Int) -> LuaRef? { kind(i) == .table ? reference(i) : nil }
  /// A new reference to whatever the argument is.
  public func reference(_ i: Int) -> LuaRef? {
    var id: Int32 = 0
    guard clua_call_reference(call, Int32(clamping: i), &id) == CLUA_OK else { return nil }
    return LuaRef(id: id)
  }
  /// The argument copied out, tables as trees. Throws for cycles, more than 64 levels or a million values, and out of memory.
  public func value(_ i: Int) throws(LuaFailure) -> LuaValue {
    var values = clua_values()
    let kind = clua_call_read(call, Int32(clamping: i), &values)
    if kind != CLUA_OK { throw vm.lastFailure(kind) }
    return LuaDecoder.decode(values).first ?? .nil
  }

  /// Copies bytes that will be gone when the host function returns, for use in its `LuaReturn`. Nil: no memory.
  public func copy(_ bytes: UnsafeRawBufferPointer) -> LuaArg? {
    var out = clua_value()
    guard clua_call_copy(call, bytes.baseAddress, bytes.count, &out) == CLUA_OK else { return nil }
    return LuaArg(out)
  }
  public func copy(_ text: String) -> LuaArg? {
    var text = text
    return text.withUTF8 { copy(UnsafeRawBufferPointer($0)) }
  }
}

/// What a host function answers.
public enum LuaReturn {
  case none
  /// Bytes must outlive the host function's return (a queue's buffer, a literal); otherwise `call.copy(_:)` or `.values`.
  case one(LuaArg)
  case two(LuaArg, LuaArg)
  case values([LuaValue])
  case string(String)
  /// Any of the host's objects whose class is known by its Swift type.
  case object(AnyObject)
  /// `nil, object`: an expected failure.
  case failure(AnyObject)
  /// Park the task; `vm.resume(call.wait, ...)` goes on with it, also if that comes before this return.
  case wait
  /// An error at the caller's level, with the script's `file:line:` in front.
  case raise(String)
  /// An error with this value, as it is.
  case raiseValue(LuaValue)
  /// "bad argument #n to 'name' (text)"; the index counts as in `LuaCall`.
  case badArgument(Int, String)
}
