import Logging
import NIOCore
import NIOSSL
import P2PDNames
import P2PDNet

/// What a running server consists of, confined to its loop, and how a connection is put together.
final class NameServerParts {
  let configuration: NameServerConfiguration
  var tls: NIOSSLContext?
  private let registry: NameRegistry
  private let connections: Connections
  private let api: NameAPI
  private let logger: Logger

  init(
    _ configuration: NameServerConfiguration, _ database: NameDatabase, _ tls: NIOSSLContext?, on loop: any EventLoop,
    _ logger: Logger
  ) {
    (self.configuration, self.tls, self.logger) = (configuration, tls, logger)
    registry = NameRegistry(
      database, limits: configuration.limits, on: loop, clock: configuration.clock, logger: logger)
    connections = Connections(configuration.limits, on: loop)
    api = NameAPI(
      registry, connections, limits: configuration.limits, trustsProxy: configuration.trustsProxy,
      version: configuration.version)
  }

  /// Sets up a connection that was accepted, or turns it away.
  func accept(_ channel: any Channel) throws {
    let ip = channel.remoteAddress.flatMap(Endpoint.init(socket:))?.ip
    // One that is gone already has no address left.
    let source = Source(ip ?? IPAddress(family: .v4, high: 0, low: 0))
    guard connections.hasRoom(for: source, isProxy: configuration.trustsProxy && source.isLoopback) else {
      api.refusedConnection()
      return try channel.pipeline.syncOperations.addHandler(Refusal(isPlain: tls == nil))
    }
    if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
    let connection = try HTTPConnection.add(to: channel, api, source, configuration.times)
    connections.add(connection, of: source)
    let connections = connections
    channel.closeFuture.assumeIsolated().whenComplete { _ in connections.remove(connection, of: source) }
  }

  func close(within time: TimeAmount) -> EventLoopFuture<Void> {
    let logger = logger
    let registry = NIOLoopBound(registry, eventLoop: connections.loop)
    return connections.stop(within: time).flatMap { registry.value.close() }.flatMapErrorThrowing {
      logger.error("\($0)")
    }
  }
}

/// Tells a client for whom there is no room so, and hangs up.
private final class Refusal: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let isPlain: Bool

  init(isPlain: Bool) { self.isPlain = isPlain }

  func channelActive(context: ChannelHandlerContext) {
    guard isPlain else { return context.close(promise: nil) }
    let answer = APIAnswer.crowded
    let head =
      "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
      + "retry-after: \(answer.retryAfter ?? 1)\r\ncontent-length: \(answer.body.count)\r\n\r\n"
    var bytes = context.channel.allocator.buffer(string: head)
    bytes.writeBytes(answer.body)
    context.writeAndFlush(Self.wrapOutboundOut(bytes), promise: nil)
    context.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {}
}
