/// One line being typed: text, cursor and history. It knows no terminal: keys go in, an action comes out, and
/// ``render(columns:)`` says what the line looks like now.
struct LineEditor: Sendable {
  enum Action: Equatable, Sendable {
    /// Nothing to do but draw the line again.
    case redraw
    /// Enter was pressed; the line is empty again.
    case line(String)
    /// Control-D on an empty line.
    case end
    /// Control-C.
    case interrupt
    /// Control-L.
    case clearScreen
    /// Control-Z.
    case suspend
    /// Tab, where the editor ``completes``: the text before the cursor. ``complete(with:typed:)`` goes on.
    case complete(String)
  }

  var prompt: String
  /// Tab asks for the rest of a name; else it is a tab.
  var completes = false
  var history: History
  private var text: [Character] = []
  private var cursor = 0
  /// What was deleted last with Control-K, -U or -W; Control-Y puts it back.
  private var killed: [Character] = []
  /// The place in the history, counted from the newest; nil while the own line is edited.
  private var place: Int?
  /// The own line, while the history is looked at.
  private var draft: [Character] = []

  init(prompt: String, history: History = History()) {
    self.prompt = prompt
    self.history = history
  }

  var line: String { String(text) }

  mutating func handle(_ key: Key) -> Action {
    switch key {
    case .text(let typed): insert(typed)
    // A line break in pasted text would send half of what was meant.
    case .paste(let pasted):
      insert(pasted.replacing("\r\n", with: " ").replacing("\n", with: " ").replacing("\r", with: " "))
    case .tab:
      let before = String(text[..<cursor])
      guard completes, before.contains(where: { !$0.isWhitespace }) else {
        insert("\t")
        break
      }
      return .complete(before)
    case .enter: return .line(finish())
    case .backspace: if cursor > 0 { remove(cursor - 1..<cursor, keep: false) }
    case .delete: if cursor < text.count { remove(cursor..<cursor + 1, keep: false) }
    case .left: cursor = max(0, cursor - 1)
    case .right: cursor = min(text.count, cursor + 1)
    case .home: cursor = 0
    case .end: cursor = text.count
    case .wordLeft: cursor = wordStart()
    case .wordRight: cursor = wordEnd()
    case .up: older()
    case .down: newer()
    case .control(let letter): return control(letter)
    }
    return .redraw
  }

  private mutating func control(_ letter: Character) -> Action {
    switch letter {
    case "a": cursor = 0
    case "e": cursor = text.count
    case "b": cursor = max(0, cursor - 1)
    case "f": cursor = min(text.count, cursor + 1)
    case "p": older()
    case "n": newer()
    case "k": remove(cursor..<text.count, keep: true)
    case "u": remove(0..<cursor, keep: true)
    case "w": remove(wordStart()..<cursor, keep: true)
    case "y": insert(String(killed))
    case "t": transpose()
    case "c": return .interrupt
    case "d":
      if text.isEmpty { return .end }
      if cursor < text.count { remove(cursor..<cursor + 1, keep: false) }
    case "l": return .clearScreen
    case "z": return .suspend
    default: break
    }
    return .redraw
  }

  // MARK: Editing

  private mutating func insert(_ added: String) {
    // A combining mark joins the letter before it, so the line is cut into characters anew.
    let head = Array(String(text[..<cursor]) + added)
    text = Array(String(head) + String(text[cursor...]))
    cursor = min(head.count, text.count)
  }

  private mutating func remove(_ range: Range<Int>, keep: Bool) {
    guard !range.isEmpty else { return }
    if keep { killed = Array(text[range]) }
    text.removeSubrange(range)
    cursor = range.lowerBound
  }

  private mutating func transpose() {
    guard cursor > 0, text.count > 1 else { return }
    let right = min(cursor, text.count - 1)
    text.swapAt(right - 1, right)
    cursor = right + 1
  }

  private func wordStart() -> Int {
    var index = cursor
    while index > 0, text[index - 1].isWhitespace { index -= 1 }
    while index > 0, !text[index - 1].isWhitespace { index -= 1 }
    return index
  }

  private func wordEnd() -> Int {
    var index = cursor
    while index < text.count, text[index].isWhitespace { index += 1 }
    while index < text.count, !text[index].isWhitespace { index += 1 }
    return index
  }

  private mutating func finish() -> String {
    let line = String(text)
    history.add(line)
    text = []
    cursor = 0
    place = nil
    return line
  }

  /// Takes the names that fit after ``Action/complete(_:)`` and puts in as much as they have in common.
  /// - Parameter typed: how many letters of them stand before the cursor already.
  /// - Returns: the names, where nothing more can be put in and a person has to choose.
  mutating func complete(with names: [String], typed: Int) -> [String] {
    guard var common = names.first else { return [] }
    for name in names.dropFirst() { common = String(zip(common, name).prefix { $0 == $1 }.map(\.0)) }
    let rest = String(common.dropFirst(typed))
    if !rest.isEmpty { insert(rest) }
    return rest.isEmpty && names.count > 1 ? names : []
  }

  // MARK: History

  private mutating func older() {
    let next = place.map { $0 + 1 } ?? 0
    guard let line = history.entry(next) else { return }
    if place == nil { draft = text }
    show(Array(line), place: next)
  }

  private mutating func newer() {
    guard let place else { return }
    if place > 0, let line = history.entry(place - 1) {
      show(Array(line), place: place - 1)
    } else {
      show(draft, place: nil)
    }
  }

  private mutating func show(_ line: [Character], place: Int?) {
    text = line
    cursor = line.count
    self.place = place
  }

  // MARK: Drawing

  /// The prompt and the part of the line around the cursor that fits into `columns`, with what moves the terminal's
  /// cursor there. It begins at the left edge and leaves the rest of the line blank; it never wraps.
  func render(columns: Int) -> String {
    let columns = columns > 0 ? columns : Self.usualColumns
    let promptWidth = TextWidth.columns(prompt)
    // One column stays free: a cursor behind the last column wraps on some terminals.
    let room = max(4, columns - promptWidth - 1)
    let shown = text.map { $0 == "\t" ? " " : $0 }
    var start = cursor
    var before = 0
    while start > 0, before + TextWidth.columns(shown[start - 1]) <= room - 1 {
      start -= 1
      before += TextWidth.columns(shown[start])
    }
    var end = cursor
    var width = before
    while end < shown.count, width + TextWidth.columns(shown[end]) <= room {
      width += TextWidth.columns(shown[end])
      end += 1
    }
    var out = "\r" + prompt + Printable.line(String(shown[start..<end])) + "\u{1b}[K\r"
    let column = promptWidth + before
    if column > 0 { out += "\u{1b}[\(column)C" }
    return out
  }

  private static let usualColumns = 80
}
