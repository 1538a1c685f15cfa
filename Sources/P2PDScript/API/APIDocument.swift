/// The files made from the ``API`` table: reference, editor types, luacheck's list. They lie in the project so that
/// people and editors find them; a test compares them with what this makes.
public enum APIDocument {
  /// Path from the project's root, and content.
  public static var files: [(path: String, text: String)] {
    [
      ("scripts/types/REFERENCE.md", reference), ("scripts/types/p2pd.lua", luaLSTypes),
      ("scripts/types/p2pd.test.lua", testLuaLSTypes), (".luacheckrc", luacheckrc),
    ]
  }

  /// The reference, in Markdown.
  public static var reference: String {
    var out = """
      # The Lua API of p2pd-lua

      Made from the table in `Sources/P2PDScript/API`; edit that. `local p2pd = require "p2pd"` gives the module.
      Times are seconds, fractions allowed. **waits**: the call may wait; others run meanwhile. `nil, err`: see [Errors](#errors).


      """
    out += "## A handler file\n\nReturns a table of callbacks; `p2pd-lua run FILE` hosts it.\n\n"
    for callback in API.callbacks { out += "- `\(callback.name)`\(defaultText(callback)): \(callback.text)\n" }
    for section in API.sections + API.testSections {
      out += "\n## \(section.title)\n\n\(section.text)\n"
      for entry in section.entries { out += "\n" + describe(entry) }
    }
    out += "\n## Option tables\n\nA key that is not listed raises an error.\n"
    for table in API.options {
      out += "\n### `\(table.name)`\n\n\(table.text)"
      if !table.includes.isEmpty {
        out += " Takes the keys of " + table.includes.map { "`\($0)`" }.joined(separator: ", ") + " too."
      }
      out += "\n\n| key | type | default | |\n|---|---|---|---|\n"
      for field in table.fields {
        out += "| `\(field.name)` | \(cell(field.type.words)) | \(cell(field.standard ?? "")) | \(cell(field.text)) |\n"
      }
    }
    return out
  }

  private static func describe(_ entry: APIEntry) -> String {
    var out = "### `\(signature(entry))`\n\n"
    if entry.waits { out += "**waits**. " }
    out += entry.text + "\n"
    if entry.kind == .field || entry.kind == .constant {
      return out + (entry.returns.first.map { "\nType: `\($0.type.luaLS)`\n" } ?? "")
    }
    if !entry.arguments.isEmpty { out += "\n" }
    for argument in entry.arguments {
      out += "- `\(argument.name)`: `\(argument.type.luaLS)`\(defaultText(argument)); \(argument.text)\n"
    }
    if !entry.returns.isEmpty {
      out +=
        "\nReturns "
        + entry.returns.map { "`\($0.name)`" + ($0.text.isEmpty ? "" : ": \($0.text)") }.joined(separator: "; ") + ".\n"
    }
    if !entry.errors.isEmpty {
      out += "\nCodes of `err`: " + entry.errors.map { "`\($0)`" }.joined(separator: ", ") + ".\n"
    }
    if let example = entry.example { out += "\n```lua\n\(example)\n```\n" }
    return out
  }

  /// `pipe:recv([sub [, timeout]])`
  static func signature(_ entry: APIEntry) -> String {
    guard entry.kind == .function || entry.kind == .method else { return entry.fullName }
    var text = ""
    var open = 0
    for (index, argument) in entry.arguments.enumerated() {
      if argument.isOptional {
        text += index == 0 ? "[" : " ["
        open += 1
      }
      text += index == 0 ? argument.name : ", " + argument.name
    }
    if entry.variadic { text += text.isEmpty ? "..." : ", ..." }
    return "\(entry.fullName)(\(text)\(String(repeating: "]", count: open)))"
  }

  private static func defaultText(_ value: APIValue) -> String {
    guard let standard = value.standard else { return "" }
    return standard == "nil" ? " (optional)" : " (default: \(standard))"
  }

  private static func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
}
