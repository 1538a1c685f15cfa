import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// Opens pipes: the only place that knows which transport and which bootstrap a pipe needs.
public enum PipeOpener {
  /// - Parameters:
  ///   - dest: whom to connect to; nil makes a server.
  ///   - bind: the local address and port; for a server nil is the wildcard address of `family` and a free port.
  ///   - family: which addresses of a name may be used, and of a server without `bind`; nil is both for a name.
  ///   - sink: gets the pipe's messages; a client pipe without one keeps them for ``Pipe/receive(from:timeout:_:)``.
  /// - Returns: the open pipe (TLS done), on `loop`.
  public static func open(
    _ proto: PipeProto, to dest: Destination? = nil, bind: Endpoint? = nil, family: AddressFamily? = nil,
    conf: PipeConf = PipeConf(), sink: (any PipeSink)? = nil, on loop: any EventLoop
  ) -> EventLoopFuture<Pipe> {
    let request = OpenRequest(proto: proto, bind: bind, family: family, conf: conf, sink: sink, loop: loop)
    let promise = loop.makePromise(of: Pipe.self)
    let start = { @Sendable in
      switch (dest, proto) {
      case (nil, .tcp): request.listen(promise)
      case (nil, .udp): request.openDatagram(to: nil, promise)
      case (.unix(let path)?, .tcp): request.connect(toUnixPath: path, promise)
      case (.unix?, .udp):
        promise.fail(NetError(.unsupported, "open", cause: "Unix-domain sockets are streams here: use tcp"))
      case (.endpoint(let endpoint)?, .tcp): request.race([endpoint.reachable], name: nil, promise)
      case (.endpoint(let endpoint)?, .udp): request.openDatagram(to: endpoint.reachable, promise)
      case (.host(let name, let port)?, _): request.resolve(name, port, promise)
      }
    }
    if loop.inEventLoop { start() } else { loop.execute(start) }
    return promise.futureResult
  }
}

extension Endpoint {
  /// A wildcard address as destination means this host.
  var reachable: Endpoint { ip.isWildcard ? Endpoint(ip: .loopback(ip.family), port: port) : self }
}

/// One call of ``PipeOpener``. Confined to its loop.
final class OpenRequest: @unchecked Sendable {
  let proto: PipeProto
  let bind: Endpoint?
  let family: AddressFamily?
  let conf: PipeConf
  let sink: (any PipeSink)?
  let loop: any EventLoop
  private var nic: NetworkInterface?
  private var hold: InterfaceBinding.Hold?

  init(
    proto: PipeProto, bind: Endpoint?, family: AddressFamily?, conf: PipeConf, sink: (any PipeSink)?,
    loop: any EventLoop
  ) {
    self.proto = proto
    self.bind = bind
    self.family = family
    self.conf = conf
    self.sink = sink
    self.loop = loop
  }

  // MARK: Names

  func resolve(_ name: String, _ port: UInt16, _ promise: EventLoopPromise<Pipe>) {
    let families = family.map { [$0] } ?? bind.map { [$0.ip.family] } ?? [.v6, .v4]
    Resolver.resolve(name, families: families, timeout: conf.dnsTimeout, on: loop)
      .assumeIsolated().whenComplete { result in
        switch result {
        case .failure(let error): promise.fail(NetError(error, "resolve \(name)"))
        case .success(let addresses):
          let endpoints = addresses.map { Endpoint(ip: $0, port: port) }
          if self.proto == .udp {
            guard let first = endpoints.first(where: { $0.ip.family == .v4 }) ?? endpoints.first else {
              return promise.fail(NetError(.dns, "resolve \(name)", cause: "the name has no address"))
            }
            self.openDatagram(to: first, promise)
          } else {
            self.race(endpoints, name: name, promise)
          }
        }
      }
  }

  // MARK: Streams

