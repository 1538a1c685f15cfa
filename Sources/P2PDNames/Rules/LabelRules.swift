import P2PDNet

/// What a label may consist of, and the one form it is kept in.
///
/// The profile is stricter than UTS 39's "highly restrictive" one. Letters of one script, the digits 0-9 and hyphens
/// inside; nothing invisible; nothing that Unicode's NFKC and case folding would change, but what is mapped here first:
/// capitals, full-width ASCII, letters typed with their accents apart. What is left is NFKC-normalised and case-folded.
/// A label all of whose letters look like Latin ones (``Lookalikes``) is refused.
///
/// The standard library's own Unicode tables serve: `changesWhenNFKCCaseFolded` is Unicode's property of that name, and
/// equality of characters is canonical equivalence. Foundation has NFKC ready, and behind it ICU: a static
/// library of 47 MB that the engine does without.
enum LabelRules {
  /// The full stop, and those that input methods of East Asia type in its place (UTS 46 §2.3).
  static func isDot(_ character: Character) -> Bool {
    character == "." || character == "\u{3002}" || character == "\u{ff0e}" || character == "\u{ff61}"
  }

  /// Whether a terminal shows it, as one thing and in its place.
  static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
    default: scalar == " " || !scalar.properties.isDefaultIgnorableCodePoint && !scalar.properties.isWhitespace
    }
  }

  static func label(_ text: String) throws(NetError) -> String {
    let wrong = Refusal(text)
    var mapped = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { mapped.append(contentsOf: try map(scalar, wrong)) }
    var label = String.UnicodeScalarView()
    for character in String(mapped) { label.append(contentsOf: Composition.composed(character)) }
    try check(Array(label), wrong)
    let result = String(label)
    guard result.utf8.count <= PeerName.longestLabel else {
      throw wrong(
        "it has \(result.utf8.count) bytes of UTF-8, at most \(PeerName.longestLabel) are allowed", "Shorten it.")
    }
    return result
  }

  static func tld(_ text: String) throws(NetError) -> String {
    let text = text.lowercased()
    let isPlain = text.utf8.allSatisfy { $0 == 0x2d || isDigit($0) || (0x61...0x7a).contains($0) }
    guard (1...longestTLD).contains(text.utf8.count), isPlain, !text.hasPrefix("-"), !text.hasSuffix("-"),
      !text.utf8.allSatisfy(isDigit)
    else {
      throw NetError(
        .badName, "read the ending \(quoted(text.prefix(40)))",
        cause: "it is not 1 to \(longestTLD) of the letters a-z, digits and inner hyphens, with a letter among them")
    }
    return text
  }

  // MARK: Steps

  /// What the scalar is kept as. Case folding is lower case of upper case where lower case alone is not enough: ſ, ß, ς.
  private static func map(_ scalar: Unicode.Scalar, _ wrong: Refusal) throws(NetError) -> [Unicode.Scalar] {
    if isDot(Character(scalar)) { return ["."] }
    guard isVisible(scalar), scalar != " " else {
      throw wrong("\(named(scalar)) in it cannot be seen", "Type the name instead of pasting it.")
    }
    if let folded = folds[scalar] { return [folded] }
    guard scalar.properties.changesWhenNFKCCaseFolded else { return [scalar] }
    if (0xff01...0xff5e).contains(scalar.value), let narrow = Unicode.Scalar(scalar.value - 0xfee0) {
      return Array(narrow.properties.lowercaseMapping.unicodeScalars)
    }
    let lower = scalar.properties.lowercaseMapping
    let candidates = [lower, scalar.properties.uppercaseMapping.lowercased()]
    for text in candidates where !text.unicodeScalars.contains(where: \.properties.changesWhenNFKCCaseFolded) {
      return Array(text.unicodeScalars)
    }
    throw wrong("\(named(scalar)) in it is a variant of another character", "Write the plain character.")
  }

  private static func check(_ label: [Unicode.Scalar], _ wrong: Refusal) throws(NetError) {
    let hyphen = "Begin and end it with a letter or a digit."
    for part in label.split(separator: ".", omittingEmptySubsequences: false) {
      guard let first = part.first, let last = part.last else {
        throw wrong(
          label.isEmpty ? "it is empty before its ending" : "it begins with a dot or has two in a row", hyphen)
      }
      if first == "-" || last == "-" { throw wrong("a part of it begins or ends with a hyphen", hyphen) }
      // RFC 5891 §4.2.3.1: the ASCII form of other letters, which would be a second name of the same looks.
      if part.starts(with: ["x", "n", "-", "-"]) {
        throw wrong("it begins with xn--", "Write it in its own letters.")
      }
    }
    var script: (is: Script, by: Unicode.Scalar)?
    for scalar in label where scalar != "." && scalar != "-" && !isDigit(scalar) {
      guard let found = Script(of: scalar) else { throw wrong(foreign: scalar) }
      if let script, script.is != found {
        let twin = Lookalikes.latin[scalar] ?? Lookalikes.latin[script.by]
        throw wrong(
          "it mixes \(script.is.rawValue) \(named(script.by)) and \(found.rawValue) \(named(scalar))"
            + (twin == nil ? "" : ", which look alike to people"), "Write all of it in one script.")
      }
      script = script ?? (found, scalar)
    }
    guard let script else { return }
    let letters = label.filter { Script(of: $0) != nil }
    if script.is != .latin, letters.allSatisfy({ Lookalikes.latin[$0] != nil }) {
      throw wrong(
        "its \(script.is.rawValue) letters all look like Latin ones (\(named(letters[0])))",
        "Write it in Latin letters, or with a letter that only \(script.is.rawValue) has.")
    }
    if script.is.isRightToLeft, let first = label.first, isDigit(first) {
      throw wrong("it is written from right to left and begins with a digit", "Begin it with a letter (RFC 5893 §2).")
    }
    if script.is == .eastAsian, let odd = Lookalikes.misplacedKana(label) {
      throw wrong("\(named(odd)) in it looks like another character there", "Write it in the usual characters.")
    }
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
  private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { (0x30...0x39).contains(scalar.value) }

  /// Letters that differ by language and look the same inside a word: Persian kaf and yeh, alef maksura.
  private static let folds: [Unicode.Scalar: Unicode.Scalar] = [
    "\u{6a9}": "\u{643}", "\u{6cc}": "\u{64a}", "\u{649}": "\u{64a}",
  ]
  /// RFC 1035 §2.3.4: a label of the DNS, so that a TLD may be one of its.
  static let longestTLD = 63
}

