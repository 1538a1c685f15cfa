import LuaVM
import P2PDNet

/// `servers = ...` of `p2pd.node` and of `p2pd.conf.lua`: a list of URLs that replaces the servers known so far, or groups
/// by name, of which each replaces its own kind.
struct ServersOption {
  private var list: [String]?
  private var groups: [(group: ServerList.Group, texts: [String])] = []

  /// Throws ``Misuse``: an unknown group, or something that is no list of texts.
  init(_ pairs: [(key: LuaValue, value: LuaValue)], function: String) throws {
    var texts: [String] = []
    for (key, value) in pairs {
      switch key {
      case .string(let bytes):
        let name = String(decoding: bytes, as: UTF8.self)
        guard let group = ServerList.Group(rawValue: name) else {
          let hint = Spelling.hint(name, among: ServerList.Group.allCases.map(\.rawValue))
          throw Misuse("unknown group '\(name)' in 'servers' of '\(function)'" + hint)
        }
        guard case .table(let inner) = value else { throw Self.wrong(function, "a list", value) }
        groups.append((group, try Self.texts(inner.sequence, function)))
      default: texts.append(contentsOf: try Self.texts([value], function))
      }
    }
    // An empty table names no servers at all.
    if !texts.isEmpty || pairs.isEmpty { list = texts }
    groups.sort { $0.group.rawValue < $1.group.rawValue }
  }

  /// The servers after this. Throws ``NetError`` that names the URL.
  func applied(to known: ServerList) throws(NetError) -> ServerList {
    var result = known
    if let list { result = try ServerList(urls: list) }
    for (group, texts) in groups { result = try result.replacing(group, with: texts) }
    return result
  }

  private static func texts(_ values: [LuaValue], _ function: String) throws -> [String] {
    try values.map { value in
      guard let text = value.text else { throw wrong(function, "URLs in quotes", value) }
      return text
    }
  }

  private static func wrong(_ function: String, _ expected: String, _ value: LuaValue) -> Misuse {
    Misuse("bad option 'servers' of '\(function)' (\(expected) expected, got \(value.kindName))")
  }
}