  func connect(toUnixPath path: String, _ promise: EventLoopPromise<Pipe>) {
    guard !path.utf8.isEmpty, path.utf8.count < 108 else {
      return promise.fail(NetError(.badAddress, "connect to \(path)", cause: "a socket path has 1 to 107 bytes"))
    }
    let connected = loop.makePromise(of: Pipe.self)
    connected.futureResult.assumeIsolated().whenComplete { result in
      if case .success(let pipe) = result {
        pipe.sink = self.sink
        pipe.opened()
      }
      promise.completeWith(result)
    }
    stream(peer: Peer(unixPath: path), name: nil, connected) { $0.connect(unixDomainSocketPath: path) }
  }

  /// One attempt over TCP: a connected pipe that is not opened yet. Cancelled by ending the pipe it makes (`made`).
  func connect(to endpoint: Endpoint, name: String?, made: @escaping (Pipe) -> Void, _ promise: EventLoopPromise<Pipe>)
  {
    stream(peer: Peer(endpoint), name: name, made: made, promise) { bootstrap in
      var bootstrap = bootstrap
      if let local = self.localEndpoint(for: endpoint.ip.family) { bootstrap = bootstrap.bind(to: local.socketAddress) }
      return bootstrap.connect(to: endpoint.socketAddress)
    }
  }

