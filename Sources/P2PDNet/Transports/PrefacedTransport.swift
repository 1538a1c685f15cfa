import NIOCore

/// A stream some of whose first bytes were read already by whoever made it: they come first, then the rest as it comes.
public final class PrefacedTransport: Transport, TransportOwner, @unchecked Sendable {
  private let lower: Transport
  private let loop: any EventLoop
  private var preface: [UInt8]
  private var wantsReading = false
  private var isDue = false
  private var isOver = false
  /// The peer's end, which came before the first bytes were handed out.
  private var lateEnd: EndReason?

  /// - Parameter lower: a stream that nobody owns and nobody reads.
  /// - Returns: the stream itself where there is nothing to put in front of it.
  public static func over(_ lower: Transport, preface: [UInt8], on loop: any EventLoop) -> Transport {
    preface.isEmpty ? lower : PrefacedTransport(lower, preface, loop)
  }

  private init(_ lower: Transport, _ preface: [UInt8], _ loop: any EventLoop) {
    self.lower = lower
    self.loop = loop
    self.preface = preface
    super.init()
    localEndpoint = lower.localEndpoint
    remoteEndpoint = lower.remoteEndpoint
    heldBy = lower.heldBy
    lower.owner = self
    // Strong: whoever waits for the end of this one is told even when nobody else holds it any more.
    lower.whenGone { self.becomeGone() }
  }

  // MARK: From above

  override var unsent: Int { lower.unsent }
  override var isUnanswered: Bool { lower.isUnanswered }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    lower.send(header, body, to: peer, corked: corked)
  }

  override func uncork() { lower.uncork() }
  override func flush() { lower.flush() }
  override func closeOutput() { lower.closeOutput() }

  override func setReading(_ on: Bool) {
    wantsReading = on
    guard !preface.isEmpty else { return lower.setReading(on) }
    // On the next turn, as from a network: who begins to read is not called before that returns.
    guard on, !isDue else { return }
    isDue = true
    loop.assumeIsolated().execute { self.handOut() }
  }

  private func handOut() {
    isDue = false
    guard wantsReading, !isOver else { return }
    let bytes = preface
    preface = []
    bytes.withUnsafeBytes { owner?.received(stream: $0) }
    guard !isOver else { return }
    if let lateEnd { owner?.inputEnded(lateEnd) } else { lower.setReading(wantsReading) }
  }

  public override func close(linger: Bool) { finish { lower.close(linger: linger) } }
  public override func abort() { finish { lower.abort() } }

  private func finish(_ body: () -> Void) {
    guard !isOver else { return }
    isOver = true
    owner = nil
    preface = []
    body()
  }

  // MARK: From below

  /// What was read before reading was stopped may still come.
  func received(stream bytes: UnsafeRawBufferPointer) {
    if preface.isEmpty { owner?.received(stream: bytes) } else { preface += bytes }
  }

  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}

  func inputEnded(_ reason: EndReason) {
    if preface.isEmpty { owner?.inputEnded(reason) } else { lateEnd = reason }
  }

  func drained() { owner?.drained() }

  func transportEnded(_ reason: EndReason) {
    guard !isOver else { return }
    isOver = true
    let owner = owner
    self.owner = nil
    owner?.transportEnded(reason)
  }
}
