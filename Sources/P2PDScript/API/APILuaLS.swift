extension APIDocument {
  /// Types for the Lua language server: point its `workspace.library` at `scripts/types`.
  public static var luaLSTypes: String {
    var out = """
      ---@meta p2pd
      -- Made from the table in Sources/P2PDScript/API; edit that.

      ---@class p2pdlib
      local p2pd = {}


      """
    for table in API.options { out += optionClass(table) }
    out += handlerClass()
    for known in API.classes { out += objectClass(known) }
    for inner in ["p2pd.log", "p2pd.json", "p2pd.names"] { out += "---@class \(inner)lib\n\(inner) = {}\n\n" }
    for entry in API.entries where !API.classNames.contains(entry.owner) {
      switch entry.kind {
      case .function: out += function(entry, path: "\(entry.owner).\(entry.name)")
      case .field, .constant, .method:
        out +=
          comment(entry.text)
          + "---@type \(entry.returns.first?.type.luaLS ?? "any")\n\(entry.owner).\(entry.name) = nil\n\n"
      }
    }
    return out + "return p2pd\n"
  }

  private static func optionClass(_ table: APIOptions) -> String {
    let parents = table.includes.isEmpty ? "" : ": " + table.includes.joined(separator: ", ")
    var out = comment(table.text) + "---@class (exact) \(table.name)\(parents)\n"
    for field in table.fields { out += fieldLine(field) }
    return out + "\n"
  }

  private static func handlerClass() -> String {
    "--- What a handler file returns.\n---@class p2pd.handler\n" + API.callbacks.map(fieldLine).joined() + "\n"
  }

  private static func fieldLine(_ field: APIValue) -> String {
    "---@field \(field.name)\(field.isOptional ? "?" : "") \(grouped(field.type)) \(field.text)\n"
  }

  private static func objectClass(_ known: APIClass) -> String {
    let local = known.variable
    var out = comment(known.text) + "---@class \(known.name)\n"
    out += known.annotations.map { $0 + "\n" }.joined()
    let members = API.members(of: known.name)
    for member in members where member.kind == .field {
      out += "---@field \(member.name) \(grouped(member.returns.first?.type ?? .any)) \(member.text)\n"
    }
    out += "local \(local) = {}\n\n"
    for member in members where member.kind == .method { out += function(member, path: "\(local):\(member.name)") }
    return out
  }

  static func function(_ entry: APIEntry, path: String) -> String {
    var out = comment(entry.text)
    if entry.waits { out += "---@async\n" }
    for argument in entry.arguments {
      out += "---@param \(argument.name)\(argument.isOptional ? "?" : "") \(grouped(argument.type)) \(argument.text)\n"
    }
    if entry.variadic { out += "---@param ... any\n" }
    for value in entry.returns {
      if value.name == "..." {
        out += "---@return any ...\n"
      } else {
        out +=
          "---@return \(grouped(value.type))\(value.isOptional ? "?" : "") \(value.name)\(value.text.isEmpty ? "" : " # \(value.text)")\n"
      }
    }
    // `recv(timeout)` and `recv(sub, timeout)`: an optional first argument that may be left out altogether.
    if entry.fullName == "pipe:recv" {
      out += "---@overload fun(self: p2pd.pipe, timeout?: number): string?, p2pd.client_tup|p2pd.error|nil\n"
    }
    var names = entry.arguments.map(\.name)
    if entry.variadic { names.append("...") }
    return out + "function \(path)(\(names.joined(separator: ", "))) end\n\n"
  }

  /// A function type followed by `?` or a comment must stand in brackets.
  private static func grouped(_ type: APIType) -> String {
    switch type {
    case .function, .words, .either: "(\(type.luaLS))"
    default: type.luaLS
    }
  }

  private static func comment(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { "--- \($0)\n" }.joined()
  }

  /// luacheck's settings for the project's Lua: the module is required, so no global of ours exists.
  public static var luacheckrc: String {
    """
    -- Made from the table in Sources/P2PDScript/API; edit that.
    std = "lua54"
    max_line_length = 120
    unused_args = false
    -- Read-only names of the module for editors that do not follow `require`.
    stds.p2pd = {
      read_globals = {
        p2pd = {
          fields = {
    \(API.moduleNames.sorted().map(luacheckField).joined(separator: "\n"))
          },
        },
      },
    }
    files["scripts/types/"] = { ignore = { "111", "112", "113", "121", "122", "131", "211", "212", "221", "241", "311", "331", "431", "532", "631" } }
    files["**/*_test.lua"] = { std = "+busted" }
    files["**/*_spec.lua"] = { std = "+busted" }

    """
  }

  private static func luacheckField(_ name: String) -> String {
    let inner = API.entries.filter { $0.owner == "p2pd.\(name)" && !API.classNames.contains($0.owner) }.map(\.name)
    if name == "state" { return "        state = { read_only = false, other_fields = true }," }
    if inner.isEmpty { return "        \(name) = {}," }
    return "        \(name) = { fields = { " + inner.map { "\($0) = {}" }.joined(separator: ", ") + " } },"
  }
}
