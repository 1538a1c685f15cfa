import CNet
import Glibc
import NIOCore

/// A transport that is a descriptor of the kernel, watched by a ``KernelLoop``.
class KernelTransport: Transport, @unchecked Sendable {
  /// The loop that holds this transport as long as the descriptor is open, and therefore outlives it. Unowned without a
  /// check, since it is asked on the road of every message.
  final unowned(unsafe) let loop: KernelLoop
  /// -1 once it is closed.
  final var descriptor: CInt
  /// Kept by the loop.
  final var place = -1
  final var isWatched = false
  private final var watched: UInt32 = 0

  init(_ descriptor: CInt, on loop: KernelLoop) {
    self.loop = loop
    self.descriptor = descriptor
    super.init()
    loop.adopt(self)
  }

  /// The descriptor is ready, or in trouble: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLERR, EPOLLHUP.
  func ready(_ flags: UInt32) {}

  /// Others are ready too: reads for the batch where that serves it well. False: it wants ``ready(_:)``.
  func join(_ batch: StreamBatch, _ flags: UInt32) -> Bool { false }

  /// The loop is shut down.
  func loopEnds() { close(linger: false) }

  /// Watches for these events; one system call, and none where nothing changes.
  final func watch(_ flags: UInt32) -> Bool {
    if isWatched, flags == watched { return true }
    watched = flags
    return loop.watch(self, flags)
  }

  /// Asks once more for what is watched: what the kernel told once, it tells again if it still holds.
  final func watchAnew() {
    if isWatched { _ = loop.watch(self, watched) }
  }

  /// Closes the descriptor.
  final func releaseDescriptor() {
    guard descriptor >= 0 else { return }
    loop.release(self)
  }

  /// What SO_ERROR holds; the kernel forgets it by that.
  final func takeError() -> CInt {
    var number: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &length) == 0 ? number : errno
  }
}

/// epoll's bits as plain numbers.
enum Ready {
  static let input = EPOLLIN.rawValue
  static let output = EPOLLOUT.rawValue
  static let peerEnded = EPOLLRDHUP.rawValue
  static let failed = EPOLLERR.rawValue
  static let hungUp = EPOLLHUP.rawValue
  /// TCP's urgent data, before which a read stops.
  static let urgent = EPOLLPRI.rawValue
  /// What happens is told once. Without it the kernel looks at each descriptor it has told of a second time, to find that
  /// nothing is left: a twentieth of the cost of a small message.
  static let once = EPOLLET.rawValue
}
