import P2PDNet

/// A name of a node: `example.peer`, a label and the TLD that says which name servers know it.
///
/// Two texts that people take for the same are the same name or no name: a label is kept in one form (composed, lower
/// case, see ``LabelRules``), and what only looks like another name is refused.
public struct PeerName: Hashable, Sendable, CustomStringConvertible {
  /// What stands before the TLD: at most ``longestLabel`` bytes of UTF-8. A name of the DNS may have dots in it.
  public let label: String
  /// Lower-case ASCII letters, digits and hyphens.
  public let tld: String

  /// `example.peer`.
  public var description: String { "\(label).\(tld)" }

  /// Reads `example.peer` as people write it.
  /// - Throws: `bad_name`, which says what character is wrong and what would be right.
  public init(_ text: String) throws(NetError) {
    guard text.utf8.count <= Self.longestText else { throw Self.tooLong(text) }
    guard let dot = text.lastIndex(where: LabelRules.isDot), text.index(after: dot) != text.endIndex else {
      throw NetError(
        .badName, "read the name \(quoted(text))", cause: "it has no ending",
        remedy: "Write it in full, \(quoted(text.prefix { !LabelRules.isDot($0) } + ".peer")) for example.")
    }
    try self.init(label: String(text[..<dot]), tld: String(text[text.index(after: dot)...]))
  }

  /// Reads a name that may lack its ending, which then is `tld`.
  public init(_ text: String, tld: String) throws(NetError) {
    if text.contains(where: LabelRules.isDot) { try self.init(text) } else { try self.init(label: text, tld: tld) }
  }

  public init(label: String, tld: String) throws(NetError) {
    guard label.utf8.count <= Self.longestText else { throw Self.tooLong(label) }
    self.tld = try LabelRules.tld(tld)
    self.label = try LabelRules.label(label)
  }

  /// Whether name servers keep names of this form: one label and the TLD.
  public var isRegistrable: Bool { !label.utf8.contains(UInt8(ascii: ".")) }

  /// Whether the text is meant as a name rather than as an address token or as `host:port`: it has a dot, its last part
  /// is no number, and there is no colon, slash or blank in it. It may still be a bad name.
  public static func isName(_ text: String) -> Bool {
    guard text.utf8.count <= longestText, let dot = text.lastIndex(where: LabelRules.isDot) else { return false }
    let tld = text[text.index(after: dot)...]
    guard !tld.isEmpty, dot != text.startIndex, !tld.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return false
    }
    return !text.unicodeScalars.contains { ":/@\\[]\"'".unicodeScalars.contains($0) || $0.properties.isWhitespace }
  }

  private static func tooLong(_ text: String) -> NetError {
    NetError(
      .badName, "read the name \(quoted(text.prefix(40)))...",
      cause: "a label has at most \(longestLabel) bytes of UTF-8")
  }

  /// Bytes of UTF-8 of a label in its kept form, as P2PD's.
  public static let longestLabel = 50
  /// Bytes that are looked at: the kept form of a text can be shorter than the text, but not by this much.
  private static let longestText = 512
}

/// The text in quotes, with what a terminal might obey written out.
func quoted(_ text: some StringProtocol) -> String {
  var out = "\""
  for scalar in text.unicodeScalars { out += LabelRules.isVisible(scalar) ? String(scalar) : "<\(codePoint(scalar))>" }
  return out + "\""
}

/// `U+0430`.
func codePoint(_ scalar: Unicode.Scalar) -> String {
  let hex = String(scalar.value, radix: 16, uppercase: true)
  return "U+" + String(repeating: "0", count: max(0, 4 - hex.count)) + hex
}