/// Words errors about one label.
private struct Refusal {
  private let text: String
  init(_ text: String) { self.text = text }

  func callAsFunction(_ why: String, _ remedy: String) -> NetError {
    NetError(.badName, "read the name \(quoted(text.prefix(60)))", cause: why, remedy: remedy)
  }

  func callAsFunction(foreign scalar: Unicode.Scalar) -> NetError {
    let remedy =
      switch scalar.properties.generalCategory {
      case .dashPunctuation, .mathSymbol, .connectorPunctuation: "Use the hyphen of the keyboard (-)."
      case .decimalNumber, .otherNumber, .letterNumber: "Use the digits 0-9."
      case .nonspacingMark, .spacingMark, .enclosingMark: "Leave the mark out, or use a letter that has it."
      default: "Use letters of one script, the digits 0-9 and hyphens. Scripts: \(Script.all)."
      }
    return self("\(named(scalar)) is not allowed in a name", remedy)
  }
}

/// `"а" (U+0430 CYRILLIC SMALL LETTER A)`.
private func named(_ scalar: Unicode.Scalar) -> String {
  let words = [codePoint(scalar), scalar.properties.name ?? ""].filter { !$0.isEmpty }.joined(separator: " ")
  return LabelRules.isVisible(scalar) ? "\"\(scalar)\" (\(words))" : words
}
