import CNet
@preconcurrency import Dispatch
import Glibc

/// SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a second ends the process at once, even where its
/// loop is stuck (the handler in C does that by itself). A SIGHUP may have another meaning, as often as it comes.
final class Signals: @unchecked Sendable {
  /// Only kept, so that it goes on.
  private let source: any DispatchSourceRead

  /// - Parameters:
  ///   - hangup: called at each SIGHUP that is not the end of the process's terminal, if given; else a SIGHUP ends it.
  ///   - first: called once, on a queue of its own, with the signal's number.
  init(hangup: (@Sendable () -> Void)? = nil, first: @escaping @Sendable (Int32) -> Void) throws {
    let pipe = cnet_catch_signals()
    guard pipe >= 0 else { throw Failure(errno: "cannot catch signals") }
    let wasIgnored = hangup != nil && cnet_hangup_is_message() != 0
    let hadTerminal = !wasIgnored && cnet_has_terminal() != 0
    let source = DispatchSource.makeReadSource(fileDescriptor: pipe, queue: DispatchQueue(label: "p2pd.signals"))
    source.setEventHandler {
      var byte: UInt8 = 0
      guard read(pipe, &byte, 1) == 1 else { return }
      // A terminal that is gone is no `kill -HUP`: its window was closed, and nobody could stop what went on.
      if let hangup, Int32(byte) == SIGHUP, !hadTerminal || cnet_has_terminal() != 0 { return hangup() }
      Self.endSoon()
      first(Int32(byte))
    }
    source.resume()
    self.source = source
  }

  /// The end was asked for: from now on it comes, whatever hangs.
  static func endSoon() { cnet_end_within(deadline) }

  static func name(_ number: Int32) -> String {
    switch number {
    case commanded: "asked to stop"
    case SIGINT: "SIGINT"
    case SIGTERM: "SIGTERM"
    case SIGHUP: "SIGHUP"
    default: "signal \(number)"
    }
  }

  /// No signal, but `p2pd-lua stop`.
  static let commanded: Int32 = 0

  /// Seconds after which a process that cannot come to its end is ended; below the 5 s it promises.
  private static let deadline: UInt32 = 5
}
