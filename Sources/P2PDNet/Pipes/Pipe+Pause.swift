/// Holding the peer back without a sink's help.
extension Pipe {
  /// Hands out and reads nothing more until a ``resume()`` for each pause: the kernel's buffers fill, and the peer has to
  /// wait. What was read already stays in order.
  public func pause() {
    loop.assertInEventLoop()
    relaysFull += 1
    updateReading()
  }

  /// Ends one ``pause()``.
  public func resume() {
    loop.assertInEventLoop()
    guard relaysFull > 0 else { return }
    relaysFull -= 1
    if relaysFull == 0 { resumeReading() }
  }
}
