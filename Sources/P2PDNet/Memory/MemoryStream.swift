import NIOCore

/// One end of a stream between two simulated hosts. What is sent waits for room at the other end, travels as the link
/// has it, and arrives in order. A piece that meets a cut link is sent again, later each time, until the sender gives up.
final class MemoryStream: Transport, @unchecked Sendable {
  /// Tells streams of a host apart, in the order they were made.
  let number: UInt64
  private let host: MemoryHost
  private(set) var other: MemoryHost
  private var far: MemoryStream?
  private var resetsOnClose: Bool

  private enum Piece {
    case bytes(ByteBuffer)
    case end, reset
  }

  // Out.
  private var pending = ByteBuffer()
  /// Bytes the other end has room for.
  private var room = window
  private var wantsEnd = false
  private var hasSentEnd = false
  private var lastArrival = NIODeadline.uptimeNanoseconds(0)
  /// Pieces that did not get through, in order.
  private var stuck: [Piece] = []
  private var retry = firstRetry
  private var waited = TimeAmount.zero

  // In.
  private var inbox = CircularBuffer<Piece>()
  private var isReading = false
  private var isHandingOut = false
  private var hasHeardEnd = false
  private(set) var isClosed = false
  private var isLingering = false

  static func pair(
    _ a: MemoryHost, _ aEndpoint: Endpoint?, _ b: MemoryHost, _ bEndpoint: Endpoint?, _ options: StreamOptions
  ) -> (MemoryStream, MemoryStream) {
    let near = MemoryStream(a, b, aEndpoint, bEndpoint, options)
    let far = MemoryStream(b, a, bEndpoint, aEndpoint, options)
    (near.far, far.far) = (far, near)
    return (near, far)
  }

  private init(
    _ host: MemoryHost, _ other: MemoryHost, _ local: Endpoint?, _ remote: Endpoint?, _ options: StreamOptions
  ) {
    self.host = host
    self.other = other
    number = host.nextStream()
    resetsOnClose = options.linger == 0
    super.init()
    (localEndpoint, remoteEndpoint) = (local, remote)
    host.add(self)
  }

  // MARK: Out

