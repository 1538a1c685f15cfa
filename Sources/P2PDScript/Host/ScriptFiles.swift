import Glibc

/// Finds and reads scripts in the file system. Blocking; a script is small.
package enum ScriptFiles {
  static func read(_ path: String) throws(ScriptError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure(path, "cannot be opened") }
    defer { close(file) }
    var info = stat()
    guard fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
      throw ScriptError(file: path, message: "\(path): is not a file")
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(file, &chunk, chunk.count)
      guard count >= 0 else { throw failure(path, "cannot be read") }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= largest else {
        throw ScriptError(file: path, message: "\(path): a script of more than \(largest >> 20) MiB is refused")
      }
    }
  }

  /// The same; nil where there is no such file.
  static func readIfThere(_ path: String) throws(ScriptError) -> [UInt8]? {
    var info = stat()
    if stat(path, &info) != 0, errno == ENOENT || errno == ENOTDIR { return nil }
    // A folder by that name is no file: `require` looks on.
    if info.st_mode & S_IFMT == S_IFDIR { return nil }
    return try read(path)
  }

  /// A data file's content; a large one is known by its size, time and number instead. nil: it cannot be read.
  static func hash(ofData path: String) -> ContentHash? {
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    guard info.st_size <= largestHashed, info.st_mode & S_IFMT == S_IFREG else {
      let mark = "\(info.st_size) \(info.st_mtim.tv_sec).\(info.st_mtim.tv_nsec) \(info.st_ino)"
      return ContentHash(of: Array(mark.utf8))
    }
    return ((try? read(path)) ?? nil).map { ContentHash(of: $0) }
  }

  /// The path as one that does not depend on where the process was started. Links stay: swapping one is a change.
  static func absolute(_ path: String, in folder: String) -> String {
    let joined = path.hasPrefix("/") ? path : folder + "/" + path
    guard !joined.hasPrefix("/"), let start = getcwd(nil, 0) else { return joined }
    defer { free(start) }
    return String(cString: start) + "/" + joined
  }

  /// The handler files a path stands for: itself, or a folder's `*.lua` in the order of their names, without tests
  /// and hidden files.
  static func handlers(at path: String) throws(ScriptError) -> [String] {
    var info = stat()
    guard stat(path, &info) == 0 else { throw failure(path, "cannot be opened") }
    guard info.st_mode & S_IFMT == S_IFDIR else { return [path] }
    guard let names = handlerNames(in: path) else { throw failure(path, "cannot be opened") }
    guard !names.isEmpty else { throw ScriptError(file: path, message: "\(path): the folder has no handler (*.lua)") }
    return names.map { path.hasSuffix("/") ? path + $0 : path + "/" + $0 }
  }

  /// The names of a folder's handler files, in order; nil with errno where it cannot be read.
  static func handlerNames(in path: String) -> [String]? {
    guard let folder = opendir(path) else { return nil }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if isHandler(name) { names.append(name) }
    }
    return names.sorted()
  }

  /// Whether a file of this name in a folder is a script; hidden files and the configuration are none.
  package static func isScript(_ name: String) -> Bool {
    name.hasSuffix(".lua") && !name.hasPrefix(".") && name != ConfigFile.fileName
  }

  /// Whether a file of this name in a hosted folder is a handler: a script, but no test of one.
  package static func isHandler(_ name: String) -> Bool { isScript(name) && !TestFile.isTest(name) }

  /// The last part of a path.
  static func fileName(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }

  /// The file's name without folder and `.lua`.
  static func baseName(_ path: String) -> String {
    let name = fileName(path)
    return name.hasSuffix(".lua") ? String(name.dropLast(4)) : name
  }

  /// The folder a path lies in.
  static func directory(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func failure(_ path: String, _ what: String) -> ScriptError {
    ScriptError(file: path, message: "\(path): \(what): \(String(cString: strerror(errno)))")
  }

  private static let largest = 16 << 20
  /// Takes some milliseconds.
  private static let largestHashed = 4 << 20
}
