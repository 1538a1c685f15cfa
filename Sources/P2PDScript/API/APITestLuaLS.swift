extension APIDocument {
  /// Types of `require "p2pd.test"` and of the globals of test files, for the Lua language server.
  static var testLuaLSTypes: String {
    var out = """
      ---@meta p2pd.test
      -- Made from the table in Sources/P2PDScript/API; edit that.

      ---@class p2pd.testlib
      local lab = {}


      """
    for entry in API.labEntries {
      out += entry.kind == .constant ? constant(entry) : function(entry, path: entry.fullName)
    }
    for entry in API.testWords { out += function(entry, path: entry.name) }
    out += """
      ---@class p2pd.assert
      ---@field [string] any the same with `is`, `has`, `not` and the like in front: `is_not`, `are`, `has_no`
      ---@overload fun(value: any, message?: any, ...): any
      assert = {}


      """
    for entry in API.assertions { out += function(entry, path: entry.fullName) }
    return out + "return lab\n"
  }

  private static func constant(_ entry: APIEntry) -> String {
    "--- \(entry.text)\n---@type \(entry.returns.first?.type.luaLS ?? "any")\n\(entry.fullName) = nil\n\n"
  }
}