  override var unsent: Int { pending.readableBytes }
  override var isUnanswered: Bool { !stuck.isEmpty && waited >= Self.unanswered }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard !isClosed, !wantsEnd else { return NetError(.closed, "send", cause: "the pipe is closed") }
    if header.count > 0 { withUnsafeBytes(of: header.word) { _ = pending.writeBytes($0.prefix(header.count)) } }
    pending.writeBytes(body)
    if header.newline { pending.writeInteger(UInt8(0x0a)) }
    if !corked { push() }
    return nil
  }

  override func uncork() { push() }

  override func closeOutput() {
    wantsEnd = true
    push()
  }

  /// Puts on the way what the other end has room for.
  private func push() {
    while room > 0, pending.readableBytes > 0 {
      let count = min(pending.readableBytes, room)
      guard let piece = pending.readSlice(length: count) else { break }
      room -= count
      transmit(.bytes(piece))
    }
    if pending.readableBytes == 0 {
      pending.clear()
      if wantsEnd { sendEnd() }
    }
  }

  private func sendEnd() {
    guard !hasSentEnd else { return }
    hasSentEnd = true
    transmit(.end)
  }

  private func transmit(_ piece: Piece) {
    var size = 0
    if case .bytes(let bytes) = piece { size = bytes.readableBytes }
    let delay = host.net.streamDelay(size, from: host, to: other, firstRetry: Self.firstRetry)
    lastArrival = max(lastArrival, host.time.now + delay)
    host.time.after(lastArrival - host.time.now) { self.reach(piece) }
  }

  /// The piece is at the other end, unless the link is cut or an earlier piece still waits.
  private func reach(_ piece: Piece) {
    guard let far else { return }
    guard stuck.isEmpty, !host.net.isCut(host, other) else {
      stuck.append(piece)
      if stuck.count == 1 { waitToRetry() }
      return
    }
    far.arrived(piece)
    partIfDone()
  }

  private func waitToRetry() {
    let pause = retry
    retry = min(retry + retry, Self.longestRetry)
    host.time.after(pause) {
      guard self.far != nil, !self.stuck.isEmpty else { return }
      self.waited = self.waited + pause
      if self.host.net.isCut(self.host, self.other) {
        return self.waited < Self.patience ? self.waitToRetry() : self.giveUp()
      }
      (self.retry, self.waited) = (Self.firstRetry, .zero)
      let pieces = self.stuck
      self.stuck = []
      for piece in pieces { self.transmit(piece) }
    }
  }

  private func giveUp() { drop(.timeout) }

  // MARK: In

  override func setReading(_ on: Bool) {
    isReading = on
    if on, !inbox.isEmpty { host.time.execute { self.handOut() } }
  }

  private func arrived(_ piece: Piece) {
    guard !isClosed else {
      guard case .bytes(let bytes) = piece else { return forget() }
      // Nobody is here any more: data is answered by a reset, unless the owner lets the peer finish.
      return isLingering ? makeRoom(bytes.readableBytes) : transmit(.reset)
    }
    inbox.append(piece)
    handOut()
  }

  private func handOut() {
    guard !isHandingOut else { return }
    isHandingOut = true
    defer { isHandingOut = false }
    while isReading, !isClosed, let piece = inbox.popFirst() {
      switch piece {
      case .bytes(let bytes):
        makeRoom(bytes.readableBytes)
        bytes.withUnsafeReadableBytes { owner?.received(stream: $0) }
      case .end:
        hasHeardEnd = true
        owner?.inputEnded(.closed)
      case .reset: drop(.reset)
      }
    }
  }

  /// Tells the other end that as many bytes were read.
  private func makeRoom(_ count: Int) {
    guard let far else { return }
    host.time.execute {
      far.room += count
      guard !far.isClosed, far.pending.readableBytes > 0 else { return }
      far.push()
      far.owner?.drained()
    }
  }

  // MARK: Ending

  override func close(linger: Bool) {
    guard !isClosed else { return }
    isClosed = true
    owner = nil
    pending.clear()
    let unread = inbox.reduce(0) { if case .bytes(let bytes) = $1 { $0 + bytes.readableBytes } else { $0 } }
    inbox.removeAll()
    // tcp(7), RFC 2525 §2.17: closing over unread data is a reset, which the peer may see before what was sent last.
    if resetsOnClose || unread > 0 && !linger { transmit(.reset) } else { sendEnd() }
    isLingering = linger
    if linger, unread > 0 { makeRoom(unread) }
    if hasHeardEnd || !linger {
      leave()
    } else {
      host.time.after(Self.lingerTime) {
        self.isLingering = false
        self.leave()
      }
    }
  }

  override func abort() {
    resetsOnClose = true
    close(linger: false)
  }

  /// Ends without a word to the other end.
  func drop(_ reason: EndReason) {
    let told = owner
    isClosed = true
    owner = nil
    pending.clear()
    inbox.removeAll()
    stuck = []
    far = nil
    leave()
    told?.transportEnded(reason)
  }

  func resetBothEnds() {
    far?.arrived(.reset)
    arrived(.reset)
  }

  /// A listener does not want the caller: it gets these bytes, and the end.
  func cutOff(after words: [UInt8]) {
    if !words.isEmpty { words.withUnsafeBytes { _ = send(.none, $0, to: nil, corked: false) } }
    close(linger: true)
  }

  private func forget() {
    isLingering = false
    leave()
  }

  private func leave() {
    host.remove(self)
    becomeGone()
    partIfDone()
  }

  /// The two hold each other while either is open or something is on the way.
  private func partIfDone() {
    guard let far, isClosed, far.isClosed, stuck.isEmpty, far.stuck.isEmpty else { return }
    guard max(lastArrival, far.lastArrival) <= host.time.now else { return }
    far.far = nil
    self.far = nil
  }

  /// What the kernel's two buffers of a connection hold together, about.
  private static let window = 512 << 10
  /// RFC 6298 §5, with the kernel's smallest and longest times.
  private static let firstRetry = TimeAmount.milliseconds(200)
  private static let longestRetry = TimeAmount.seconds(120)
  /// tcp(7), `tcp_retries2`: 15 times.
  private static let patience = TimeAmount.milliseconds(924_600)
  /// Five retransmissions.
  private static let unanswered = TimeAmount.seconds(6)
  private static let lingerTime = TimeAmount.seconds(2)
}
