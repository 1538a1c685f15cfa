internal import CLua

/// A function, table, object, ... of Lua's that the host holds. Counted by the host: give it back with `LuaVM.release(_:)`.
public struct LuaRef: Hashable, Sendable {
  let id: Int32
}

/// A running or waiting call of a Lua function; 0 is none.
public typealias LuaTask = UInt64

/// One wait of one task. A resume with it is ignored once that wait is over, so a late timer cannot wake the next wait.
public struct LuaWait: Hashable, Sendable {
  public let task: LuaTask
  let serial: UInt64
}

/// A value copied between Lua and Swift. Objects in it belong to the VM's thread.
public enum LuaValue: @unchecked Sendable {
  case `nil`
  case bool(Bool)
  case int(Int64)
  case number(Double)
  case string([UInt8])
  /// A table as its pairs, nested up to 64 levels; cycles are an error.
  case table([(key: LuaValue, value: LuaValue)])
  /// A function, coroutine or C module's object. Read out of Lua it belongs to the receiver, who releases it.
  case ref(LuaRef)
  /// One of the host's own objects. Into Lua its class is found by its Swift type (`LuaClass.type` or an earlier `makeObject`).
  case object(AnyObject)

  public static func string(_ text: String) -> LuaValue { .string(Array(text.utf8)) }
  /// A sequence: keys 1, 2, 3, ...
  public static func list(_ values: [LuaValue]) -> LuaValue {
    .table(values.enumerated().map { (key: .int(Int64($0.offset + 1)), value: $0.element) })
  }

  public var isNil: Bool { if case .nil = self { true } else { false } }
  public var text: String? { if case .string(let bytes) = self { String(decoding: bytes, as: UTF8.self) } else { nil } }
  public var bool: Bool? { if case .bool(let b) = self { b } else { nil } }
  public var ref: LuaRef? { if case .ref(let r) = self { r } else { nil } }
  public var object: AnyObject? { if case .object(let o) = self { o } else { nil } }
  /// An integer, or a float with an integral value.
  public var int: Int64? {
    switch self {
    case .int(let i): i
    case .number(let n): Int64(exactly: n)
    default: nil
    }
  }
  public var number: Double? {
    switch self {
    case .int(let i): Double(i)
    case .number(let n): n
    default: nil
    }
  }
  /// The value under a string key of a table.
  public subscript(key: String) -> LuaValue {
    guard case .table(let pairs) = self else { return .nil }
    return pairs.first { $0.key.text == key }?.value ?? .nil
  }
  /// The value under an integer key of a table: quick for the elements of a list.
  public subscript(index: Int) -> LuaValue {
    guard case .table(let pairs) = self else { return .nil }
    if index > 0, index <= pairs.count, case .int(Int64(index)) = pairs[index - 1].key { return pairs[index - 1].value }
    return pairs.first { if case .int(Int64(index)) = $0.key { true } else { false } }?.value ?? .nil
  }
}

/// What Lua calls the type of a value.
public enum LuaKind: Sendable {
  case none, `nil`, bool, int, number, string, table, function, object, userdata, thread

  init(_ type: Int32) {
    switch type {
    case CLUA_NIL: self = .nil
    case CLUA_BOOL: self = .bool
    case CLUA_INT: self = .int
    case CLUA_NUMBER: self = .number
    case CLUA_STRING: self = .string
    case CLUA_TABLE: self = .table
    case CLUA_FUNCTION: self = .function
    case CLUA_OBJECT: self = .object
    case CLUA_USERDATA: self = .userdata
    case CLUA_THREAD: self = .thread
    default: self = .none
    }
  }
}

/// An argument or result without any allocation, for the hot path. Bytes are borrowed: C copies them before the call returns.
public struct LuaArg {
  let raw: clua_value

  init(type: Int32, info: Int32 = 0, bits: UInt64 = 0, length: Int = 0) {
    raw = clua_value(type: type, info: info, bits: bits, length: length)
  }
  init(_ raw: clua_value) { self.raw = raw }

  public static var `nil`: LuaArg { LuaArg(type: CLUA_NIL) }
  public static func bool(_ b: Bool) -> LuaArg { LuaArg(type: CLUA_BOOL, bits: b ? 1 : 0) }
  public static func int(_ i: Int64) -> LuaArg { LuaArg(type: CLUA_INT, bits: UInt64(bitPattern: i)) }
  public static func int(_ i: Int) -> LuaArg { int(Int64(i)) }
  public static func number(_ n: Double) -> LuaArg { LuaArg(type: CLUA_NUMBER, bits: n.bitPattern) }
  public static func bytes(_ b: UnsafeRawBufferPointer) -> LuaArg {
    LuaArg(type: CLUA_STRING, bits: UInt64(UInt(bitPattern: b.baseAddress)), length: b.count)
  }
  /// A literal of the program.
  public static func literal(_ s: StaticString) -> LuaArg {
    bytes(UnsafeRawBufferPointer(start: s.utf8Start, count: s.utf8CodeUnitCount))
  }
  public static func ref(_ r: LuaRef) -> LuaArg { LuaArg(type: CLUA_REF, bits: UInt64(bitPattern: Int64(r.id))) }
  /// A reference the push gives back: for results of host functions.
  public static func taken(_ r: LuaRef) -> LuaArg {
    LuaArg(type: CLUA_REF, info: 1, bits: UInt64(bitPattern: Int64(r.id)))
  }
}
