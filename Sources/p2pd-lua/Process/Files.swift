import Glibc
import P2PDScript

/// The few things the command line does with files, by the C library.
enum Files {
  /// The file's bytes, or nil where it cannot be read or is longer than `limit`; errno says why.
  static func read(_ path: String, atMost limit: Int) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(file, &piece, piece.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return nil }
      if count == 0 { return bytes }
      bytes += piece[..<count]
      if bytes.count > limit {
        errno = EFBIG
        return nil
      }
    }
  }

  /// Makes the file new and writes it; fails with EEXIST where there is one. False with errno on failure.
  static func create(_ path: String, with bytes: [UInt8], mode: mode_t = 0o666) -> Bool {
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0 else { return false }
    let written = writeAll(bytes, to: file)
    let why = errno
    guard close(file) == 0, written else {
      unlink(path)
      errno = why
      return false
    }
    return true
  }

  /// Writes beside the file and renames over it, so that a reader sees the old or the new one, never half of it.
  static func replace(_ path: String, with bytes: [UInt8], mode: mode_t) -> Bool {
    let beside = "\(path).\(getpid()).new"
    unlink(beside)
    guard create(beside, with: bytes, mode: mode) else { return false }
    guard rename(beside, path) == 0 else {
      unlink(beside)
      return false
    }
    return true
  }

  /// Writes all bytes, however many calls it takes. False with errno on failure.
  static func writeAll(_ bytes: some Collection<UInt8>, to file: Int32) -> Bool { Descriptor.write(bytes, to: file) }

  /// Standard input, output and error that were closed lead to /dev/null: else the next socket would have the number, and
  /// a peer would get what is printed.
  static func fillStandardDescriptors() {
    for file in STDIN_FILENO...STDERR_FILENO where fcntl(file, F_GETFD) < 0 { _ = open("/dev/null", O_RDWR) }
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func isDirectory(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
  }

  /// The names in a folder, sorted, without `.` and `..`; nil where it cannot be read.
  static func names(in folder: String) -> [String]? {
    guard let directory = opendir(folder) else { return nil }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Makes the folder and those above it that are missing, for the owner only (XDG Base Directory, "0700").
  static func makeFolder(_ path: String) -> Bool {
    if isDirectory(path) { return true }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex, !makeFolder(String(path[..<slash])) {
      return false
    }
    return mkdir(path, 0o700) == 0 || errno == EEXIST
  }
}
