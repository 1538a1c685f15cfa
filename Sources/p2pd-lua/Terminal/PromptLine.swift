import CNet
import Glibc

/// The line editor at a terminal: decodes keys, draws the line, and does what concerns the terminal itself.
struct PromptLine {
  private var keys = KeyDecoder()
  private var editor: LineEditor
  private let console: Console

  init(history: History, console: Console) {
    editor = LineEditor(prompt: "> ", history: history)
    self.console = console
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
    var actions: [LineEditor.Action] = []
    for key in keys.decode(bytes) {
      let before = editor.line
      let action = editor.handle(key)
      switch action {
      case .redraw: draw()
      case .line(let line):
        // What was typed stays on the screen, above the answer to it.
        console.setLive(nil)
        console.out("\(editor.prompt)\(Printable.line(line))\n")
        draw()
        actions.append(action)
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
      }
    }
    return actions
  }
}
