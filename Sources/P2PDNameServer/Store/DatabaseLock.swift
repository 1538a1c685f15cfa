import Glibc
import P2PDNet

/// Keeps a second server off the same file: `flock` on a file beside it, since SQLite's own locks let two processes in, and
/// those that read (a backup) shall come in. The kernel lets go of it when the process ends, however it ends.
final class DatabaseLock: Sendable {
  private let descriptor: CInt

  init(beside path: String) throws(NetError) {
    let what = "open the names in \(path)"
    descriptor = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw NetError(errno: errno, what) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) != 0 else {
      Self.sign(descriptor)
      return
    }
    let number = errno
    let holder = Self.holder(descriptor)
    close(descriptor)
    guard number == EWOULDBLOCK else { throw NetError(errno: number, what) }
    throw NetError(
      .inUse, what, cause: "another name server\(holder.map { " (process \($0))" } ?? "") has it open",
      remedy: "Stop that one, or give each server a file of its own with --db.")
  }

  deinit { close(descriptor) }

  /// Only said to people; nothing relies on it.
  private static func sign(_ descriptor: CInt) {
    let text = Array("\(getpid())\n".utf8)
    _ = ftruncate(descriptor, 0)
    _ = text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
  }

  private static func holder(_ descriptor: CInt) -> Int? {
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    return Int(String(decoding: bytes.prefix(max(0, count)).prefix { $0 != 0x0a }, as: UTF8.self))
  }
}
