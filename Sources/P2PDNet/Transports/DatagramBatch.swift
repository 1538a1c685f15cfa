import CNet
import Glibc

/// Room for the datagrams of one system call. One serves all sockets of a loop, since it reads one at a time.
final class DatagramBatch {
  private let raw: OpaquePointer

  /// nil when memory is out.
  init?() {
    guard let raw = cnet_datagrams_make() else { return nil }
    self.raw = raw
  }

  deinit { cnet_datagrams_free(raw) }

  /// How many datagrams one call takes at most; fewer mean that no more waited.
  static let room = Int(cnet_datagrams_room)

  /// Takes what waits. -1 with errno when nothing does.
  func receive(_ fd: CInt) -> Int { Int(cnet_datagrams_receive(raw, fd)) }

  /// A datagram of the last ``receive(_:)``, valid until the next.
  @inline(__always)
  func bytes(_ index: Int) -> UnsafeRawBufferPointer {
    var length = 0
    let bytes = cnet_datagrams_bytes(raw, CInt(index), &length)
    return UnsafeRawBufferPointer(start: bytes, count: length)
  }

  /// Who sent it.
  @inline(__always)
  func sender(_ index: Int) -> UnsafePointer<sockaddr_storage> { cnet_datagrams_sender(raw, CInt(index)) }
}
