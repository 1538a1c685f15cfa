import NIOCore

/// Relaying: what arrives on one pipe leaves on another, without a detour through the layers above.
extension Pipe {
  /// From now on every message that arrives here is sent on `other` too. When `other` is full this pipe stops
  /// reading (TCP) or drops (UDP). Two pipes that relay to each other are a tunnel: the end of one side's stream is
  /// passed on.
  /// - Throws: `badAddress` for the pipe itself, `closed` for one that has ended.
  public func addPipe(_ other: Pipe) throws(NetError) {
    guard other !== self else { throw NetError(.badAddress, "add_pipe", cause: "a pipe cannot relay to itself") }
    guard other.phase != .ended, phase != .ended else {
      throw NetError(.closed, "add_pipe", cause: "the pipe is closed")
    }
    guard !relays.contains(where: { $0 === other }) else { return }
    relays.append(other)
    other.feeders.append(WeakPipe(self))
    updateFastPath()
    while let message = inbox.popFirst() {
      message.bytes.withUnsafeReadableBytes { other.relayed($0, from: self) }
    }
    resumeReading()
  }

  /// Ends what ``addPipe(_:)`` began.
  public func removePipe(_ other: Pipe) {
    relays.removeAll { $0 === other }
    other.feeders.removeAll { $0.pipe === self || $0.pipe == nil }
    updateFastPath()
  }

  func relayed(_ bytes: UnsafeRawBufferPointer, from source: Pipe) {
    switch send(bytes, to: nil) {
    case .sent: break
    case .full:
      source.relaysFull += 1
      whenWritable { _ in
        source.relaysFull -= 1
        source.resumeReading()
      }
    case .failed: source.counters.dropped &+= 1
    }
  }

  func endRelays(_ reason: EndReason) {
    for other in relays {
      other.feeders.removeAll { $0.pipe === self || $0.pipe == nil }
      if other.relays.contains(where: { $0 === self }) { other.closeOutput() }
    }
    relays = []
    let sources = feeders
    feeders = []
    for source in sources { source.pipe?.removePipe(self) }
  }
}

/// A pipe that relays to this one must not be kept alive by it.
struct WeakPipe {
  weak var pipe: Pipe?
  init(_ pipe: Pipe) { self.pipe = pipe }
}
