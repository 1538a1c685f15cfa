import Testing

@testable import p2pd_lua

/// What a person types, and the line that comes of it.
@Suite struct LineEditorTests {
  /// Types bytes and gives the actions that are more than a redraw.
  private func type(_ text: String, into editor: inout LineEditor) -> [LineEditor.Action] {
    var decoder = KeyDecoder()
    return decoder.decode(Array(text.utf8)).map { editor.handle($0) }.filter { $0 != .redraw }
  }

  private func typed(_ text: String) -> String {
    var editor = LineEditor(prompt: "> ")
    _ = type(text, into: &editor)
    return editor.line
  }

  @Test(arguments: [
    ("plain", "hello", "hello"),
    ("backspace", "helloo\u{7f}", "hello"),
    ("backspace at the start", "\u{7f}a", "a"),
    ("left and insert", "hllo\u{1b}[D\u{1b}[D\u{1b}[De", "hello"),
    ("Control-A and Control-E", "ello\u{1}h\u{5}!", "hello!"),
    ("Home and End in two dialects", "ell\u{1b}[1~h\u{1b}[4~o\u{1b}OH.\u{1b}OF.", ".hello."),
    ("Control-K", "hello world\u{1b}[1;5D\u{b}", "hello "),
    ("Control-U", "hello world\u{1b}[1;5D\u{15}", "world"),
    ("Control-W", "hello cruel world  \u{17}", "hello cruel "),
    ("Control-W, then Control-Y", "a b\u{17}\u{1}\u{19}", "ba "),
    ("Control-T", "ab\u{14}", "ba"),
    ("delete", "abc\u{1}\u{1b}[3~", "bc"),
    ("Control-D in the middle", "abc\u{1}\u{4}", "bc"),
    ("Alt-B and Alt-F", "one two\u{1b}bX\u{1b}f!", "one Xtwo!"),
    ("unknown sequences are swallowed", "a\u{1b}[15~\u{1b}[?1;2cb", "ab"),
    ("letters of several bytes", "grün\u{7f}\u{7f}ün", "grün"),
    ("an emoji of several scalars is one letter", "a👨‍👩‍👧\u{7f}b", "ab"),
    ("a combining mark joins its letter", "e\u{301}x\u{7f}\u{7f}", ""),
    ("pasted line breaks do not send", "\u{1b}[200~one\r\ntwo\nthree\u{1b}[201~", "one two three"),
  ]) func edits(_ name: String, _ keys: String, _ expected: String) {
    #expect(typed(keys) == expected, "\(name)")
  }

  @Test func takesBytesInAnyPieces() {
    let keys = "grün\u{1b}[D\u{1b}[1;5D\u{1b}[3~x👍\u{1b}[200~a\nb\u{1b}[201~"
    let whole = typed(keys)
    var editor = LineEditor(prompt: "")
    var decoder = KeyDecoder()
    for byte in keys.utf8 {
      for key in decoder.decode([byte]) { _ = editor.handle(key) }
    }
    #expect(editor.line == whole)
    #expect(whole == "x👍a brün")
  }

  @Test func bytesThatAreNoTextAreLeftOut() {
    var decoder = KeyDecoder()
    #expect(decoder.decode([0xff, 0x80, UInt8(ascii: "a"), 0xc3, UInt8(ascii: "b")]) == [.text("a"), .text("b")])
  }

  @Test func enterGivesTheLineAndBeginsANewOne() {
    var editor = LineEditor(prompt: "> ")
    #expect(type("one\rtwo\r", into: &editor) == [.line("one"), .line("two")])
    #expect(editor.line.isEmpty)
  }

  @Test func endsAndInterrupts() {
    var editor = LineEditor(prompt: "> ")
    #expect(type("\u{4}", into: &editor) == [.end])
    #expect(type("a\u{3}", into: &editor) == [.interrupt])
    #expect(type("\u{c}\u{1a}", into: &editor) == [.clearScreen, .suspend])
  }

  @Test func historyGoesBackAndForthAndKeepsTheDraft() {
    var editor = LineEditor(prompt: "> ", history: History(lines: ["one"]))
    _ = type("two\rdraft\u{1b}[A", into: &editor)
    #expect(editor.line == "two")
    _ = type("\u{1b}[A\u{1b}[A", into: &editor)
    #expect(editor.line == "one")
    _ = type("\u{1b}[B\u{1b}[B", into: &editor)
    #expect(editor.line == "draft")
  }

  @Test func historyLeavesOutRepeatsEmptiesAndWhatBeginsWithASpace() {
    var history = History(limit: 3)
    for line in ["a", "a", "", " secret", "b", "c", "d"] { history.add(line) }
    #expect(history.lines == ["b", "c", "d"])
    #expect(history.entry(0) == "d")
    #expect(history.entry(3) == nil)
  }

  @Test func drawsWhatFitsAroundTheCursor() {
    var editor = LineEditor(prompt: "> ")
    _ = type("0123456789", into: &editor)
    #expect(editor.render(columns: 80) == "\r> 0123456789\u{1b}[K\r\u{1b}[12C")
    // 2 columns of prompt, 1 kept free: 7 are left, one of them for the cursor behind the last letter.
    #expect(editor.render(columns: 10) == "\r> 456789\u{1b}[K\r\u{1b}[8C")
    _ = type("\u{1}", into: &editor)
    #expect(editor.render(columns: 10) == "\r> 0123456\u{1b}[K\r\u{1b}[2C")
  }

  @Test func wideLettersTakeTwoColumns() {
    var editor = LineEditor(prompt: "> ")
    _ = type("日本e\u{301}", into: &editor)
    #expect(editor.render(columns: 80).hasSuffix("\u{1b}[7C"))
    #expect(TextWidth.columns("日本") == 4)
    #expect(TextWidth.columns("e\u{301}👍🏽ü") == 4)
  }
}
