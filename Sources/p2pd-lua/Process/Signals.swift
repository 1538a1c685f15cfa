import CNet
@preconcurrency import Dispatch
import Glibc

/// SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a second ends the process at once, even where its
/// loop is stuck (the handler in C does that by itself).
final class Signals: @unchecked Sendable {
  /// Only kept, so that it goes on.
  private let source: any DispatchSourceRead

  /// - Parameter first: called once, on a queue of its own, with the signal's number.
  init(first: @escaping @Sendable (Int32) -> Void) throws {
    let pipe = cnet_catch_signals()
    guard pipe >= 0 else { throw Failure(errno: "cannot catch signals") }
    let source = DispatchSource.makeReadSource(fileDescriptor: pipe, queue: DispatchQueue(label: "p2pd.signals"))
    source.setEventHandler {
      var byte: UInt8 = 0
      guard read(pipe, &byte, 1) == 1 else { return }
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
