import NIOCore
import NIOTLS

/// The least of a swift-nio channel that swift-nio-ssl's handler can live in: it hands the handler what came from the
/// network, and its ``TLSTransport`` what the handler makes of it. It has no socket and no state of its own.
///
/// Confined to its loop.
final class TLSChannel: Channel, ChannelCore, @unchecked Sendable {
  let eventLoop: any EventLoop
  /// nil once the transport has ended: what the handler still has to say is dropped.
  weak var transport: TLSTransport?
  private(set) var isActive = false
  private let remote: SocketAddress?
  private let closed: EventLoopPromise<Void>
  /// Made when first asked for, since it takes the channel; never nil after ``start(_:)``.
  private(set) lazy var pipeline = ChannelPipeline(channel: self)

  /// - Parameter remote: what a certificate made out to an IP address is checked against.
  init(on loop: any EventLoop, remote: SocketAddress?) {
    eventLoop = loop
    self.remote = remote
    closed = loop.makePromise()
  }

  /// Puts the handler in, which then begins its handshake.
  func start(_ handler: any ChannelHandler) throws {
    try pipeline.syncOperations.addHandlers([handler, TLSTail(self)])
    pipeline.register(promise: nil)
    isActive = true
    pipeline.syncOperations.fireChannelActive()
  }

  /// The connection is over. The handler is freed on the next turn, since it may be on the stack.
  func stop() {
    guard isActive else { return }
    isActive = false
    transport = nil
    pipeline.syncOperations.fireChannelInactive()
    eventLoop.assumeIsolated().execute {
      self.removeHandlers(pipeline: self.pipeline)
      self.closed.succeed(())
    }
  }

  // MARK: Channel

  let allocator = ByteBufferAllocator()
  var closeFuture: EventLoopFuture<Void> { closed.futureResult }
  var localAddress: SocketAddress? { nil }
  var remoteAddress: SocketAddress? { remote }
  var parent: (any Channel)? { nil }
  var isWritable: Bool { true }
  var _channelCore: any ChannelCore { self }
  var syncOptions: (any NIOSynchronousChannelOptions)? { TLSChannelOptions() }

  func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
    eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
  }

  func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
    eventLoop.makeCompletedFuture { try TLSChannelOptions().getOption(option) }
  }

  // MARK: ChannelCore

  func localAddress0() throws -> SocketAddress { throw ChannelError.operationUnsupported }

  func remoteAddress0() throws -> SocketAddress {
    guard let remote else { throw ChannelError.operationUnsupported }
    return remote
  }

  func register0(promise: EventLoopPromise<Void>?) {
    promise?.succeed(())
    pipeline.syncOperations.fireChannelRegistered()
  }

  func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) { register0(promise: promise) }
  func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) { refuse(promise) }
  func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) { refuse(promise) }
  func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) { refuse(promise) }

  private func refuse(_ promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }

  /// Records for the network.
  func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
    transport?.encrypted(unwrapData(data, as: ByteBuffer.self))
    promise?.succeed(())
  }

  func flush0() {}
  func read0() {}

  func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    switch mode {
    case .all: transport?.handlerClosed()
    case .output: transport?.handlerClosedOutput()
    case .input: return refuse(promise)
    }
    promise?.succeed(())
  }

  func channelRead0(_ data: NIOAny) {}
  func errorCaught0(error: any Error) {}
}

/// What swift-nio-ssl asks of a channel: that a peer's end leaves our side open, and that reading goes on by itself.
private struct TLSChannelOptions: NIOSynchronousChannelOptions {
  func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
    throw ChannelError.operationUnsupported
  }

  func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
    if option is ChannelOptions.Types.AllowRemoteHalfClosureOption || option is ChannelOptions.Types.AutoReadOption,
      let yes = true as? Option.Value
    {
      return yes
    }
    throw ChannelError.operationUnsupported
  }
}

/// Stands behind the TLS handler and tells the transport what comes out.
private final class TLSTail: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private unowned let channel: TLSChannel

  init(_ channel: TLSChannel) { self.channel = channel }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    channel.transport?.decrypted(Self.unwrapInboundIn(data))
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case TLSUserEvent.handshakeCompleted(let negotiated): channel.transport?.handshakeCompleted(negotiated)
    case ChannelEvent.inputClosed, TLSUserEvent.shutdownCompleted: channel.transport?.handlerSawEnd()
    default: break
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { channel.transport?.handlerFailed(error) }
}
