import NIOCore

/// Who a transport reports to: a ``Pipe``, or the TLS that stands between. Calls come on the loop.
protocol TransportOwner: AnyObject {
  /// Bytes of the stream, valid during the call only.
  func received(stream bytes: UnsafeRawBufferPointer)
  /// A datagram, valid during the call only.
  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer)
  /// The peer ended its side of the stream; ours may still be open.
  func inputEnded(_ reason: EndReason)
  /// Some of what had to wait is out.
  func drained()
  /// Once, and the last of all: the transport is gone. Not called for a transport that its owner closed.
  func transportEnded(_ reason: EndReason)
}

/// What moves one pipe's bytes: the seam behind which sockets, TLS or a network in memory stand. A transport does no
/// framing and keeps no messages. Confined to its loop.
///
/// A new transport reads nothing until its owner is set and ``setReading(_:)`` was called. Whoever made it keeps it alive
/// until it is closed, so an owner need not.
public class Transport: @unchecked Sendable {
  /// Strong, until the transport is closed or has ended: a pipe that ends in the middle of a read is still there when
  /// the read returns.
  var owner: (any TransportOwner)?

  /// Our own address; nil for Unix-domain sockets.
  public internal(set) final var localEndpoint: Endpoint?
  /// The peer's; nil for Unix-domain sockets, listeners and datagram sockets that hear everybody.
  public internal(set) final var remoteEndpoint: Endpoint?
  /// How it is held to the interface asked for; nil where none was.
  public internal(set) final var heldBy: InterfaceBinding.Hold?

  /// Its resources are given back.
  public private(set) final var isGone = false
  private final var goneWaiters: [() -> Void] = []

  init() {}

  /// Bytes taken by `send` that the network has not got yet.
  var unsent: Int { 0 }

  /// What was sent has been sent again and again, for some seconds, and nothing came back: the path is dead, or as good as
  /// that. A peer that answers and does not read is none of that.
  var isUnanswered: Bool { false }

  /// Sends `header.count` bytes, the body and an optional newline as one piece. `to` is for datagrams.
  /// `corked`: more follows at once, so small pieces may wait for ``uncork()``.
  func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? { nil }

  func uncork() {}

  /// What waits for company, corked or not, goes out now: afterwards ``unsent`` is what the network did not take.
  func flush() { uncork() }

  /// The object that stands for an address: the one known, or a new one in the form the socket needs.
  func peer(for endpoint: Endpoint) -> Peer { Peer(endpoint) }

  /// Begins, stops or goes on reading. What was read before the stop may still be delivered.
  func setReading(_ on: Bool) {}

  /// Ends our side of the stream once everything unsent is out.
  func closeOutput() {}

  /// Ends it: the owner hears nothing more. Its resources go at once, or (`linger`) after the peer had the chance to
  /// read what the network still holds; unsent bytes are dropped. Harmless when it has ended.
  public func close(linger: Bool) {}

  /// Ends a stream at once with a reset (RFC 9293 §3.10.5): the peer learns of it even over unsent bytes, and no end keeps
  /// the connection's two ports (TIME_WAIT). For connections that were one too many.
  public func abort() { close(linger: false) }

  /// Calls back when the resources are given back, at once if they are.
  public final func whenGone(_ body: @escaping () -> Void) {
    if isGone { body() } else { goneWaiters.append(body) }
  }

  /// For transports: to be called once, after everything else.
  final func becomeGone() {
    guard !isGone else { return }
    isGone = true
    let waiters = goneWaiters
    goneWaiters = []
    for waiter in waiters { waiter() }
  }
}

/// The few bytes in front of and behind a message on a stream.
struct FrameHeader {
  /// Already in network order from the first byte of the value on.
  var word: UInt32 = 0
  var count = 0
  var newline = false

  static let none = FrameHeader()

  init() {}

  init(_ framing: Framing, length: Int, control: Bool = false) {
    switch framing {
    case .raw: break
    case .line: newline = true
    case .u16:
      word = UInt32(UInt16(truncatingIfNeeded: length).bigEndian)
      count = 2
    case .u32, .message:
      word = (UInt32(truncatingIfNeeded: length) | (control ? 0x8000_0000 : 0)).bigEndian
      count = 4
    }
  }

  var total: Int { count + (newline ? 1 : 0) }
}
