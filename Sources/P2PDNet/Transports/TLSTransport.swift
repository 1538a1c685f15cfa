import NIOCore
import NIOSSL

/// TLS on a stream: the owner of the transport below, and a transport itself. BoringSSL does the work, driven by
/// swift-nio-ssl's handler in a ``TLSChannel``.
///
/// Closing sends TLS's own end (`close_notify`, RFC 8446 §6.1) and does not wait for the peer's. An end of the stream
/// without it is a reset, since it may have been cut short.
public final class TLSTransport: Transport, TransportOwner, @unchecked Sendable {
  /// Is this the certificate chain (leaf first) of the peer wanted? nil for yes, or why not.
  public typealias Verify = (_ chain: [NIOSSLCertificate]) -> NetError?

  /// What both sides agreed on with ALPN (RFC 7301).
  public private(set) var negotiatedProtocol: String?

  private let lower: Transport
  private let channel: TLSChannel
  private var done: ((Result<TLSTransport, any Error>) -> Void)?
  private var refusal: NetError?
  private var phase = Phase.handshake
  /// Plaintext of corked sends.
  private var corked = ByteBuffer()
  /// Plaintext that came before somebody was there to take it.
  private var early = ByteBuffer()
  private var sawEarlyEnd = false
  private var isRead = false

  private enum Phase { case handshake, open, over }

  /// Begins a client's handshake on a connected stream that nobody reads yet.
  /// - Parameters:
  ///   - serverName: sent (SNI) and checked against the certificate; nil sends none. No IP address (RFC 6066 §3).
  ///   - verify: takes the place of the usual check.
  ///   - done: called once, on the loop: the handshake is done and nothing that follows it was handed out yet, or what
  ///     went wrong; not after ``close(linger:)``.
  public static func client(
    over lower: Transport, context: NIOSSLContext, serverName: String?, verify: Verify? = nil, on loop: any EventLoop,
    _ done: @escaping (Result<TLSTransport, any Error>) -> Void
  ) throws(NetError) -> TLSTransport {
    let transport = TLSTransport(lower, loop, done)
    let handler: NIOSSLClientHandler
    do {
      if let verify {
        handler = try NIOSSLClientHandler(
          context: context, serverHostname: serverName, customVerificationCallback: transport.callback(verify))
      } else {
        handler = try NIOSSLClientHandler(context: context, serverHostname: serverName)
      }
    } catch {
      lower.close(linger: false)
      throw NetError(.tls, "TLS handshake", cause: TLSSetup.explain(error))
    }
    transport.start(handler)
    return transport
  }

  /// The same for a server.
  public static func server(
    over lower: Transport, context: NIOSSLContext, verify: Verify? = nil, on loop: any EventLoop,
    _ done: @escaping (Result<TLSTransport, any Error>) -> Void
  ) -> TLSTransport {
    let transport = TLSTransport(lower, loop, done)
    if let verify {
      transport.start(
        NIOSSLServerHandler(context: context, customVerificationCallback: transport.callback(verify)))
    } else {
      transport.start(NIOSSLServerHandler(context: context))
    }
    return transport
  }

  private init(_ lower: Transport, _ loop: any EventLoop, _ done: @escaping (Result<TLSTransport, any Error>) -> Void) {
    self.lower = lower
    self.done = done
    // swift-nio-ssl wants some address; a Unix-domain socket has one of no meaning.
    let remote = lower.remoteEndpoint?.socketAddress ?? (try? SocketAddress(unixDomainSocketPath: "/"))
    channel = TLSChannel(on: loop, remote: remote)
    super.init()
    localEndpoint = lower.localEndpoint
    remoteEndpoint = lower.remoteEndpoint
    heldBy = lower.heldBy
    channel.transport = self
  }

  private func callback(_ verify: @escaping Verify) -> NIOSSLCustomVerificationCallback {
    // Unchecked: it is called on the loop.
    let check = OnLoop { [weak self] (chain: [NIOSSLCertificate]) -> Bool in
      let refusal = verify(chain)
      self?.refusal = refusal
      return refusal == nil
    }
    return { chain, promise in promise.succeed(check.body(chain) ? .certificateVerified : .failed) }
  }

  private func start(_ handler: NIOSSLHandler) {
    lower.owner = self
    // Strong: whoever waits for the end of this one is told even when nobody else holds it any more.
    lower.whenGone { self.becomeGone() }
    do {
      try channel.start(handler)
    } catch {
      return fail(error)
    }
    if phase != .over { lower.setReading(true) }
  }

  // MARK: From below

