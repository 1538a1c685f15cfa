import Glibc

/// One of inotify(7)'s events.
struct InotifyEvent: Equatable, Sendable {
  /// Which watch; -1 in what is about the queue itself.
  var watch: Int32
  var mask: UInt32
  /// The name in the watched folder; empty where the event is about the folder itself.
  var name: String

  /// Events were lost: the kernel's queue was full.
  var isOverflow: Bool { has(IN_Q_OVERFLOW) }
  func has(_ bits: some BinaryInteger) -> Bool { mask & UInt32(truncatingIfNeeded: bits) != 0 }
}

/// What read(2) gives of an inotify descriptor, as events.
enum InotifyCodec {
  /// The events of a buffer, in their order. The kernel writes whole ones; what is cut short is left out, and
  /// with it all that follows.
  static func events(in bytes: UnsafeRawBufferPointer) -> [InotifyEvent] {
    var events: [InotifyEvent] = []
    var rest = bytes[...]
    while rest.count >= headLength {
      // struct inotify_event: wd(4) mask(4) cookie(4) len(4) name(len), the name padded with zeros.
      let head = UnsafeRawBufferPointer(rebasing: rest.prefix(headLength))
      let watch = head.loadUnaligned(fromByteOffset: 0, as: Int32.self)
      let mask = head.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
      let length = Int(head.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
      rest = rest.dropFirst(headLength)
      guard length <= rest.count else { break }
      let name = String(decoding: rest.prefix(length).prefix { $0 != 0 }, as: UTF8.self)
      rest = rest.dropFirst(length)
      events.append(InotifyEvent(watch: watch, mask: mask, name: name))
    }
    return events
  }

  private static let headLength = 16
}
