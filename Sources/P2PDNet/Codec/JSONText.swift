/// JSON (RFC 8259) written by hand: a few objects are printed and need no library for it. What is read
/// comes from ``JSONReader``.
package enum JSONText: Sendable {
  case string(String)
  case int(Int)
  /// Infinities and NaN, which JSON has not, are written as null.
  case number(Double)
  case bool(Bool)
  case null
  case array([JSONText])
  /// Keys stay in the order given.
  case object([(String, JSONText)])

  /// The value on one line.
  package var text: String {
    var out = ""
    write(to: &out, indent: nil)
    return out
  }

  /// The value over several lines, two spaces a level.
  package var pretty: String {
    var out = ""
    write(to: &out, indent: 0)
    return out
  }

  private func write(to out: inout String, indent: Int?) {
    switch self {
    case .string(let value): Self.quote(value, to: &out)
    case .int(let value): out += String(value)
    case .number(let value): out += value.isFinite ? "\(value)" : "null"
    case .bool(let value): out += value ? "true" : "false"
    case .null: out += "null"
    case .array(let items):
      Self.list(items.count, "[", "]", to: &out, indent: indent) { items[$0].write(to: &$1, indent: $2) }
    case .object(let members):
      Self.list(members.count, "{", "}", to: &out, indent: indent) {
        Self.quote(members[$0].0, to: &$1)
        $1 += indent == nil ? ":" : ": "
        members[$0].1.write(to: &$1, indent: $2)
      }
    }
  }

  private static func list(
    _ count: Int, _ open: String, _ close: String, to out: inout String, indent: Int?,
    item: (Int, inout String, Int?) -> Void
  ) {
    out += open
    for index in 0..<count {
      if index > 0 { out += "," }
      if let indent { out += "\n" + String(repeating: "  ", count: indent + 1) }
      item(index, &out, indent.map { $0 + 1 })
    }
    if let indent, count > 0 { out += "\n" + String(repeating: "  ", count: indent) }
    out += close
  }

  /// RFC 8259 §7: the quote, the backslash and everything below a space must be escaped; DEL and the C1 controls are
  /// too, so that a line stays harmless on a terminal.
  private static func quote(_ value: String, to out: inout String) {
    out += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      default:
        if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
          let hex = String(scalar.value, radix: 16)
          out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        } else {
          out.unicodeScalars.append(scalar)
        }
      }
    }
    out += "\""
  }
}
