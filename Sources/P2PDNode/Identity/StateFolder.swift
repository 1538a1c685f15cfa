import Glibc
import P2PDNet

/// The folder in which a node keeps what must outlive it: its key, its port. Mode 0700.
///
/// Every call blocks on the disk, so none belongs on an event loop's thread. Failures are ``NetError`` with the path
/// in them.
public struct StateFolder: Sendable {
  public let path: String

  /// Opens the folder, making it and its parents if they are missing.
  public init(_ path: String) throws {
    self.path = path
    try Self.makeDirectories(path)
  }

  /// `$XDG_STATE_HOME/p2pd-lua`, or `~/.local/state/p2pd-lua` (XDG base directory specification 0.8); nil without a
  /// home.
  public static var defaultPath: String? {
    // The specification: a path that is not absolute is to be ignored.
    if let base = getenv("XDG_STATE_HOME").map({ String(cString: $0) }), base.hasPrefix("/") {
      return base + "/p2pd-lua"
    }
    if let home = getenv("HOME").map({ String(cString: $0) }), home.hasPrefix("/") {
      return home + "/.local/state/p2pd-lua"
    }
    return nil
  }

  public func path(of name: String) -> String { path + "/" + name }

  /// The file's bytes, nil if there is none. A `secret` must belong to this user and be closed to everybody else.
  func read(_ name: String, maximum: Int, secret: Bool = false) throws -> [UInt8]? {
    let file = path(of: name)
    let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if descriptor < 0, errno == ENOENT { return nil }
    guard descriptor >= 0 else {
      if errno == ELOOP {
        throw NetError(.permission, "read \(file)", cause: "it is a symbolic link; put the file itself there")
      }
      throw NetError(file: errno, "read \(file)")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw NetError(file: errno, "read \(file)") }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw NetError(.io, "read \(file)", cause: "it is no regular file")
    }
    if secret {
      guard status.st_uid == geteuid() else {
        throw NetError(
          .permission, "read \(file)",
          cause: "it belongs to user \(status.st_uid), not to you; fix: chown \(geteuid()) '\(file)'")
      }
      guard status.st_mode & 0o077 == 0 else {
        let mode = String(status.st_mode & 0o777, radix: 8)
        throw NetError(
          .permission, "read \(file)", cause: "others can read this secret key (mode \(mode)); fix: chmod 600 '\(file)'"
        )
      }
    }
    var bytes = [UInt8](repeating: 0, count: maximum)
    var filled = 0
    while filled < maximum {
      let count = bytes.withUnsafeMutableBytes {
        Glibc.read(descriptor, $0.baseAddress?.advanced(by: filled), maximum - filled)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw NetError(file: errno, "read \(file)") }
      if count == 0 { break }
      filled += count
    }
    return Array(bytes.prefix(filled))
  }

  /// Puts the bytes there as a whole or not at all, mode 0600: a new file beside it, flushed, renamed over it. Call
  /// inside ``locked(_:)``.
  func write(_ bytes: [UInt8], to name: String) throws {
    let file = path(of: name)
    let fresh = file + ".new"
    unlink(fresh)  // what a process that died in here left behind; the lock says nobody is using it
    let descriptor = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw NetError(file: errno, "write \(file)") }
    var failure: Int32 = 0
    var written = 0
    while written < bytes.count, failure == 0 {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: written), bytes.count - written)
      }
      if count < 0 { if errno != EINTR { failure = errno } } else { written += count }
    }
    // The umask may have taken the owner's own bits.
    if failure == 0, fchmod(descriptor, 0o600) != 0 { failure = errno }
    if failure == 0, fsync(descriptor) != 0 { failure = errno }
    if close(descriptor) != 0, failure == 0 { failure = errno }
    if failure == 0, rename(fresh, file) != 0 { failure = errno }
    guard failure == 0 else {
      unlink(fresh)
      throw NetError(file: failure, "write \(file)")
    }
    // The rename itself must outlive a power cut; a file system without it is no reason to refuse to start.
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  /// Runs `body` while no other process is in here. The kernel lets go of the lock if this process dies.
  func locked<T>(_ body: () throws -> T) throws -> T {
    let descriptor = open(path(of: ".lock"), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw NetError(file: errno, "lock \(path)") }
    defer { close(descriptor) }
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw NetError(file: errno, "lock \(path)") }
    }
    return try body()
  }

  /// Marks the folder as that of a running node until the mark is dropped. nil: another process has it.
  func claim() -> Claim? {
    let descriptor = open(path(of: ".running"), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { return nil }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      return nil
    }
    return Claim(descriptor)
  }

  final class Claim: Sendable {
    private let descriptor: Int32
    fileprivate init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
  }

  private static func makeDirectories(_ path: String) throws {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFDIR else {
        throw NetError(.io, "use the state folder \(path)", cause: "it is no folder")
      }
      return
    }
    guard errno == ENOENT else { throw NetError(file: errno, "use the state folder \(path)") }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try makeDirectories(String(path[..<slash])) }
    // EEXIST: another process was faster.
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
      throw NetError(file: errno, "make the state folder \(path)")
    }
  }
}

extension NetError {
  /// A file operation's error: the socket calls' reading of the same numbers ("bad address") would mislead.
  fileprivate init(file number: Int32, _ what: String) {
    let code: Code =
      switch number {
      case EACCES, EPERM, EROFS: .permission
      case EMFILE, ENFILE, ENOSPC, EDQUOT: .limit
      default: .io
      }
    self.init(code, what, cause: String(cString: strerror(number)))
  }
}
