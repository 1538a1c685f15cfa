import LuaVM
import NIOCore

/// An options table, checked against the API table: an unknown key or a wrong type is misuse. Functions in it are
/// references that whoever takes them gives back; what nobody takes is given back when the reader goes.
final class OptionReader {
  let function: String
  private var values: [String: LuaValue] = [:]
  private let vm: LuaVM

  /// - Parameter value: nil or a table, as the script gave it.
  init(_ value: LuaValue, _ table: APIOptions, function: String, argument: Int, vm: LuaVM) throws {
    self.function = function
    self.vm = vm
    guard case .table(let pairs) = value else {
      if value.isNil { return }
      Self.release(value, vm)
      throw Misuse.argument(argument, function, expected: "table", got: value.kindName)
    }
    do {
      try check(pairs, table.allFields)
    } catch {
      Self.release(value, vm)
      throw error
    }
    for case (.string(let key), let value) in pairs { values[String(decoding: key, as: UTF8.self)] = value }
  }

  deinit { for value in values.values { Self.release(value, vm) } }

  private func check(_ pairs: [(key: LuaValue, value: LuaValue)], _ fields: [APIValue]) throws {
    for (key, value) in pairs {
      guard case .string(let bytes) = key else {
        throw Misuse("options of '\(function)' have names; this table has the key \(key.short)")
      }
      let name = String(decoding: bytes, as: UTF8.self)
      guard let field = fields.first(where: { $0.name == name }) else {
        throw Misuse("unknown option '\(name)' of '\(function)'" + Spelling.hint(name, among: fields.map(\.name)))
      }
      guard field.type.accepts(value) else {
        var got = value.kindName
        if case .string(let bytes) = value { got = "\"\(String(decoding: bytes.prefix(40), as: UTF8.self))\"" }
        throw Misuse("bad option '\(name)' of '\(function)' (\(field.type.words) expected, got \(got))")
      }
    }
  }

  static func release(_ value: LuaValue, _ vm: LuaVM) {
    switch value {
    case .ref(let ref): vm.release(ref)
    case .table(let pairs):
      for (key, value) in pairs {
        release(key, vm)
        release(value, vm)
      }
    default: break
    }
  }

  /// The plain options in one text, the same for the same options.
  var fingerprint: String {
    let plain = values.compactMap { name, value in value.ref == nil ? "\(name)=\(value.plainText)" : nil }
    return plain.sorted().joined(separator: "\n")
  }

  func has(_ name: String) -> Bool { values[name] != nil }
  subscript(_ name: String) -> LuaValue? { values[name] }

  func string(_ name: String) -> String? {
    guard case .string(let bytes)? = values[name] else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  func bool(_ name: String) -> Bool? {
    guard case .bool(let value)? = values[name] else { return nil }
    return value
  }

  /// A whole number within bounds; outside is misuse.
  func integer(_ name: String, in bounds: ClosedRange<Int>) throws -> Int? {
    guard let value = values[name] else { return nil }
    var whole: Int?
    if case .int(let number) = value { whole = Int(exactly: number) }
    if case .number(let number) = value { whole = Int(exactly: number) }
    guard let whole, bounds.contains(whole) else {
      throw Misuse(
        "bad option '\(name)' of '\(function)' (a number from \(bounds.lowerBound) to \(bounds.upperBound) expected, got \(value.short))"
      )
    }
    return whole
  }

  /// Seconds; negative ones and NaN are misuse.
  func seconds(_ name: String) throws -> TimeAmount? {
    guard let value = values[name] else { return nil }
    guard let number = value.asNumber, let time = TimeAmount(seconds: number) else {
      throw Misuse("bad option '\(name)' of '\(function)' (seconds expected, got \(value.short))")
    }
    return time
  }

  func object<T: AnyObject>(_ name: String, as type: T.Type) -> T? {
    guard case .object(let object)? = values[name] else { return nil }
    return object as? T
  }

  func strings(_ name: String) throws -> [String]? {
    guard case .table(let pairs)? = values[name] else { return nil }
    return try pairs.sequence.map {
      guard case .string(let bytes) = $0 else {
        throw Misuse("bad option '\(name)' of '\(function)' (a list of strings expected)")
      }
      return String(decoding: bytes, as: UTF8.self)
    }
  }

  func table(_ name: String) -> [(key: LuaValue, value: LuaValue)]? {
    guard case .table(let pairs)? = values[name] else { return nil }
    return pairs
  }

  /// Takes a function out; the caller gives the reference back.
  func takeFunction(_ name: String) -> LuaRef? {
    guard case .ref(let ref)? = values[name] else { return nil }
    values[name] = nil
    return ref
  }
}

extension LuaValue {
  /// The whole value, for comparing.
  fileprivate var plainText: String {
    switch self {
    case .string(let bytes): "\"\(String(decoding: bytes, as: UTF8.self))\""
    case .table(let pairs): "{" + pairs.map { "\($0.plainText)=\($1.plainText)" }.sorted().joined(separator: ",") + "}"
    case .object(let object as RouteObject): object.bound?.description ?? object.route.description
    case .object(let object as InterfaceObject): object.interface.name
    default: short
    }
  }

  /// The type's name as Lua's errors give it.
  var kindName: String {
    switch self {
    case .nil: "nil"
    case .bool: "boolean"
    case .int, .number: "number"
    case .string: "string"
    case .table: "table"
    case .ref: "function"
    case .object: "userdata"
    }
  }

  /// The value in a few letters, for an error.
  var short: String {
    switch self {
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let bytes): "\"\(String(decoding: bytes.prefix(40), as: UTF8.self))\""
    default: kindName
    }
  }

  var asNumber: Double? {
    switch self {
    case .int(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}

extension TimeAmount {
  /// Seconds with fractions; nil for NaN and below zero. What is longer than a century is a century: nobody waits for more.
  init?(seconds: Double) {
    guard seconds >= 0 else { return nil }
    self = .nanoseconds(Int64(min(seconds, 3.2e9 / 1.024) * 1e9))
  }

  var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
