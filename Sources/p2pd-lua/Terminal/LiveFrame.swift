/// A view that is drawn again and again at the same place of a terminal. It knows no terminal: it gives what to write.
struct LiveFrame: Sendable {
  private var height = 0

  /// What puts the text where the last one was. It is cut to what the terminal has, so that nothing scrolls.
  mutating func draw(_ text: String, rows: Int, columns: Int) -> String {
    let room = max(1, rows > 0 ? rows - 1 : 23)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).prefix(room)
    // Back to the first line of the last frame, then line over line: no flicker.
    var out = height > 1 ? "\u{1b}[\(height - 1)A\r" : "\r"
    for (index, line) in lines.enumerated() {
      if index > 0 { out += "\n" }
      out += Self.cut(String(line), columns > 0 ? columns : 80) + "\u{1b}[K"
    }
    height = lines.count
    return out + "\u{1b}[J"
  }

  private static func cut(_ line: String, _ columns: Int) -> String {
    var width = 0
    var out = ""
    for character in line {
      width += TextWidth.columns(character)
      if width >= columns { return out + "…" }
      out.append(character)
    }
    return out
  }
}
