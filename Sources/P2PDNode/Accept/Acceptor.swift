import Glibc
import NIOCore
import NIOPosix
import NIOSSL
import P2PDNet

/// What an acceptor asks its node. All calls come on the event loop.
protocol AcceptorOwner: AnyObject {
  /// Before anything is spent on a connection. false cuts it.
  func shouldAccept(_ peer: Endpoint) -> Bool
  /// The TLS of now: it changes with the hosted protocols.
  func serverContext() throws -> NIOSSLContext
  /// An accepted connection ended without proving a key. Comes once for each that was let in, unless `accepted` does.
  func acceptFailed(_ peer: Endpoint, _ error: NetError)
  /// A node has proven its key. The callee takes the channel over, or closes it.
  func accepted(_ peer: Endpoint, _ proof: HandshakeGate.Proof)
}

/// One listening TCP socket of a node. Confined to its event loop.
final class Acceptor: @unchecked Sendable {
  let endpoint: Endpoint
  private let channel: any Channel
  private let gate: AcceptGate

  private init(_ endpoint: Endpoint, _ channel: any Channel, _ gate: AcceptGate) {
    self.endpoint = endpoint
    self.channel = channel
    self.gate = gate
  }

  /// Fails with ``NetError``, `inUse` among others.
  static func listen(
    on endpoint: Endpoint, handshakeTime: TimeAmount, owner: any AcceptorOwner & Sendable, loop: any EventLoop
  ) -> EventLoopFuture<Acceptor> {
    let gate = AcceptGate(owner, handshakeTime)
    return ServerBootstrap(group: loop)
      .serverChannelOption(.backlog, value: backlog)
      // Or the port would be barred for a minute after each stop.
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          SocketOptions.closeOnExec(channel)
          // The same port is bound once per family.
          if endpoint.ip.family == .v6 {
            try channel.syncOptions?.setOption(
              ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only), value: 1)
          }
          try channel.pipeline.syncOperations.addHandler(gate)
        }
      }
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.recvAllocator, value: nodeReceiveBuffers)
      .bind(to: endpoint.socketAddress)
      .map { channel in Acceptor(channel.localAddress.flatMap { Endpoint($0) } ?? endpoint, channel, gate) }
      .flatMapErrorThrowing { throw NetError($0, "listen on \(endpoint)") }
  }

  /// The kernel refuses new connections from now on, and unfinished handshakes are cut.
  func close() -> EventLoopFuture<Void> {
    gate.cutUnfinished()
    return channel.close().flatMapErrorThrowing { _ in }
  }

  /// Connections the kernel may hold for us; more than net.core.somaxconn is cut to that.
  private static let backlog: Int32 = 1024
}

/// Small messages touch little of it, large ones need it whole.
let nodeReceiveBuffers = AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 4096, maximum: 256 << 10)

/// Cuts what is over a limit before anything was set up for it; the others get TLS and the time to prove a key.
private final class AcceptGate: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = any Channel
  typealias InboundOut = any Channel

  private let owner: any AcceptorOwner
  private let time: TimeAmount
  private var unfinished: [ObjectIdentifier: any Channel] = [:]
  private var isOutOfDescriptors = false

  init(_ owner: any AcceptorOwner, _ time: TimeAmount) {
    self.owner = owner
    self.time = time
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let channel = Self.unwrapInboundIn(data)
    guard let peer = channel.remoteAddress.flatMap({ Endpoint($0) }), owner.shouldAccept(peer) else {
      AcceptRefusal.send(on: channel)
      return channel.close(promise: nil)
    }
    let id = ObjectIdentifier(channel)
    let gate = HandshakeGate("accept \(peer)", expected: nil) { result in
      self.unfinished[id] = nil
      switch result {
      case .success(let proof): self.owner.accepted(peer, proof)
      case .failure(let error): self.owner.acceptFailed(peer, error)
      }
    }
    unfinished[id] = channel
    do {
      try gate.install(in: channel, context: owner.serverContext(), isServer: true, time: time)
      context.fireChannelRead(data)
    } catch {
      // The gate's handlers go with the channel, and `done` is called then.
      channel.close(promise: nil)
    }
  }

  func cutUnfinished() {
    for channel in unfinished.values { channel.close(promise: nil) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? IOError else { return }
    switch error.errnoCode {
    case EMFILE, ENFILE, ENOBUFS, ENOMEM:
      // Out of descriptors: asking again at once would spin. The kernel's backlog holds the callers meanwhile.
      guard !isOutOfDescriptors else { return }
      isOutOfDescriptors = true
      let channel = context.channel
      try? channel.syncOptions?.setOption(.autoRead, value: false)
      channel.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(100)) {
        self.isOutOfDescriptors = false
        try? channel.syncOptions?.setOption(.autoRead, value: true)
        channel.read()
      }
    // One caller's trouble, not the listener's: it goes on.
    default: break
    }
  }
}

/// A fatal TLS alert, `access_denied` (RFC 8446 §6.2), in clear, so that the caller learns why it was cut. It may be
/// lost with the connection: then the caller sees that it was hung up on.
enum AcceptRefusal {
  static func send(on channel: any Channel) {
    try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
      _ = alert.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
      }
    }
  }

  private static let alert: [UInt8] = [21, 3, 3, 0, 2, 2, 49]
  static let asBoringSSLSaysIt = "ALERT_ACCESS_DENIED"
}
