import CNet
import Glibc
import NIOCore

/// A listening socket of the kernel: it only accepts and closes.
final class ListenerTransport: KernelTransport, @unchecked Sendable {
  private let options: StreamOptions
  /// Dropped when it closes, since the owner mostly holds the listener.
  private var acceptor: (any ListenerOwner)?
  private let path: String?
  private var pause: LoopTimer?

  /// - Parameter path: the file of a Unix-domain socket, removed with the listener.
  init(_ descriptor: CInt, path: String?, _ options: StreamOptions, _ acceptor: any ListenerOwner, on loop: KernelLoop)
  {
    self.options = options
    self.acceptor = acceptor
    self.path = path
    super.init(descriptor, on: loop)
    localEndpoint = path == nil ? KernelSocket.localEndpoint(of: descriptor) : nil
    loop.assumeIsolated().execute { self.listen() }
  }

  private func listen() {
    guard descriptor >= 0, !watch(Ready.input) else { return }
    end(.error(NetError(errno: ENOMEM, "listen")))
  }

  override func ready(_ flags: UInt32) {
    for _ in 0..<Self.acceptsPerWake {
      guard descriptor >= 0, let acceptor else { return }
      var peer = sockaddr_storage()
      var length = socklen_t()
      let accepted = cnet_accept(descriptor, &peer, &length)
      guard accepted >= 0 else {
        if isExhausted(0 &- accepted) { return }
        continue
      }
      let remote = Endpoint(peer)
      if let words = acceptor.refusal(of: remote) {
        if !words.isEmpty {
          _ = words.withUnsafeBytes { cnet_send(accepted, $0.baseAddress, $0.count) }
        }
        Glibc.close(accepted)
        continue
      }
      if remote != nil { KernelSocket.apply(options, to: accepted) }
      let stream = StreamTransport(connected: accepted, from: remote, on: loop)
      stream.heldBy = heldBy
      acceptor.accepted(stream)
    }
  }

  /// What a failed accept means. True: no more for now.
  private func isExhausted(_ number: CInt) -> Bool {
    switch number {
    case EAGAIN: return true
    case EMFILE, ENFILE, ENOBUFS, ENOMEM:
      // Out of descriptors: asking again at once would spin. The kernel's backlog holds the callers meanwhile.
      _ = watch(0)
      pause = loop.after(Self.pauseTime) { [weak self] in self?.listen() }
      return true
    case EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT:
      end(.error(NetError(errno: number, "accept")))
      return true
    // One caller's trouble, not the listener's: accept(2) passes on what its connection met.
    default: return false
    }
  }

  override func close(linger: Bool) { end(nil) }
  override func loopEnds() { end(.local) }

  private func end(_ reason: EndReason?) {
    guard descriptor >= 0 else { return }
    releaseDescriptor()
    if let path { unlink(path) }
    if let pause { loop.cancel(pause) }
    acceptor = nil
    let owner = owner
    self.owner = nil
    if let owner {
      loop.keep(owner)
      if let reason { owner.transportEnded(reason) }
    }
    becomeGone()
  }

  /// Connections taken before other sockets get their turn.
  private static let acceptsPerWake = 64
  private static let pauseTime = TimeAmount.milliseconds(100)
}