  private func stream(
    peer: Peer, name: String?, made: ((Pipe) -> Void)? = nil, _ promise: EventLoopPromise<Pipe>,
    _ connect: (ClientBootstrap) -> EventLoopFuture<any Channel>
  ) {
    if let family = peer.endpoint?.ip.family, failsToHold(family, promise) { return }
    let what = "connect to \(name.map { "\($0) (\(peer))" } ?? peer.description)"
    var answered = false
    var deadline: Scheduled<Void>?
    var opening: Pipe?
    let transport = NIOStreamTransport(isTLS: conf.tls != nil) { result in
      guard !answered else { return }
      answered = true
      deadline?.cancel()
      switch result {
      case .success:
        if let pipe = opening { promise.succeed(pipe) }
      case .failure(let error):
        promise.fail(NetError(error.code, what, cause: error.cause.isEmpty ? error.description : error.cause))
      }
      opening = nil
    }
    let pipe = Pipe(proto: .tcp, isServer: false, loop: loop, conf: conf, transport: transport)
    pipe.peer = peer
    opening = pipe
    made?(pipe)
    let fail = { (error: any Error) in
      guard !answered else { return }
      answered = true
      deadline?.cancel()
      pipe.end(abruptly: .error(NetError(error, what)))
      opening = nil
      promise.fail(NetError(error, what))
    }
    let timeout = conf.conTimeout
    deadline = loop.assumeIsolated().scheduleTask(in: timeout) {
      fail(NetError(.timeout, what, cause: "no answer in \(Double(timeout.nanoseconds) / 1e9) s"))
    }
    let bootstrap = ClientBootstrap(group: loop)
      .channelOption(.allowRemoteHalfClosure, value: allowsHalfClosure)
      .channelOption(.recvAllocator, value: Self.streamBuffers)
      .connectTimeout(timeout)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try self.prepare(channel, pipe: pipe, stream: peer.endpoint != nil)
          if let tls = self.conf.tls { try TLSPipeline.addClient(tls, name: name, to: channel, pipe: pipe) }
          try channel.pipeline.syncOperations.addHandler(transport)
        }
      }
    connect(bootstrap).assumeIsolated().whenFailure(fail)
  }

  func listen(_ promise: EventLoopPromise<Pipe>) {
    let listenFamily = bind?.ip.family ?? family ?? (conf.dualStack ? .v6 : .v4)
    guard !failsToHold(listenFamily, promise) else { return }
    let endpoint = localEndpoint(for: listenFamily) ?? Endpoint(ip: .wildcard(listenFamily), port: 0)
    let what = "listen on \(endpoint)"
    let transport = NIOListenerTransport()
    let server = Pipe(proto: .tcp, isServer: true, loop: loop, conf: conf, transport: transport)
    server.sink = sink
    let bootstrap = ServerBootstrap(group: loop)
      .serverChannelOption(.backlog, value: Int32(conf.backlog))
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try self.prepare(channel, pipe: server, stream: false)
          if endpoint.ip.family == .v6 {
            try SocketOptions.set(
              channel, Int(IPPROTO_IPV6), Int(IPV6_V6ONLY), self.conf.dualStack ? 0 : 1, "set IPV6_V6ONLY")
          }
          try channel.pipeline.syncOperations.addHandler(transport)
        }
      }
      .childChannelOption(.allowRemoteHalfClosure, value: allowsHalfClosure)
      .childChannelOption(.recvAllocator, value: Self.streamBuffers)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try self.accept(channel, server: server) }
      }
    bootstrap.bind(to: endpoint.socketAddress).assumeIsolated().whenComplete { result in
      switch result {
      case .success(let channel):
        server.localEndpoint = channel.localAddress.flatMap { Endpoint($0) }
        server.family = endpoint.ip.family
        server.opened()
        promise.succeed(server)
      case .failure(let error): promise.fail(NetError(error, what))
      }
    }
  }

  private func accept(_ channel: any Channel, server: Pipe) throws {
    let peer = channel.remoteAddress.flatMap { Endpoint($0) }.map { Peer($0) } ?? Peer(unixPath: "")
    guard server.isOpen, let acceptor = server.sink, acceptor.pipeShouldAccept(from: peer, by: server) else {
      throw NetError(.limit, "accept \(peer)")
    }
    var pipe: Pipe?
    var deadline: Scheduled<Void>?
    let transport = NIOStreamTransport(isTLS: conf.tls != nil) { result in
      deadline?.cancel()
      guard let made = pipe else { return }
      pipe = nil
      switch result {
      case .failure(let error):
        acceptor.pipeAcceptFailed(from: peer, error: error, by: server)
        made.end(abruptly: .error(error))
      case .success:
        guard server.isOpen, let sink = acceptor.pipeAccepted(made, by: server) else {
          return made.end(abruptly: .local)
        }
        made.sink = sink
        made.server = server
        server.clients[made.id] = made
        made.opened()
      }
    }
    let made = Pipe(proto: .tcp, isServer: false, loop: loop, conf: conf, transport: transport)
    made.peer = peer
    made.route = server.route
    pipe = made
    try prepare(channel, pipe: made, stream: true)
    if let tls = conf.tls {
      try TLSPipeline.addServer(tls, to: channel, pipe: made)
      deadline = loop.assumeIsolated().scheduleTask(in: conf.conTimeout) {
        guard let slow = pipe else { return }
        pipe = nil
        acceptor.pipeAcceptFailed(from: peer, error: NetError(.timeout, "TLS handshake with \(peer)"), by: server)
        slow.end(abruptly: .timeout)
        channel.close(promise: nil)
      }
    }
    try channel.pipeline.syncOperations.addHandler(transport)
  }

  // MARK: Datagrams

  func openDatagram(to remote: Endpoint?, _ promise: EventLoopPromise<Pipe>) {
    let family = remote?.ip.family ?? bind?.ip.family ?? family ?? (conf.dualStack ? .v6 : .v4)
    guard !failsToHold(family, promise) else { return }
    let local = localEndpoint(for: family) ?? Endpoint(ip: .wildcard(family), port: 0)
    let isGroup = remote.map { $0.ip.isMulticast || $0.ip.isBroadcast || conf.broadcast } ?? false
    // A connected socket hears its peer alone, but the answers to a group come from its members.
    let isConnected = remote != nil && !isGroup
    let what = remote.map { "open udp to \($0)" } ?? "open udp on \(local)"
    let transport = NIODatagramTransport(isConnected: isConnected, isDualStack: conf.dualStack && family == .v6)
    let pipe = Pipe(proto: .udp, isServer: remote == nil, loop: loop, conf: conf, transport: transport)
    pipe.sink = sink
    pipe.peer = remote.map { Peer($0) }
    pipe.family = family
    let bootstrap = DatagramBootstrap(group: loop)
      // The transport reads the datagrams that came with the first one itself.
      .channelOption(.maxMessagesPerRead, value: 1)
      .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 64 << 10))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try self.prepare(channel, pipe: pipe, stream: false)
          if family == .v6 {
            try SocketOptions.set(
              channel, Int(IPPROTO_IPV6), Int(IPV6_V6ONLY), self.conf.dualStack ? 0 : 1, "set IPV6_V6ONLY")
          }
          try NIODatagramOptions.apply(self.conf, family: family, to: channel)
          try channel.pipeline.syncOperations.addHandler(transport)
        }
      }
    bootstrap.bind(to: local.socketAddress).flatMap { channel -> EventLoopFuture<any Channel> in
      guard isConnected, let remote else { return channel.eventLoop.makeSucceededFuture(channel) }
      return channel.connect(to: remote.socketAddress).map { channel }
    }.flatMap { channel in
      NIODatagramOptions.join(self.conf.multicastGroups, channel: channel, interface: self.conf.interface).map {
        channel
      }
    }.assumeIsolated().whenComplete { result in
      switch result {
      case .success(let channel):
        pipe.localEndpoint = channel.localAddress.flatMap { Endpoint($0) } ?? pipe.localEndpoint
        pipe.opened()
        promise.succeed(pipe)
      case .failure(let error):
        pipe.end(abruptly: .error(NetError(error, what)))
        promise.fail(NetError(error, what))
      }
    }
  }

  /// With TLS only on demand: swift-nio-ssl then waits for its whole shutdown timeout when this side closes first.
  private var allowsHalfClosure: Bool { conf.tls == nil || conf.allowHalfOpen }

  /// Options that must be set before the socket binds or connects.
  private func prepare(_ channel: any Channel, pipe: Pipe, stream: Bool) throws {
    guard let options = channel.syncOptions else { return }
    SocketOptions.closeOnExec(channel)
    if conf.reuseAddr {
      try options.setOption(.socketOption(.so_reuseaddr), value: 1)
      try SocketOptions.set(channel, Int(SOL_SOCKET), Int(SO_REUSEPORT), 1, "set SO_REUSEPORT")
    }
    if stream {
      try options.setOption(.tcpOption(.tcp_nodelay), value: conf.noDelay ? 1 : 0)
      if let seconds = conf.linger {
        try SocketOptions.setLinger(channel, seconds: seconds)
      }
    }
    if let nic, let hold {
      pipe.heldBy = hold
      if hold == .device {
        _ = try InterfaceBinding.apply(fd: NIOStreamTransport.descriptor(of: channel), interface: nic, family: .v4)
      }
    }
  }

  // MARK: Interface

  /// Finds out how this process may hold sockets to the interface asked for, since a fallback to the source address
  /// must be known before the socket is bound. True when it cannot at all; the promise has failed then.
  private func failsToHold(_ family: AddressFamily, _ promise: EventLoopPromise<Pipe>) -> Bool {
    guard let name = conf.interface, hold == nil else { return false }
    do throws(NetError) {
      let found = try NetworkInterface.named(name)
      let probe = socket(family.raw, Int32(SOCK_DGRAM.rawValue), 0)
      guard probe >= 0 else { throw NetError(errno: errno, "hold a socket to \(name)") }
      defer { Glibc.close(probe) }
      hold = try InterfaceBinding.apply(fd: probe, interface: found, family: family)
      nic = found
      return false
    } catch {
      promise.fail(error)
      return true
    }
  }

  /// The address to bind to: the caller's, or that of the interface where only that can hold the socket.
  private func localEndpoint(for family: AddressFamily) -> Endpoint? {
    if let bind, bind.ip.family == family, !bind.ip.isWildcard { return bind }
    if case .source(let ip)? = hold { return Endpoint(ip: ip, port: bind?.port ?? 0) }
    return bind?.ip.family == family ? bind : nil
  }

  /// Small messages touch little of it, large ones need it whole.
  private static let streamBuffers = AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 4096, maximum: 256 << 10)
}
