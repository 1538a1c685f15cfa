import NIOCore

extension Pipe {
  /// Ends the pipe and hands out the stream it stood on, the opposite of ``adopt(_:conf:sink:on:prepare:)``: for those who
  /// speak a few words as a pipe first (a relay's, say) and leave the stream to somebody else. The sink hears no end.
  ///
  /// Call it from the sink's own call, or while nothing was read that nobody took. The stream reads nothing until it has
  /// another owner. What a sink has got beyond its own words it puts in front of the stream with ``PrefacedTransport``.
  /// - Returns: nil where the pipe has ended, is a server or speaks UDP.
  public func release() -> Transport? {
    loop.assertInEventLoop()
    guard phase == .open, proto == .tcp, !isServer, !transportIsGone, inputEnd == nil, inbox.isEmpty,
      undecoded.readableBytes == 0
    else { return nil }
    sink = nil
    transport.setReading(false)
    transport.owner = nil
    finish(.local)
    return transport
  }
}
