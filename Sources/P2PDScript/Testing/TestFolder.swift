import Glibc

/// The files of one test, in a folder of their own that goes with the test.
struct TestFolder {
  let path: String

  init() throws(Misuse) {
    let place = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(place)/p2pd-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Self.failure("make a folder for the test's files in \(place)") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Where a name inside the folder lies; a path that leads out of it is misuse.
  func place(_ name: String) throws(Misuse) -> String {
    if name.hasPrefix(path + "/") { return name }
    guard !name.isEmpty, !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
      throw Misuse("a test's file has a name inside the test's folder, like \"small.lua\"; not \"\(name)\"")
    }
    return "\(path)/\(name)"
  }

  func write(_ name: String, _ bytes: [UInt8]) throws(Misuse) -> String {
    let full = try place(name)
    for (index, byte) in full.utf8.enumerated() where byte == UInt8(ascii: "/") && index > path.utf8.count {
      mkdir(String(decoding: full.utf8.prefix(index), as: UTF8.self), 0o700)
    }
    // Beside it and then over it, as careful editors save: who watches the file sees the old or the new one.
    let beside = full + ".new"
    let file = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw Self.failure("write \(full)") }
    defer { close(file) }
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      guard count > 0 else { throw Self.failure("write \(full)") }
      rest = rest.dropFirst(count)
    }
    guard rename(beside, full) == 0 else { throw Self.failure("write \(full)") }
    return full
  }

  /// Takes it away with all that is in it.
  func remove() { Self.remove(path) }

  private static func remove(_ path: String) {
    var info = stat()
    guard lstat(path, &info) == 0 else { return }
    guard info.st_mode & S_IFMT == S_IFDIR else {
      unlink(path)
      return
    }
    if let folder = opendir(path) {
      var names: [String] = []
      while let entry = readdir(folder) {
        names.append(
          withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
      }
      closedir(folder)
      for name in names where name != "." && name != ".." { remove("\(path)/\(name)") }
    }
    rmdir(path)
  }

  private static func failure(_ what: String) -> Misuse {
    Misuse("cannot \(what): \(String(cString: strerror(errno)))")
  }
}
