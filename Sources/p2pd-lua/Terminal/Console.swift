import CNet
import Glibc
import Synchronization

/// Standard output and error as one place: a line that stays at the bottom (the prompt, a progress line) is taken away
/// before anything else is written and drawn again after it. Safe from any thread; each call is written whole.
final class Console: Sendable {
  static let shared = Console()

  /// Whether standard input, output and error are terminals.
  let inputIsTerminal = isatty(STDIN_FILENO) == 1
  let outputIsTerminal = isatty(STDOUT_FILENO) == 1
  let errorIsTerminal = isatty(STDERR_FILENO) == 1

  private struct Live {
    var line: String?
    var file: Int32 = STDERR_FILENO
  }
  private let live = Mutex(Live())
  /// Files that are no terminal know no live line: one that nobody reads holds up only those who write to it.
  private let plain = (output: Lock(), error: Lock())

  private final class Lock: Sendable { let mutex = Mutex(()) }

  /// Colours only on a terminal that can show them, and never where NO_COLOR is set (https://no-color.org).
  var colours: Bool { errorIsTerminal && Self.coloursAreWanted }

  /// The same for standard output.
  var outputColours: Bool { outputIsTerminal && Self.coloursAreWanted }

  private static var coloursAreWanted: Bool {
    guard (Environment.value("NO_COLOR") ?? "").isEmpty else { return false }
    return Environment.value("TERM") != "dumb"
  }

  /// The width of the terminal, 80 where it is unknown.
  var columns: Int {
    let width = Int(cnet_terminal_columns(outputIsTerminal ? STDOUT_FILENO : STDERR_FILENO))
    return width > 0 ? width : 80
  }

  /// Puts the line at the bottom (as ``LineEditor/render(columns:)`` gives it), or takes it away with nil.
  func setLive(_ line: String?, on file: Int32 = STDERR_FILENO) {
    live.withLock {
      if let line { _ = Files.writeAll(Array(line.utf8), to: file) } else if $0.line != nil { Self.erase($0) }
      $0 = Live(line: line, file: file)
    }
  }

  /// A line or more for people, to standard error. The text brings its own line end.
  func note(_ text: String) { write(Array(text.utf8), to: STDERR_FILENO, isTerminal: errorIsTerminal) }

  /// A result, to standard output. False where nobody reads it any more.
  @discardableResult
  func out(_ text: String) -> Bool { out(Array(text.utf8)) }

  @discardableResult
  func out(_ bytes: [UInt8]) -> Bool { write(bytes, to: STDOUT_FILENO, isTerminal: outputIsTerminal) }

  @discardableResult
  private func write(_ bytes: [UInt8], to file: Int32, isTerminal: Bool) -> Bool {
    guard isTerminal else {
      return (file == STDERR_FILENO ? plain.error : plain.output).mutex.withLock { _ in Files.writeAll(bytes, to: file)
      }
    }
    return live.withLock {
      guard let line = $0.line else { return Files.writeAll(bytes, to: file) }
      Self.erase($0)
      let written = Files.writeAll(bytes, to: file)
      _ = Files.writeAll(Array(line.utf8), to: $0.file)
      return written
    }
  }

  private static func erase(_ live: Live) { _ = Files.writeAll(Array("\r\u{1b}[K".utf8), to: live.file) }
}
