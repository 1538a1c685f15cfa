import Logging
import NIOCore
import NIOPosix
import NIOSSL
import P2PDNames
import P2PDNet

/// A name server: names in SQLite, asked for and pushed over HTTP (docs/names-api.md).
///
/// HTTP is swift-nio's own codec on one event loop: the API is five paths, and hummingbird, which does more of it, takes three to four
/// minutes of every first build. The loop is NIO's rather than ours because NIO's HTTP and TLS handlers need its channels.
public final class NameServer: Sendable {
  /// Where it listens, with the ports that were given for 0.
  public let endpoints: [Endpoint]
  private let group: MultiThreadedEventLoopGroup
  private let parts: NIOLoopBound<NameServerParts>
  private let listeners: [any Channel]

  private init(
    _ group: MultiThreadedEventLoopGroup, _ parts: NIOLoopBound<NameServerParts>, _ listeners: [any Channel]
  ) {
    (self.group, self.parts, self.listeners) = (group, parts, listeners)
    endpoints = listeners.compactMap { $0.localAddress.flatMap(Endpoint.init(socket:)) }
  }

  /// Opens the database and listens.
  /// - Throws: ``NetError``: `in_use` for a database or a port that another process has, `permission`, `bad_address`, `tls`.
  public static func start(_ configuration: NameServerConfiguration, logger: Logger) async throws -> NameServer {
    let tls = try configuration.certificate.map { try ServerCertificate.load(chain: $0.chain, key: $0.key) }
    let database = try NameDatabase(path: configuration.database)
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    let parts = try await loop.submit {
      NIOLoopBound(NameServerParts(configuration, database, tls, on: loop, logger), eventLoop: loop)
    }.get()
    var listeners: [any Channel] = []
    do {
      for endpoint in configuration.listen { listeners.append(try await listen(endpoint, group, parts)) }
    } catch {
      await close(listeners, parts, within: .zero, group)
      throw error
    }
    return NameServer(group, parts, listeners)
  }

  /// Takes no new request, finishes those that are under way, for three seconds at most, and leaves the disk in order.
  public func stop() async { await Self.close(listeners, parts, within: Self.endTime, group) }

  /// Reads certificate and key anew, for connections from now on.
  /// - Throws: ``NetError``; the old ones then stay in use.
  public func reloadCertificate() async throws {
    let parts = parts
    let certificate = try await parts.eventLoop.submit { parts.value.configuration.certificate }.get()
    guard let certificate else { return }
    let tls = try ServerCertificate.load(chain: certificate.chain, key: certificate.key)
    try await parts.eventLoop.submit { parts.value.tls = tls }.get()
  }

  private static func listen(
    _ endpoint: Endpoint, _ group: MultiThreadedEventLoopGroup, _ parts: NIOLoopBound<NameServerParts>
  ) async throws -> any Channel {
    var bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: backlog)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: readSize))
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try parts.value.accept(channel) }
      }
    if endpoint.ip.family == .v6 {
      let option = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
      bootstrap = bootstrap.serverChannelOption(option, value: 1)
    }
    do {
      return try await bootstrap.bind(to: endpoint.socketAddress).get()
    } catch let error as IOError {
      throw NetError(errno: error.errnoCode, "listen on \(endpoint)")
    } catch {
      throw NetError(error, "listen on \(endpoint)")
    }
  }

  private static func close(
    _ listeners: [any Channel], _ parts: NIOLoopBound<NameServerParts>, within time: TimeAmount,
    _ group: MultiThreadedEventLoopGroup
  ) async {
    for listener in listeners { try? await listener.close().get() }
    try? await parts.eventLoop.flatSubmit { parts.value.close(within: time) }.get()
    try? await group.shutdownGracefully()
  }

  /// Below the five seconds in which an asked-for end must be over.
  private static let endTime = TimeAmount.seconds(3)
  private static let backlog: Int32 = 1024
  /// Bytes read at once, and so the most that a client may have sent ahead in our memory.
  private static let readSize = 8192
}

extension Endpoint {
  /// NIO's form of an address; nil for one that is no IP address.
  init?(socket address: SocketAddress) {
    guard let ip = address.ipAddress.flatMap({ IPAddress($0) }) else { return nil }
    self.init(ip: ip, port: UInt16(truncatingIfNeeded: address.port ?? 0))
  }
}
