import Glibc
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// A TCP or Unix-domain stream over a swift-nio channel.
///
/// Plain streams write on the channel's own descriptor while nothing is queued, straight from the caller's bytes:
/// that saves two thirds of swift-nio's user time for a small message. What the kernel does not take, and all of
/// TLS, goes through the channel, one write in flight at a time.
final class NIOStreamTransport: Transport, ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private var channel: (any Channel)?
  private var isDetached = false
  private let isTLS: Bool
  /// The channel's descriptor while writing on it directly is allowed; -1 otherwise.
  private var descriptor: CInt = -1
  private var pending = ByteBuffer()
  private var inFlight = 0
  private var wantsEndOfOutput = false
  private var lingering = false
  private var inputClosed = false
  /// Called once when the stream is usable or has failed before it was.
  private var opening: ((Result<Void, NetError>) -> Void)?
  private var failure: EndReason?

  init(isTLS: Bool, opening: ((Result<Void, NetError>) -> Void)?) {
    self.isTLS = isTLS
    self.opening = opening
  }

  override var unsent: Int { pending.readableBytes &+ inFlight }

  // MARK: Out

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    if descriptor >= 0, unsent == 0, !corked || body.count >= Self.corkLimit {
      let written = writeDirectly(header, body)
      if written == header.total &+ body.count { return nil }
      if written < 0 {
        let number = errno
        guard number == EAGAIN || number == EWOULDBLOCK || number == EINTR else { return failed(number) }
        enqueue(header, body, skipping: 0)
      } else {
        enqueue(header, body, skipping: written)
      }
      flush()
      return nil
    }
    enqueue(header, body, skipping: 0)
    if !corked { flush() }
    return nil
  }

  override func uncork() {
    if descriptor >= 0, inFlight == 0, pending.readableBytes > 0 {
      let fd = descriptor
      let written = pending.withUnsafeReadableBytes { Glibc.send(fd, $0.baseAddress, $0.count, Self.flags) }
      if written == pending.readableBytes {
        pending = ByteBuffer()
        return
      }
      if written > 0 { pending.moveReaderIndex(forwardBy: written) }
    }
    flush()
  }

  @inline(__always)
  private func writeDirectly(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) -> Int {
    if header.total == 0 { return Glibc.send(descriptor, body.baseAddress, body.count, Self.flags) }
    var word = header.word
    var newline: UInt8 = 0x0a
    let fd = descriptor
    return withUnsafeMutableBytes(of: &word) { head in
      withUnsafeMutableBytes(of: &newline) { tail in
        var parts = (
          iovec(iov_base: head.baseAddress, iov_len: header.count),
          iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count),
          iovec(iov_base: tail.baseAddress, iov_len: header.newline ? 1 : 0)
        )
        return withUnsafeMutableBytes(of: &parts) { raw in
          var message = msghdr()
          message.msg_iov = raw.baseAddress?.assumingMemoryBound(to: iovec.self)
          message.msg_iovlen = 3
          return sendmsg(fd, &message, Self.flags)
        }
      }
    }
  }

  private func enqueue(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, skipping: Int) {
    var skip = skipping
    if header.count > 0 {
      withUnsafeBytes(of: header.word) { bytes in
        let from = min(skip, header.count)
        pending.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[from..<header.count]))
      }
      skip = max(0, skip - header.count)
    }
    let from = min(skip, body.count)
    pending.writeBytes(UnsafeRawBufferPointer(rebasing: body[from...]))
    if header.newline { pending.writeInteger(UInt8(0x0a)) }
  }

  private func flush() {
    guard inFlight == 0, let channel else { return }
    guard pending.readableBytes > 0 else {
      if wantsEndOfOutput {
        wantsEndOfOutput = false
        channel.close(mode: .output, promise: nil)
      }
      return
    }
    let chunk = pending
    pending = ByteBuffer()
    inFlight = chunk.readableBytes
    let promise = channel.eventLoop.makePromise(of: Void.self)
    promise.futureResult.assumeIsolated().whenComplete { result in
      self.inFlight = 0
      if case .failure(let error) = result {
        self.failure = self.failure ?? Self.reason(error)
        return
      }
      self.flush()
      self.pipe?.drained()
    }
    channel.writeAndFlush(chunk, promise: promise)
  }

  private func failed(_ number: CInt) -> NetError {
    let error = NetError(errno: number, "send")
    failure = failure ?? (error.code == .reset ? .reset : .error(error))
    descriptor = -1
    // The reader may still get what the peer sent before it went; the channel's end reports the reason.
    if let channel { channel.eventLoop.assumeIsolated().execute { channel.close(promise: nil) } }
    return error
  }

  override func setReading(_ on: Bool) {
    guard let channel else { return }
    _ = channel.setOption(.autoRead, value: on)
  }

  override func closeOutput() {
    wantsEndOfOutput = true
    flush()
  }

  override public func close(linger: Bool) {
    descriptor = -1
    guard let channel else {
      finishOpening(.failure(NetError(.cancelled, "open", cause: "the pipe was closed")))
      pipe = nil
      return
    }
    isDetached = true
    guard linger, channel.isActive, !isTLS, !inputClosed else {
      channel.close(promise: nil)
      return
    }
    lingering = true
    setReading(true)
    channel.close(mode: .output).whenFailure { _ in channel.close(promise: nil) }
    channel.eventLoop.assumeIsolated().scheduleTask(in: Self.lingerTime) { channel.close(promise: nil) }
  }

  // MARK: In

  func handlerAdded(context: ChannelHandlerContext) {
    channel = context.channel
    if context.channel.isActive { connected(context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    connected(context)
  }

  private func connected(_ context: ChannelHandlerContext) {
    guard let pipe else { return }
    pipe.localEndpoint = pipe.localEndpoint ?? context.localAddress.flatMap { Endpoint($0) }
    pipe.family = pipe.family ?? pipe.localEndpoint?.ip.family
    if !isTLS {
      descriptor = Self.descriptor(of: context.channel)
      finishOpening(.success(()))
    }
  }

  static func descriptor(of channel: any Channel) -> CInt {
    let found = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
    return (found ?? nil) ?? -1
  }

  private func finishOpening(_ result: Result<Void, NetError>) {
    guard let opening else { return }
    self.opening = nil
    opening(result)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isDetached, let pipe else { return }
    Self.unwrapInboundIn(data).withUnsafeReadableBytes { pipe.received(stream: $0) }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case let event as ChannelEvent where event == .inputClosed:
      inputClosed = true
      if lingering { return context.close(promise: nil) }
      if opening != nil { return context.close(promise: nil) }
      if !isDetached { pipe?.inputEnded(.closed) }
    case TLSUserEvent.handshakeCompleted(let negotiated):
      pipe?.negotiatedProtocol = negotiated
      finishOpening(.success(()))
    case TLSUserEvent.shutdownCompleted:
      if !isDetached { pipe?.inputEnded(.closed) }
    default:
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let reason = Self.reason(error)
    if opening != nil {
      finishOpening(.failure(Self.openingFailure(error)))
    }
    failure = failure ?? reason
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    descriptor = -1
    finishOpening(
      .failure(NetError(isTLS ? .tls : .closed, "open", cause: "the peer closed the connection during the handshake")))
    pipe?.transportEnded(failure ?? .closed)
    channel = nil
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    pipe = nil
    channel = nil
  }

  private static func reason(_ error: any Error) -> EndReason {
    switch error {
    case let error as IOError where error.errnoCode == ECONNRESET || error.errnoCode == EPIPE: return .reset
    case let error as IOError where error.errnoCode == ETIMEDOUT: return .timeout
    case NIOSSLError.uncleanShutdown: return .reset
    default: return .error(NetError(error, "pipe"))
    }
  }

  private static func openingFailure(_ error: any Error) -> NetError {
    if let error = error as? NetError { return error }
    if error is IOError { return NetError(error, "TLS handshake") }
    return NetError(.tls, "TLS handshake", cause: TLSSetup.explain(error))
  }

  private static let flags = CInt(MSG_DONTWAIT) | CInt(MSG_NOSIGNAL)
  /// Above this size one write of its own costs less than the copy that joins it with others.
  private static let corkLimit = 16 << 10
  /// How long a closed stream may take to see the peer's end before the descriptor goes.
  private static let lingerTime = TimeAmount.seconds(2)
}
