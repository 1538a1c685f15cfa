import LuaVM
import NIOCore
import P2PDNet

/// A host function that may find the call wrong.
func bound(_ body: @escaping (borrowing LuaCall) throws -> LuaReturn) -> HostFunction {
  { call in
    do {
      return try body(call)
    } catch let misuse as Misuse {
      return .raise(misuse.message)
    } catch let failure as LuaFailure {
      return .raise(failure.message)
    } catch let error as NetError {
      return .raise(error.description)
    } catch {
      return .raise("\(error)")
    }
  }
}

extension LuaCall {
  /// - Parameters:
  ///   - index: the argument's place in the call.
  ///   - number: the same as the script counts it; a method's object and a hidden first argument are not counted.
  func need(_ index: Int, _ number: Int, _ function: String, _ expected: String) -> Misuse {
    .argument(number, function, expected: expected, got: kindName(index))
  }

  func isNone(_ index: Int) -> Bool { isNil(index) }

  /// The type of an argument as Lua's errors name it.
  func kindName(_ index: Int) -> String {
    switch kind(index) {
    case .none: return "no value"
    case .nil: return "nil"
    case .bool: return "boolean"
    case .int, .number: return "number"
    case .string: return "string"
    case .table: return "table"
    case .function: return "function"
    case .userdata: return "userdata"
    case .thread: return "thread"
    case .object:
      guard let object = object(index, as: AnyObject.self) else { return "userdata" }
      return ScriptClasses.names[ObjectIdentifier(type(of: object))] ?? "userdata"
    }
  }

  func string(_ index: Int, _ number: Int, _ function: String) throws -> String {
    guard let text = string(index) else { throw need(index, number, function, "string") }
    return text
  }

  /// Seconds; nil where the argument is left out. `math.huge` is nil too: no limit.
  func seconds(_ index: Int, _ number: Int, _ function: String) throws -> TimeAmount? {
    if isNone(index) { return nil }
    guard let value = self.number(index) else { throw need(index, number, function, "number") }
    if value == .infinity { return nil }
    guard let time = TimeAmount(seconds: value) else {
      throw Misuse("bad argument #\(number) to '\(function)' (seconds expected, got \(value))")
    }
    return time
  }

  func needFunction(_ index: Int, _ number: Int, _ function: String) throws -> LuaRef {
    guard let ref = self.function(index) else { throw need(index, number, function, "function") }
    return ref
  }

  func port(_ index: Int, _ number: Int, _ function: String) throws -> UInt16 {
    if isNone(index) { return 0 }
    guard let value = int(index) else { throw need(index, number, function, "integer") }
    guard let port = UInt16(exactly: value) else {
      throw Misuse("bad argument #\(number) to '\(function)' (a port from 0 to 65535 expected, got \(value))")
    }
    return port
  }

  func proto(_ index: Int, _ number: Int, _ function: String) throws -> PipeProto {
    guard let text = string(index) else { throw need(index, number, function, "p2pd.TCP or p2pd.UDP") }
    guard let proto = PipeProto(rawValue: text.lowercased()) else {
      throw Misuse(
        "bad argument #\(number) to '\(function)' (p2pd.TCP or p2pd.UDP expected, got \"\(text.prefix(40))\")")
    }
    return proto
  }

  /// `p2pd.IP4` or `p2pd.IP6`; nil where left out.
  func family(_ index: Int, _ number: Int, _ function: String) throws -> AddressFamily? {
    if isNone(index) { return nil }
    guard let value = int(index), let family = UInt8(exactly: value).flatMap(AddressFamily.init) else {
      throw need(index, number, function, "p2pd.IP4 or p2pd.IP6")
    }
    return family
  }

  func options(_ index: Int, _ number: Int, _ function: String, _ table: APIOptions) throws -> OptionReader {
    let given = index < count ? try value(index) : .nil
    return try OptionReader(given, table, function: function, argument: number, vm: vm)
  }
}
