import CNet
import Glibc
import NIOPosix

/// Room for the datagrams of one system call: one batch a thread, since a thread reads one socket at a time. Never
/// leaves its thread.
final class DatagramBatch: @unchecked Sendable {
  private let raw: OpaquePointer

  /// The calling thread's batch; nil when memory is out.
  static var current: DatagramBatch? {
    if let known = perThread.currentValue { return known }
    let made = DatagramBatch()
    perThread.currentValue = made
    return made
  }

  private static let perThread = ThreadSpecificVariable<DatagramBatch>()

  private init?() {
    guard let raw = cnet_datagrams_make() else { return nil }
    self.raw = raw
  }

  deinit { cnet_datagrams_free(raw) }

  /// How many datagrams one call takes at most; fewer mean that no more waited.
  static let room = Int(cnet_datagrams_room)

  /// Takes what waits. -1 with errno when nothing does.
  func receive(_ fd: CInt) -> Int { Int(cnet_datagrams_receive(raw, fd)) }

  /// A datagram of the last ``receive(_:)``, valid until the next.
  subscript(index: Int) -> (bytes: UnsafeRawBufferPointer, sender: sockaddr_storage) {
    var length = 0
    let bytes = cnet_datagrams_bytes(raw, CInt(index), &length)
    return (UnsafeRawBufferPointer(start: bytes, count: length), cnet_datagrams_sender(raw, CInt(index)).pointee)
  }
}
