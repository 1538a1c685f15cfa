import CNet
import Glibc

/// The line editor at a terminal: decodes keys, draws the line, and does what concerns the terminal itself.
struct PromptLine {
  private var keys = KeyDecoder()
  private var editor: LineEditor
  private let console: Console
  /// Gives the names that may stand where the text ends, and how many of their letters are typed.
  private let completer: ((String) -> (names: [String], typed: Int))?
  /// Enter hands the line out and then nothing happens until ``resume(prompt:)``: keys typed meanwhile are kept, but
  /// for Control-C. The lines of a paste are lines.
  private let takesTurns: Bool
  private var isWaiting = false
  private var kept: [Key] = []

  init(
    history: History, console: Console, takesTurns: Bool = false,
    completer: ((String) -> (names: [String], typed: Int))? = nil
  ) {
    editor = LineEditor(prompt: "> ", history: history)
    editor.completes = completer != nil
    self.console = console
    self.takesTurns = takesTurns
    self.completer = completer
  }

  var history: History { editor.history }

  /// Takes the terminal over. ``cnet_terminal_restore()`` gives it back, also from a signal handler.
  func show() {
    cnet_terminal_raw(STDIN_FILENO)
    draw()
  }

  private func draw() { console.setLive(editor.render(columns: console.columns), on: STDOUT_FILENO) }

  /// Bytes from the keyboard; gives what concerns the conversation, the rest is done.
  mutating func type(_ bytes: [UInt8]) -> [LineEditor.Action] {
    let typed = keys.decode(bytes)
    guard isWaiting else { return handle(typed) }
    guard !typed.contains(.control("c")) else {
      kept = []
      return [.interrupt]
    }
    if kept.count < Self.mostKept { kept += typed }
    return []
  }

  /// The line that was handed out is dealt with: on with the next one.
  mutating func resume(prompt: String) -> [LineEditor.Action] {
    isWaiting = false
    editor.prompt = prompt
    draw()
    let typed = kept
    kept = []
    return handle(typed)
  }

  private mutating func handle(_ typed: [Key]) -> [LineEditor.Action] {
    var actions: [LineEditor.Action] = []
    let typed = takesTurns ? typed.flatMap(Self.lines) : typed
    for (index, key) in typed.enumerated() {
      let before = editor.line
      let action = editor.handle(key)
      switch action {
      case .redraw: draw()
      case .line(let line):
        // What was typed stays on the screen, above the answer to it.
        console.setLive(nil)
        console.out("\(editor.prompt)\(Printable.line(line))\n")
        actions.append(action)
        if takesTurns {
          isWaiting = true
          kept = Array(typed[(index + 1)...])
          return actions
        }
        draw()
      case .interrupt where !before.isEmpty:
        // As in a shell: the line is given up, not the program.
        console.setLive(nil)
        console.out("\(editor.prompt)\(Printable.line(before))^C\n")
        _ = editor.handle(.control("e"))
        _ = editor.handle(.control("u"))
        draw()
      case .end, .interrupt:
        console.setLive(nil)
        actions.append(action)
        return actions
      case .clearScreen:
        console.out("\u{1b}[H\u{1b}[2J")
        draw()
      case .suspend:
        console.setLive(nil)
        cnet_terminal_restore()
        kill(getpid(), SIGTSTP)
        show()
      case .complete(let text):
        if let (names, typed) = completer?(text) {
          let choice = editor.complete(with: names, typed: typed)
          if !choice.isEmpty { console.out(columns(choice)) }
        }
        draw()
      }
    }
    return actions
  }

  /// Each line of a paste as if it were typed.
  private static func lines(_ key: Key) -> [Key] {
    guard case .paste(let text) = key else { return [key] }
    let lines = text.replacing("\r\n", with: "\n").replacing("\r", with: "\n").split(
      separator: "\n", omittingEmptySubsequences: false)
    return lines.enumerated().flatMap { index, line -> [Key] in
      (index > 0 ? [.enter] : []) + (line.isEmpty ? [] : [.paste(String(line))])
    }
  }

  /// Names below each other, as many columns of them as fit.
  private func columns(_ names: [String]) -> String {
    let width = (names.map { TextWidth.columns($0) }.max() ?? 0) + 2
    let across = max(1, console.columns / max(1, width))
    let down = (names.count + across - 1) / across
    var out = ""
    for row in 0..<down {
      var line = ""
      for index in stride(from: row, to: names.count, by: down) {
        line += names[index] + String(repeating: " ", count: width - TextWidth.columns(names[index]))
      }
      out += Printable.line(line) + "\n"
    }
    return out
  }

  private static let mostKept = 64 << 10
}
