import NIOCore

/// A pipe whose stream came to stand on another path.
extension Pipe {
  /// Takes the addresses of the path that its transport stands on now (``MovingTransport/moved``), and tells the sink.
  /// Counters go on; the round trip is unknown until the next ping came back.
  /// - Parameters: what ``strategy`` and ``path`` say from now on.
  public func moved(strategy: String, path: String) {
    loop.assertInEventLoop()
    guard phase != .ended else { return }
    (self.strategy, self.path) = (strategy, path)
    whyNoBetter = nil
    localEndpoint = transport.localEndpoint
    family = localEndpoint?.ip.family
    heldBy = transport.heldBy
    counters.rtt = nil
    if let remote = transport.remoteEndpoint, remote != peer?.endpoint {
      // A message may be on its way with it, uncounted.
      formerPeer = peer
      peer = Peer(remote)
    }
    sink?.pipeMoved(self)
  }
}