  func received(stream bytes: UnsafeRawBufferPointer) {
    guard phase != .over else { return }
    channel.pipeline.syncOperations.fireChannelRead(NIOAny(ByteBuffer(bytes: bytes)))
    // What the handler found in it comes with this.
    if phase != .over { channel.pipeline.syncOperations.fireChannelReadComplete() }
  }

  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}

  func inputEnded(_ reason: EndReason) {
    guard phase != .over else { return }
    channel.pipeline.syncOperations.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
  }

  func drained() { owner?.drained() }

  func transportEnded(_ reason: EndReason) {
    if done != nil { return fail(reason.netError("TLS handshake")) }
    end(reason)
  }

  // MARK: From the handler

  func encrypted(_ records: ByteBuffer) {
    guard phase != .over, records.readableBytes > 0 else { return }
    // A failure comes again as the lower transport's end.
    _ = records.withUnsafeReadableBytes { lower.send(.none, $0, to: nil, corked: false) }
  }

  func decrypted(_ bytes: ByteBuffer) {
    guard let owner, !hasEarly else {
      early.writeImmutableBuffer(bytes)
      return
    }
    bytes.withUnsafeReadableBytes { owner.received(stream: $0) }
  }

  func handshakeCompleted(_ negotiated: String?) {
    guard phase == .handshake, let done else { return }
    phase = .open
    self.done = nil
    negotiatedProtocol = negotiated
    done(.success(self))
    // Nobody took it: what follows waits in the network.
    if owner == nil { lower.setReading(false) }
  }

  func handlerSawEnd() {
    guard phase == .open else { return }
    if let owner, !hasEarly { owner.inputEnded(.closed) } else { sawEarlyEnd = true }
  }

  func handlerFailed(_ error: any Error) {
    if done != nil { return fail(error) }
    if case NIOSSLError.uncleanShutdown = error { return end(.reset) }
    end(.error(NetError(.tls, "pipe", cause: TLSSetup.explain(error))))
  }

  func handlerClosed() {
    if done != nil { return fail(NetError(.closed, "TLS handshake", cause: "the peer ended it")) }
    end(.closed)
  }

  func handlerClosedOutput() { lower.closeOutput() }

  // MARK: From above

  override var unsent: Int { lower.unsent &+ corked.readableBytes }
  override var isUnanswered: Bool { lower.isUnanswered }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard phase == .open else { return NetError(.closed, "send", cause: "the pipe is closed") }
    if header.count > 0 {
      withUnsafeBytes(of: header.word) {
        _ = self.corked.writeBytes(UnsafeRawBufferPointer(rebasing: $0[..<header.count]))
      }
    }
    self.corked.writeBytes(body)
    if header.newline { self.corked.writeInteger(UInt8(0x0a)) }
    if !corked || self.corked.readableBytes >= Self.corkLimit { uncork() }
    return nil
  }

  override func uncork() {
    guard corked.readableBytes > 0, phase == .open else { return }
    let plain = corked
    corked = ByteBuffer()
    channel.pipeline.syncOperations.writeAndFlush(NIOAny(plain), promise: nil)
  }

  override func flush() {
    uncork()
    lower.flush()
  }

  override func setReading(_ on: Bool) {
    guard phase == .open else { return }
    lower.setReading(on)
    isRead = on
    // Not before this returns: a pipe's sink comes after it, and must not miss what came first.
    if on, hasEarly { channel.eventLoop.assumeIsolated().execute { self.handOutEarly() } }
  }

  private var hasEarly: Bool { early.readableBytes > 0 || sawEarlyEnd }

  private func handOutEarly() {
    guard isRead, phase == .open, let owner, hasEarly else { return }
    let (bytes, ended) = (early, sawEarlyEnd)
    (early, sawEarlyEnd) = (ByteBuffer(), false)
    if bytes.readableBytes > 0 { bytes.withUnsafeReadableBytes { owner.received(stream: $0) } }
    if ended, phase == .open { owner.inputEnded(.closed) }
  }

  /// Takes back plaintext that was handed out last: it comes first again, to the next owner.
  func putBack(_ bytes: UnsafeRawBufferPointer) {
    var all = ByteBuffer(bytes: bytes)
    all.writeBuffer(&early)
    early = all
  }

  /// `close_notify`, then the end of the stream below.
  override func closeOutput() {
    guard phase == .open else { return }
    uncork()
    channel.pipeline.close(mode: .output, promise: nil)
  }

  public override func close(linger: Bool) {
    guard phase != .over else { return }
    owner = nil
    done = nil
    if phase == .open {
      corked = ByteBuffer()
      channel.pipeline.close(mode: .output, promise: nil)
      lower.flush()
    }
    finish(linger: linger && lower.unsent == 0)
  }

  public override func abort() {
    guard phase != .over else { return }
    owner = nil
    done = nil
    lower.abort()
    finish(linger: false)
  }

  // MARK: The end

  /// Before the handshake was done. The handler's alert is on its way to the peer, and must not be destroyed by a reset.
  private func fail(_ error: any Error) {
    guard let done, phase == .handshake else { return }
    self.done = nil
    let refusal = refusal
    finish(linger: true)
    done(.failure(refusal ?? error))
  }

  private func end(_ reason: EndReason) {
    guard phase != .over else { return }
    handOutEarly()
    guard phase != .over else { return }
    let owner = owner
    self.owner = nil
    finish(linger: true)
    owner?.transportEnded(reason)
  }

  private func finish(linger: Bool) {
    guard phase != .over else { return }
    phase = .over
    lower.close(linger: linger)
    channel.stop()
  }

  /// Bytes: one TLS record (RFC 8446 §5.1).
  private static let corkLimit = 16 << 10
}

/// Carries a function of the loop through an interface that wants one for any thread.
private struct OnLoop<Input, Output>: @unchecked Sendable {
  let body: (Input) -> Output
  init(_ body: @escaping (Input) -> Output) { self.body = body }
}
