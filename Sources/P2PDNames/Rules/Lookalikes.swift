/// Letters that people take for others (after Unicode's confusables.txt, UTS 39 §4, with those added that only some fonts
/// keep apart).
enum Lookalikes {
  /// Letters of other scripts, and what they look like. A label of nothing else could be read as a Latin one.
  static let latin: [Unicode.Scalar: Character] = {
    var table: [Unicode.Scalar: Character] = [:]
    for (letters, twins) in pairs {
      for (letter, twin) in zip(letters.unicodeScalars, twins) { table[letter] = twin }
    }
    return table
  }()

  static let pairs = [
    // Cyrillic. Of ӏ the small form; з and б look like digits.
    ("\u{430}\u{435}\u{43e}\u{440}\u{441}\u{443}\u{445}\u{455}\u{456}\u{458}\u{4bb}\u{4cf}", "aeopcyxsijhl"),
    ("\u{433}\u{43a}\u{43f}\u{44c}\u{437}\u{431}\u{4af}\u{4ab}\u{45b}\u{4d9}\u{4d5}", "rknb36yçħəæ"),
    ("\u{450}\u{451}\u{457}\u{4d1}\u{4d3}\u{4d7}\u{4e7}\u{45e}\u{4f1}\u{4f3}\u{45c}", "èëïăäĕöyyyk"),
    // Greek.
    ("\u{3b1}\u{3b3}\u{3b7}\u{3b9}\u{3ba}\u{3bd}\u{3bf}\u{3c1}\u{3c3}\u{3c4}\u{3c5}\u{3c7}\u{3c9}", "aynikvopotuxw"),
    ("\u{3ac}\u{3ae}\u{3af}\u{3cc}\u{3cd}\u{3ce}\u{3ca}\u{3cb}\u{390}\u{3b0}", "áńíóúẃïüïü"),
    // Armenian.
    ("\u{57d}\u{578}\u{570}\u{585}\u{575}\u{566}\u{581}\u{572}\u{57c}\u{584}\u{561}\u{582}", "unhojqgnnfwi"),
    // Hebrew and Arabic letters that are a stroke or a ring.
    ("\u{5e1}\u{5d5}\u{5df}\u{627}\u{647}", "olllo"),
    // Han and kana.
    ("\u{4e28}\u{4e00}\u{30fc}", "l--"),
  ]

  /// A character of a Japanese label that could be another: a Han or hiragana one that looks like katakana and touches
  /// some, katakana of nothing but lookalikes, or a long-vowel mark that follows no kana.
  static func misplacedKana(_ label: [Unicode.Scalar]) -> Unicode.Scalar? {
    for (index, scalar) in label.enumerated() {
      let before = index > 0 ? label[index - 1] : nil
      let after = index + 1 < label.count ? label[index + 1] : nil
      if scalar == longVowel {
        guard let before, isKana(before) else { return scalar }
      } else if likeKatakana.contains(scalar), [before, after].contains(where: { $0.map(isKatakana) ?? false }) {
        return scalar
      }
    }
    let katakana = label.filter { isKatakana($0) && $0 != longVowel }
    return katakana.allSatisfy(ambiguousKatakana.contains) ? katakana.first : nil
  }

  private static func isKatakana(_ scalar: Unicode.Scalar) -> Bool { (0x30a1...0x30fc).contains(scalar.value) }
  private static func isKana(_ scalar: Unicode.Scalar) -> Bool { (0x3041...0x30fc).contains(scalar.value) }

  private static let longVowel: Unicode.Scalar = "\u{30fc}"
  /// 工 力 夕 卜 二 八 口 一 三 へ べ ぺ り
  private static let likeKatakana = Set("工力夕卜二八口一三へべぺり".unicodeScalars)
  private static let ambiguousKatakana = Set("エカタトニハロミヘベペリ".unicodeScalars)
}
