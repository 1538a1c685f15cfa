import Glibc

/// What the kernel says of this process.
enum ProcessFacts {
  /// Bytes of memory it has in use; nil where /proc does not say.
  static var residentBytes: Int? {
    guard let text = Files.read("/proc/self/statm", atMost: 256) else { return nil }
    let fields = String(decoding: text, as: UTF8.self).split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// Open descriptors, that of the reading itself left out.
  static var openDescriptors: Int? { Files.names(in: "/proc/self/fd").map { $0.count - 1 } }
}
