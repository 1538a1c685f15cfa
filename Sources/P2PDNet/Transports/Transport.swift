import NIOCore

/// What moves one pipe's bytes: the seam behind which another engine than swift-nio may stand. A transport does no
/// framing and keeps no messages. It tells its pipe, on the pipe's loop:
/// `received(stream:)` or `received(datagram:from:)`, `inputEnded(_:)`, `drained()` and, last of
/// all and once, `transportEnded(_:)`.
class Transport: @unchecked Sendable {
  /// The pipe owns its transport; the transport holds the pipe until its channel is gone, so that a pipe that ends in
  /// the middle of a read is still there when the read returns.
  var pipe: Pipe?
  /// The pipe has let go: nothing is told to it any more.
  var isDetached = false

  init() {}

  /// Bytes taken by `send` that the kernel has not got yet.
  var unsent: Int { 0 }

  /// Writes `header.count` bytes, the body and an optional newline as one piece. `to` is for datagrams.
  /// `corked`: more follows at once, so small pieces may wait for ``uncork()``.
  func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? { nil }

  func uncork() {}

  /// The object that stands for an address: the one known, or a new one in the form the socket needs.
  func peer(for endpoint: Endpoint) -> Peer { Peer(endpoint) }

  /// Stops or goes on asking the kernel for data.
  func setReading(_ on: Bool) {}

  /// Ends our side of the stream once everything unsent is out.
  func closeOutput() {}

  /// Frees the descriptor: at once, or (`linger`) after the peer had the chance to read what the kernel still holds.
  func close(linger: Bool) {}
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
