import CNet
import Glibc

/// The datagrams of one socket that are read together, before the first of them is handed out. One serves all sockets of a
/// loop, since it reads one at a time. A handle that nobody counts: the loop frees it.
///
/// Each is read with a call of its own. recvmmsg(2) takes many with one, but costs the kernel as much more for each as the
/// calls it spares (measured: the same for sixteen datagrams, 1.6 times as much for one).
struct DatagramBatch {
  /// The loop's buffer, which nobody else uses while a socket is read.
  private let input: UnsafeMutableRawBufferPointer
  private let senders: UnsafeMutablePointer<sockaddr_storage>
  private let pieces: UnsafeMutablePointer<(start: Int, count: Int)>

  init(reading input: UnsafeMutableRawBufferPointer) {
    self.input = input
    senders = .allocate(capacity: Self.room)
    senders.initialize(repeating: sockaddr_storage(), count: Self.room)
    pieces = .allocate(capacity: Self.room)
    pieces.initialize(repeating: (0, 0), count: Self.room)
  }

  func free() {
    senders.deallocate()
    pieces.deallocate()
  }

  /// Reads until nothing waits, up to `most` datagrams, fewer where they are long. 0 with errno when the first call failed.
  @inline(__always)
  func receive(_ fd: CInt, _ most: Int) -> Int {
    var (count, end) = (0, 0)
    repeat {
      let length = cnet_receive_from(fd, input.baseAddress?.advanced(by: end), Self.longest, senders + count)
      if length < 0 { break }
      pieces[count] = (end, length)
      count &+= 1
      // The next one's bytes begin a line of the processor's cache.
      end = (end &+ length &+ 63) & ~63
    } while count < most && input.count &- end >= Self.longest
    return count
  }

  /// A datagram of the last ``receive(_:_:)``, valid until the next.
  @inline(__always)
  func bytes(_ index: Int) -> UnsafeRawBufferPointer {
    let piece = pieces[index]
    return UnsafeRawBufferPointer(start: input.baseAddress?.advanced(by: piece.start), count: piece.count)
  }

  /// Who sent it.
  @inline(__always)
  func sender(_ index: Int) -> UnsafePointer<sockaddr_storage> { UnsafePointer(senders + index) }

  /// Datagrams read together at most.
  static let room = 32
  /// Bytes: more than any datagram has.
  private static let longest = 64 << 10
}
