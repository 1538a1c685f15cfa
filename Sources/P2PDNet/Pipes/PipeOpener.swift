import NIOCore

/// Opens pipes in the network of a loop: the only place that knows which transport a pipe needs.
public enum PipeOpener {
  /// - Parameters:
  ///   - dest: whom to connect to; nil makes a server.
  ///   - bind: the local address and port; for a server nil is the wildcard address of `family` and a free port.
  ///   - family: which addresses of a name may be used, and of a server without `bind`; nil is both for a name.
  ///   - sink: gets the pipe's messages; a client pipe without one keeps them for ``Pipe/receive(from:timeout:_:)``.
  ///   - ticket: to give it up with; it works while a stream is being connected.
  ///   - loop: a ``NetworkLoop``.
  /// - Returns: the open pipe (TLS done), on `loop`.
  public static func open(
    _ proto: PipeProto, to dest: Destination? = nil, bind: Endpoint? = nil, family: AddressFamily? = nil,
    conf: PipeConf = PipeConf(), sink: (any PipeSink)? = nil, ticket: OpenTicket? = nil,
    on loop: any EventLoop
  ) -> EventLoopFuture<Pipe> {
    let request = OpenRequest(
      proto: proto, bind: bind, family: family, conf: conf, sink: sink, ticket: ticket, loop: loop)
    let promise = loop.makePromise(of: Pipe.self)
    let start = { @Sendable in
      do {
        try request.start(dest, promise)
      } catch {
        promise.fail(error)
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
  let ticket: OpenTicket?
  let loop: any EventLoop

  init(
    proto: PipeProto, bind: Endpoint?, family: AddressFamily?, conf: PipeConf, sink: (any PipeSink)?,
    ticket: OpenTicket?, loop: any EventLoop
  ) {
    self.proto = proto
    self.bind = bind
    self.family = family
    self.conf = conf
    self.sink = sink
    self.ticket = ticket
    self.loop = loop
  }

  func start(_ dest: Destination?, _ promise: EventLoopPromise<Pipe>) throws(NetError) {
    let network = try loop.requireNetwork("open a pipe")
    if ticket?.isCancelled == true { throw OpenTicket.error }
    switch (dest, proto) {
    case (nil, .tcp): try listen(network, promise)
    case (nil, .udp): try openDatagram(network, to: nil, promise)
    case (.unix(let path)?, .tcp): connect(network, toPath: path, promise)
    case (.unix?, .udp): throw NetError(.unsupported, "open", cause: "Unix-domain sockets are streams here: use tcp")
    case (.endpoint(let endpoint)?, .tcp): race(network, [endpoint.reachable], name: nil, promise)
    case (.endpoint(let endpoint)?, .udp): try openDatagram(network, to: endpoint.reachable, promise)
    case (.host(let name, let port)?, _): resolve(network, name, port, promise)
    }
  }

  // MARK: Names

  private func resolve(_ network: any Network, _ name: String, _ port: UInt16, _ promise: EventLoopPromise<Pipe>) {
    let families = family.map { [$0] } ?? bind.map { [$0.ip.family] } ?? [.v6, .v4]
    network.resolve(name, families: families, timeout: conf.dnsTimeout).assumeIsolated().whenComplete { result in
      do throws(NetError) {
        if self.ticket?.isCancelled == true { throw OpenTicket.error }
        let addresses: [IPAddress]
        switch result {
        case .success(let found): addresses = found
        case .failure(let error): throw NetError(error, "resolve \(name)")
        }
        let endpoints = addresses.map { Endpoint(ip: $0, port: port) }
        guard self.proto == .udp else { return self.race(network, endpoints, name: name, promise) }
        guard let first = endpoints.first(where: { $0.ip.family == .v4 }) ?? endpoints.first else {
          throw NetError(.dns, "resolve \(name)", cause: "the name has no address")
        }
        try self.openDatagram(network, to: first, promise)
      } catch {
        promise.fail(error)
      }
    }
  }

  // MARK: Streams

  /// What streams of this request have in common; where they are bound depends on their family.
  var streamOptions: StreamOptions {
    var options = StreamOptions()
    options.interface = conf.interface
    options.reuseAddr = conf.reuseAddr
    options.noDelay = conf.noDelay
    options.linger = conf.linger
    options.backlog = conf.backlog
    options.dualStack = conf.dualStack
    return options
  }

  private func connect(_ network: any Network, toPath path: String, _ promise: EventLoopPromise<Pipe>) {
    _ = StreamOpening(self, network, to: .unix(path), name: nil) { result in
      switch result {
      case .success(let stream): promise.succeed(self.pipe(stream, to: Peer(unixPath: path)))
      case .failure(let error): promise.fail(error)
      }
    }
  }

  /// Opens the pipe of a connected stream.
  func pipe(_ stream: Transport, to peer: Peer) -> Pipe {
    let pipe = Pipe(proto: .tcp, isServer: false, loop: loop, conf: conf, transport: stream)
    pipe.peer = peer
    pipe.sink = sink
    pipe.opened()
    return pipe
  }

  private func listen(_ network: any Network, _ promise: EventLoopPromise<Pipe>) throws(NetError) {
    let family = bind?.ip.family ?? family ?? (conf.dualStack ? .v6 : .v4)
    let endpoint = bind ?? Endpoint(ip: .wildcard(family), port: 0)
    let late = LateListener()
    let listener = try network.listenStream(on: .ip(endpoint), streamOptions, owner: late)
    let server = Pipe(proto: .tcp, isServer: true, loop: loop, conf: conf, transport: listener)
    late.owner = PipeServer(server, conf)
    server.sink = sink
    server.family = family
    server.opened()
    promise.succeed(server)
  }

  // MARK: Datagrams

  private func openDatagram(
    _ network: any Network, to remote: Endpoint?, _ promise: EventLoopPromise<Pipe>
  ) throws(NetError) {
    let family = remote?.ip.family ?? bind?.ip.family ?? family ?? (conf.dualStack ? .v6 : .v4)
    let isGroup = remote.map { $0.ip.isMulticast || $0.ip.isBroadcast || conf.broadcast } ?? false
    var options = DatagramOptions(family: family)
    options.bind = bind?.ip.family == family ? bind : nil
    // A connected socket hears its peer alone, but the answers to a group come from its members.
    options.connect = isGroup ? nil : remote
    options.interface = conf.interface
    options.reuseAddr = conf.reuseAddr
    options.dualStack = conf.dualStack
    options.broadcast = conf.broadcast
    options.groups = conf.multicastGroups
    options.multicastTTL = conf.multicastTTL
    options.multicastLoop = conf.multicastLoop
    let socket = try network.openDatagram(options)
    let pipe = Pipe(proto: .udp, isServer: remote == nil, loop: loop, conf: conf, transport: socket)
    pipe.peer = remote.map { pipe.peer(for: $0) }
    pipe.family = family
    pipe.sink = sink
    pipe.opened()
    promise.succeed(pipe)
  }
}

/// Stands for a server until its pipe is made, which needs the listener first. Nobody is accepted before.
private final class LateListener: ListenerOwner {
  var owner: (any ListenerOwner)?
  func refusal(of peer: Endpoint?) -> [UInt8]? { owner.map { $0.refusal(of: peer) } ?? [] }
  func accepted(_ stream: Transport) { owner?.accepted(stream) }
}
