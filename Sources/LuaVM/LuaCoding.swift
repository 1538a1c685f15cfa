internal import CLua

/// Lua values to the flat preorder trees of `clua.h`: strings go to one buffer, nodes keep offsets into it.
struct LuaEncoder {
  var nodes: [clua_value] = []
  var bytes: [UInt8] = []
  let vm: LuaVM

  init(_ vm: LuaVM) { self.vm = vm }

  mutating func add(_ value: LuaValue, depth: Int = 0) throws(LuaFailure) {
    switch value {
    case .nil: nodes.append(LuaArg.nil.raw)
    case .bool(let b): nodes.append(LuaArg.bool(b).raw)
    case .int(let i): nodes.append(LuaArg.int(i).raw)
    case .number(let n): nodes.append(LuaArg.number(n).raw)
    case .string(let s): addString(s)
    case .ref(let r): nodes.append(LuaArg.ref(r).raw)
    case .object(let o):
      guard let id = vm.bridge.classes[ObjectIdentifier(type(of: o))] else {
        throw LuaFailure(message: "no Lua class for \(type(of: o))")
      }
      let address = UInt(bitPattern: Unmanaged.passUnretained(o).toOpaque())
      nodes.append(clua_value(type: CLUA_OBJECT, info: id, bits: UInt64(address), length: 0))
    case .table(let pairs):
      if depth >= Int(CLUA_MAX_DEPTH) { throw LuaFailure(message: "table nested deeper than \(CLUA_MAX_DEPTH)") }
      nodes.append(clua_value(type: CLUA_TABLE, info: 0, bits: 0, length: pairs.count))
      for pair in pairs {
        try add(pair.key, depth: depth + 1)
        try add(pair.value, depth: depth + 1)
      }
    }
  }

  mutating func addString(_ s: some Collection<UInt8>) {
    nodes.append(clua_value(type: CLUA_STRING_AT, info: 0, bits: UInt64(bytes.count), length: s.count))
    bytes.append(contentsOf: s)
  }

  /// `count` trees as C sees them.
  func withValues<R>(_ count: Int, _ body: (UnsafePointer<clua_values>) -> R) -> R {
    nodes.withUnsafeBufferPointer { nodes in
      bytes.withUnsafeBufferPointer { bytes in
        bytes.withMemoryRebound(to: CChar.self) { bytes in
          var values = clua_values(nodes: nodes.baseAddress, count: count, bytes: bytes.baseAddress)
          return body(&values)
        }
      }
    }
  }
}

/// Trees read out of Lua, copied before the next door.
enum LuaDecoder {
  static func decode(_ values: clua_values) -> [LuaValue] {
    guard values.count > 0, var node = values.nodes else { return [] }
    var result: [LuaValue] = []
    result.reserveCapacity(values.count)
    for _ in 0..<values.count { result.append(tree(&node)) }
    return result
  }

  private static func tree(_ node: inout UnsafePointer<clua_value>) -> LuaValue {
    let n = node.pointee
    node += 1
    switch n.type {
    case CLUA_BOOL: return .bool(n.bits != 0)
    case CLUA_INT: return .int(Int64(bitPattern: n.bits))
    case CLUA_NUMBER: return .number(Double(bitPattern: n.bits))
    case CLUA_STRING:
      return .string(Array(UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: UInt(n.bits)), count: n.length)))
    case CLUA_REF: return .ref(LuaRef(id: Int32(truncatingIfNeeded: n.bits)))
    case CLUA_OBJECT:
      guard let p = UnsafeRawPointer(bitPattern: UInt(n.bits)) else { return .nil }
      return .object(Unmanaged<AnyObject>.fromOpaque(p).takeUnretainedValue())
    case CLUA_TABLE:
      var pairs: [(key: LuaValue, value: LuaValue)] = []
      pairs.reserveCapacity(n.length)
      for _ in 0..<n.length {
        let key = tree(&node)
        pairs.append((key: key, value: tree(&node)))
      }
      return .table(pairs)
    default: return .nil
    }
  }

  static func text(_ start: UnsafePointer<CChar>?, _ length: Int) -> String {
    String(decoding: UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : length), as: UTF8.self)
  }
}

/// Names as C strings for the length of one door.
final class CNames {
  private var owned: [UnsafeMutablePointer<CChar>] = []

  func pointer(_ name: String) -> UnsafePointer<CChar> {
    let characters = name.utf8CString
    let p = UnsafeMutablePointer<CChar>.allocate(capacity: characters.count)
    for (i, c) in characters.enumerated() { p[i] = c }
    owned.append(p)
    return UnsafePointer(p)
  }

  deinit { for p in owned { p.deallocate() } }
}
