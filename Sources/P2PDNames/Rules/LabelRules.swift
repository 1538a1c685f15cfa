import P2PDNet

/// What a label may consist of.
enum LabelRules {
  static func isDot(_ character: Character) -> Bool { character == "." }

  static func isVisible(_ scalar: Unicode.Scalar) -> Bool { scalar.value > 0x20 && scalar.value < 0x7f }

  static func label(_ text: String) throws(NetError) -> String {
    guard !text.isEmpty, text.utf8.count <= PeerName.longestLabel,
      text.utf8.allSatisfy({ $0 == 0x2d || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20) })
    else {
      throw NetError(.badName, "read the name \(quoted(text))", cause: "it has other characters than a-z, 0-9 and -")
    }
    return text.lowercased()
  }

  static func tld(_ text: String) throws(NetError) -> String {
    let text = text.lowercased()
    let isPlain = text.utf8.allSatisfy {
      $0 == 0x2d || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0)
    }
    guard (1...longestTLD).contains(text.utf8.count), isPlain, !text.hasPrefix("-"), !text.hasSuffix("-"),
      !text.utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else {
      throw NetError(
        .badName, "read the ending \(quoted(text.prefix(40)))",
        cause: "it is not 1 to \(longestTLD) of the letters a-z, digits and inner hyphens, with a letter among them")
    }
    return text
  }

  /// RFC 1035 §2.3.4: a label of the DNS, so that a TLD may be one of its.
  static let longestTLD = 63
}
