import Dispatch
import Glibc
import NIOCore

/// Reads standard input on a thread of its own, since a file or a pipe cannot be waited for on the event loop. One piece
/// is on its way at a time: the next is read when the last one was asked for.
final class InputReader: Sendable {
  enum Piece: Sendable {
    case bytes([UInt8])
    case end
    /// The error number of the read.
    case failed(Int32)
  }

  private let queue = DispatchQueue(label: "p2pd.input")
  private let next = DispatchSemaphore(value: 0)
  private let loop: any EventLoop

  init(loop: any EventLoop) { self.loop = loop }

  /// Gives the pieces to `take` on the event loop, beginning now.
  func start(_ take: @escaping @Sendable (Piece) -> Void) {
    more()
    queue.async { [next, loop] in
      while true {
        next.wait()
        let piece = Self.read()
        loop.execute { take(piece) }
        guard case .bytes = piece else { return }
      }
    }
  }

  /// The last piece is dealt with.
  func more() { next.signal() }

  private static func read() -> Piece {
    while true {
      var failure: Int32 = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: pieceSize) { buffer, count in
        let got = Glibc.read(STDIN_FILENO, buffer.baseAddress, buffer.count)
        if got < 0 { failure = errno }
        count = max(0, got)
      }
      switch failure {
      case 0: return bytes.isEmpty ? .end : .bytes(bytes)
      case EINTR: continue
      case EAGAIN:
        // Another program made the shared descriptor non-blocking.
        var ready = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        poll(&ready, 1, -1)
      // A job in the background whose terminal went away, or no descriptor at all: there is no input.
      case EIO, EBADF: return .end
      default: return .failed(failure)
      }
    }
  }

  /// Bytes that are left to read where standard input is a file; nil where it is something else.
  static var remaining: Int? {
    var info = stat()
    guard fstat(STDIN_FILENO, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return nil }
    return max(0, Int(info.st_size) - max(0, Int(lseek(STDIN_FILENO, 0, SEEK_CUR))))
  }

  private static let pieceSize = 64 << 10
}
