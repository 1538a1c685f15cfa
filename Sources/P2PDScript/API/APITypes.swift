import LuaVM

/// The type of an argument, a field or an option, as the reference prints it and as the engine checks it.
public indirect enum APIType: Sendable, Equatable {
  case any, string, number, integer, boolean, `nil`
  /// A function; the text is its signature in LuaLS form: `fun(msg: string)`.
  case function(String)
  /// One of the engine's objects: `p2pd.pipe`.
  case object(String)
  /// An options table described by an ``APIOptions`` of this name.
  case options(String)
  /// A plain table; the text is its form in LuaLS words: `string[]`.
  case table(String)
  /// One of these words.
  case words([String])
  case either([APIType])

  /// The type in the words of LuaLS annotations.
  var luaLS: String {
    switch self {
    case .any: "any"
    case .string: "string"
    case .number: "number"
    case .integer: "integer"
    case .boolean: "boolean"
    case .nil: "nil"
    case .function(let signature): signature
    case .object(let name), .options(let name): name
    case .table(let form): form
    case .words(let words): words.map { "\"\($0)\"" }.joined(separator: "|")
    case .either(let types): types.map(\.luaLS).joined(separator: "|")
    }
  }

  /// The type in an error text: "string or number expected".
  var words: String {
    switch self {
    case .function: "function"
    case .options, .table: "table"
    case .object(let name): name
    case .words(let words): words.map { "\"\($0)\"" }.joined(separator: " or ")
    case .either(let types): types.map(\.words).joined(separator: " or ")
    default: luaLS
    }
  }

  /// Whether a value has this type. Objects of ours are told apart where they are read, not here.
  func accepts(_ value: LuaValue) -> Bool {
    switch (self, value) {
    case (.any, _), (.nil, .nil), (.string, .string), (.number, .int), (.number, .number), (.integer, .int),
      (.boolean, .bool):
      true
    case (.function, .ref), (.object, .object), (.options, .table), (.table, .table): true
    case (.integer, .number(let number)): number == number.rounded() && abs(number) < 0x1p53
    case (.words(let words), .string(let bytes)): words.contains { Array($0.utf8) == bytes }
    case (.either(let types), _): types.contains { $0.accepts(value) }
    default: false
    }
  }
}

/// One argument of a function, or one thing it returns.
public struct APIValue: Sendable {
  public let name: String
  public let type: APIType
  /// Its default in Lua's words; nil for an argument that must be given.
  public let standard: String?
  public let text: String

  var isOptional: Bool { standard != nil }
}

/// One thing a script can name.
public struct APIEntry: Sendable {
  public enum Kind: Sendable { case function, method, field, constant }

  /// `p2pd`, `p2pd.log`, or the class a method or field belongs to: `p2pd.pipe`.
  public let owner: String
  public let name: String
  public let kind: Kind
  public let arguments: [APIValue]
  /// Whether more arguments may follow.
  public let variadic: Bool
  public let returns: [APIValue]
  /// The codes `nil, err` may carry; empty for what cannot fail.
  public let errors: [String]
  /// Whether it may wait: such calls are refused where Lua cannot yield, and at the top level of a handler file.
  public let waits: Bool
  public let text: String
  public let example: String?
  /// The version that brought it.
  public let since: String

  /// `p2pd.sleep`, `pipe:send`, `client_tup.ip`: the name as a script writes it.
  public var fullName: String {
    if owner.isEmpty { return name }
    guard let known = API.classes.first(where: { $0.name == owner }) else { return "\(owner).\(name)" }
    return "\(known.variable)\(kind == .method ? ":" : ".")\(name)"
  }
}

/// A kind of object scripts hold.
public struct APIClass: Sendable {
  /// What an error calls it: `p2pd.pipe`.
  public let name: String
  /// What the reference calls one: `pipe`.
  public let variable: String
  public let text: String
  /// Lines for LuaLS that a table of entries cannot say: operators, call forms.
  public let annotations: [String]
}

/// A table of options a function takes: its keys are all there are.
public struct APIOptions: Sendable {
  public let name: String
  public let text: String
  public let fields: [APIValue]
  /// Names of option tables whose keys are also taken.
  public let includes: [String]

  /// Every key, those of the included tables too.
  var allFields: [APIValue] {
    fields + includes.flatMap { included in API.options.first { $0.name == included }?.allFields ?? [] }
  }
}

// MARK: Words for the tables

func arg(_ name: String, _ type: APIType, _ text: String) -> APIValue {
  APIValue(name: name, type: type, standard: nil, text: text)
}

/// An argument or option that may be left out; `standard` is what it then is.
func opt(_ name: String, _ type: APIType, _ standard: String, _ text: String) -> APIValue {
  APIValue(name: name, type: type, standard: standard, text: text)
}

func fn(
  _ fullName: String, _ arguments: [APIValue] = [], variadic: Bool = false, returns: [APIValue] = [],
  errors: [String] = [], waits: Bool = false, _ text: String, example: String? = nil, since: String = API.firstVersion
) -> APIEntry {
  let dot = fullName.lastIndex(of: ".") ?? fullName.startIndex
  return APIEntry(
    owner: String(fullName[..<dot]), name: String(fullName[fullName.index(after: dot)...]), kind: .function,
    arguments: arguments, variadic: variadic, returns: returns, errors: errors, waits: waits, text: text,
    example: example, since: since)
}

func method(
  _ owner: String, _ name: String, _ arguments: [APIValue] = [], variadic: Bool = false, returns: [APIValue] = [],
  errors: [String] = [], waits: Bool = false, _ text: String, example: String? = nil, since: String = API.firstVersion
) -> APIEntry {
  APIEntry(
    owner: owner, name: name, kind: .method, arguments: arguments, variadic: variadic, returns: returns, errors: errors,
    waits: waits, text: text, example: example, since: since)
}

func field(_ owner: String, _ name: String, _ type: APIType, _ text: String, since: String = API.firstVersion)
  -> APIEntry
{
  APIEntry(
    owner: owner, name: name, kind: .field, arguments: [], variadic: false, returns: [arg(name, type, "")], errors: [],
    waits: false, text: text, example: nil, since: since)
}

func constant(_ fullName: String, _ type: APIType, _ text: String, since: String = API.firstVersion) -> APIEntry {
  let dot = fullName.lastIndex(of: ".") ?? fullName.startIndex
  return APIEntry(
    owner: String(fullName[..<dot]), name: String(fullName[fullName.index(after: dot)...]), kind: .constant,
    arguments: [],
    variadic: false, returns: [arg("", type, "")], errors: [], waits: false, text: text, example: nil, since: since)
}
