/// A script whose letters names may have. Letters only, no combining marks: where a script needs them (those of India,
/// Thai) two spellings can look the same, and a rule for each would have to say which is meant.
enum Script: String, CaseIterable {
  case latin = "Latin"
  case greek = "Greek"
  case cyrillic = "Cyrillic"
  case armenian = "Armenian"
  case georgian = "Georgian"
  case hebrew = "Hebrew"
  case arabic = "Arabic"
  case hangul = "Hangul"
  /// Han and kana, which Japanese writes together.
  case eastAsian = "Han and kana"

  /// nil for what is no letter, or a letter that names may not have.
  init?(of scalar: Unicode.Scalar) {
    let value = scalar.value
    if (0x61...0x7a).contains(value) {
      self = .latin
      return
    }
    guard value >= 0x80, !Self.left.contains(value), !scalar.properties.changesWhenNFKCCaseFolded,
      let entry = Self.ranges.first(where: { $0.1.contains(value) })
    else { return nil }
    self = entry.0
  }

  var isRightToLeft: Bool { self == .hebrew || self == .arabic }

  static let all = allCases.map(\.rawValue).joined(separator: ", ")

  /// Unicode 15's letters of modern languages. Capitals and compatibility forms in between change when folded, and so
  /// are none.
  static let ranges: [(Script, ClosedRange<UInt32>)] = [
    (.latin, 0xe0...0xf6), (.latin, 0xf8...0x17e),
    // ơ ư, the tones of pinyin, ș ț, ə, Welsh, Vietnamese.
    (.latin, 0x1a1...0x1a1), (.latin, 0x1b0...0x1b0), (.latin, 0x1ce...0x1dc), (.latin, 0x219...0x21b),
    (.latin, 0x259...0x259), (.latin, 0x1e80...0x1e85), (.latin, 0x1ea0...0x1ef9),
    (.greek, 0x390...0x390), (.greek, 0x3ac...0x3ce),
    (.cyrillic, 0x430...0x45f), (.cyrillic, 0x490...0x4f9),
    (.armenian, 0x561...0x586), (.georgian, 0x10d0...0x10f0), (.hebrew, 0x5d0...0x5ea),
    // Arabic, and پ چ ژ گ.
    (.arabic, 0x621...0x63a), (.arabic, 0x641...0x64a), (.arabic, 0x67e...0x67e), (.arabic, 0x686...0x686),
    (.arabic, 0x698...0x698), (.arabic, 0x6af...0x6af),
    (.hangul, 0xac00...0xd7a3),
    (.eastAsian, 0x3005...0x3005), (.eastAsian, 0x3041...0x3096), (.eastAsian, 0x30a1...0x30fa),
    (.eastAsian, 0x30fc...0x30fc), (.eastAsian, 0x3400...0x4dbf), (.eastAsian, 0x4e00...0x9ffc),
  ]

  /// In the ranges, and left out: ı and ĸ look like i and k.
  private static let left: Set<UInt32> = [0x131, 0x138]
}

/// Letters typed in parts, as letters. (NFC of what ``Script`` allows.)
enum Composition {
  /// The one scalar that is canonically equivalent to the character; without one, the character's own scalars.
  static func composed(_ character: Character) -> [Unicode.Scalar] {
    let parts = Array(character.unicodeScalars)
    guard parts.count > 1 else { return parts }
    if let whole = letters.firstIndex(of: character) { return Array(letters[whole].unicodeScalars) }
    return syllable(parts).map { [$0] } ?? parts
  }

  /// Equality of characters is canonical equivalence, so the set finds é by e and an accent, in any order of accents.
  private static let letters: Set<Character> = {
    var all: Set<Character> = []
    for (script, range) in Script.ranges where script != .hangul && range.count < 0x200 {
      for value in range { if let scalar = Unicode.Scalar(value) { all.insert(Character(scalar)) } }
    }
    return all
  }()

  /// The Unicode Standard §3.12: Hangul syllables are counted, not listed.
  private static func syllable(_ parts: [Unicode.Scalar]) -> Unicode.Scalar? {
    guard parts.count <= 3 else { return nil }
    let first = parts[0].value
    var value: UInt32
    var rest = parts.dropFirst()
    if (0x1100...0x1112).contains(first), let vowel = rest.popFirst()?.value, (0x1161...0x1175).contains(vowel) {
      value = 0xac00 + ((first - 0x1100) * 21 + vowel - 0x1161) * 28
    } else if (0xac00...0xd7a3).contains(first), (first - 0xac00) % 28 == 0 {
      value = first
    } else {
      return nil
    }
    if let last = rest.popFirst()?.value {
      guard (0x11a8...0x11c2).contains(last) else { return nil }
      value += last - 0x11a7
    }
    return rest.isEmpty ? Unicode.Scalar(value) : nil
  }
}
