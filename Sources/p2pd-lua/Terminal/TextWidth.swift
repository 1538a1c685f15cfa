/// How many columns a terminal gives to text: 0 for marks that sit on the letter before, 2 for wide letters, 1 else.
/// A close guess is enough here; where a terminal disagrees, only the cursor's column is off until the next redraw.
enum TextWidth {
  static func columns(_ text: some Sequence<Character>) -> Int {
    var sum = 0
    for character in text { sum += columns(character) }
    return sum
  }

  static func columns(_ character: Character) -> Int {
    guard let first = character.unicodeScalars.first else { return 0 }
    if first.isASCII { return first.value < 0x20 || first.value == 0x7f ? 0 : 1 }
    // U+FE0F asks for the emoji form, which is wide.
    if character.unicodeScalars.contains("\u{fe0f}") { return 2 }
    switch first.properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .format, .control: return 0
    default: break
    }
    if first.properties.isEmojiPresentation { return 2 }
    return wide.contains { $0.contains(first.value) } ? 2 : 1
  }

  /// The blocks that Unicode's EastAsianWidth.txt gives as W or F, joined where only unassigned ones lie between.
  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115f, 0x2e80...0x303e, 0x3041...0x33ff, 0x3400...0x4dbf, 0x4e00...0x9fff, 0xa000...0xa4cf,
    0xa960...0xa97f, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe30...0xfe6f, 0xff00...0xff60, 0xffe0...0xffe6,
    0x16fe0...0x18cff, 0x1b000...0x1b2ff, 0x20000...0x3fffd,
  ]
}
