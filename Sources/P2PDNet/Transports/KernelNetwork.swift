import CNet
import Glibc
import NIOCore

/// The kernel's network: sockets of the thread's network namespace.
extension KernelLoop: Network {
  public func connectStream(
    to address: StreamAddress, _ options: StreamOptions, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) -> any StreamAttempt {
    assertInEventLoop()
    do throws(NetError) {
      switch address {
      case .ip(let endpoint): return try connect(to: endpoint, options, done)
      case .unix(let path): return try connect(toPath: path, done)
      }
    } catch {
      let attempt = FailedAttempt(done)
      assumeIsolated().execute { attempt.fail(error) }
      return attempt
    }
  }

  private func connect(
    to endpoint: Endpoint, _ options: StreamOptions, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) throws(NetError) -> StreamTransport {
    let what = "connect to \(endpoint)"
    let family = endpoint.ip.family
    let socket = try KernelSocket(family.raw, SOCK_STREAM, what)
    if options.reuseAddr { try socket.reuse() }
    let hold = try socket.hold(to: options.interface, family)
    if let local = Self.local(options.bind, hold, family) { try socket.bind(to: local) }
    let number = socket.connect(to: endpoint)
    let descriptor = socket.take()
    KernelSocket.apply(options, to: descriptor)
    let stream = StreamTransport(connecting: descriptor, to: endpoint, number, what, on: self, done)
    stream.heldBy = hold
    return stream
  }

  private func connect(
    toPath path: String, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) throws(NetError) -> StreamTransport {
    let what = "connect to \(path)"
    let socket = try KernelSocket(AF_UNIX, SOCK_STREAM, what)
    let number = try socket.connect(toPath: path)
    // EAGAIN: the listener's backlog is full (unix(7)), which no event will end.
    return StreamTransport(
      connecting: socket.take(), to: nil, number == EAGAIN ? ECONNREFUSED : number, what, on: self, done)
  }

  public func listenStream(
    on address: StreamAddress, _ options: StreamOptions, owner: any ListenerOwner
  ) throws(NetError) -> Transport {
    assertInEventLoop()
    let what = "listen on \(address)"
    switch address {
    case .unix(let path):
      let socket = try KernelSocket(AF_UNIX, SOCK_STREAM, what)
      try socket.bind(toPath: path)
      try socket.listen(options.backlog)
      return ListenerTransport(socket.take(), path: path, options, owner, on: self)
    case .ip(let endpoint):
      let family = endpoint.ip.family
      let socket = try KernelSocket(family.raw, SOCK_STREAM, what)
      if options.reuseAddr { try socket.reuse() }
      // Or the port would be barred for a minute after each stop.
      try socket.set(SOL_SOCKET, SO_REUSEADDR, 1)
      if family == .v6 { try socket.set(CInt(IPPROTO_IPV6), IPV6_V6ONLY, options.dualStack ? 0 : 1) }
      let hold = try socket.hold(to: options.interface, family)
      try socket.bind(to: Self.local(endpoint, hold, family) ?? endpoint)
      try socket.listen(options.backlog)
      let listener = ListenerTransport(socket.take(), path: nil, options, owner, on: self)
      listener.heldBy = hold
      return listener
    }
  }

  public func openDatagram(_ options: DatagramOptions) throws(NetError) -> Transport {
    assertInEventLoop()
    let family = options.family
    let bound = options.bind ?? Endpoint(ip: .wildcard(family), port: 0)
    let what = options.connect.map { "open udp to \($0)" } ?? "open udp on \(bound)"
    let socket = try KernelSocket(family.raw, SOCK_DGRAM, what)
    if options.reuseAddr { try socket.reuse() }
    let isDualStack = options.dualStack && family == .v6
    if family == .v6 { try socket.set(CInt(IPPROTO_IPV6), IPV6_V6ONLY, isDualStack ? 0 : 1) }
    // The kernel clamps to net.core.[rw]mem_max; a burst should not be lost for want of a buffer.
    try socket.set(SOL_SOCKET, SO_RCVBUF, 1 << 20)
    try socket.set(SOL_SOCKET, SO_SNDBUF, 1 << 20)
    if options.broadcast { try socket.set(SOL_SOCKET, SO_BROADCAST, 1) }
    let level = family == .v4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6)
    if let hops = options.multicastTTL {
      try socket.set(level, family == .v4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS, CInt(clamping: hops))
    }
    if let loops = options.multicastLoop {
      try socket.set(level, family == .v4 ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP, loops ? 1 : 0)
    }
    let hold = try socket.hold(to: options.interface, family)
    try socket.bind(to: Self.local(options.bind, hold, family) ?? bound)
    if let remote = options.connect {
      let number = socket.connect(to: remote)
      guard number == 0 else { throw NetError(errno: number, what) }
    }
    let index = try options.interface.map { name throws(NetError) in try NetworkInterface.named(name).index } ?? 0
    for group in options.groups {
      guard group.isMulticast else {
        throw NetError(.badAddress, "join \(group)", cause: "not a multicast address (224.0.0.0/4 or ff00::/8)")
      }
      try socket.join(group, interface: group.scopeID != 0 ? group.scopeID : index)
    }
    let transport = DatagramTransport(
      socket.take(), connectedTo: options.connect, isDualStack: isDualStack, on: self)
    transport.heldBy = hold
    return transport
  }

  public func resolve(
    _ host: String, families: [AddressFamily], timeout: TimeAmount
  ) -> EventLoopFuture<[IPAddress]> {
    Resolver.resolve(host, families: families, timeout: timeout, on: self)
  }

  public func interfaces() throws(NetError) -> NetworkSnapshot { try NetworkSnapshot.current() }

  /// The address to bind to: the caller's, or that of the interface where only that can hold the socket.
  private static func local(
    _ asked: Endpoint?, _ hold: InterfaceBinding.Hold?, _ family: AddressFamily
  ) -> Endpoint? {
    let asked = asked?.ip.family == family ? asked : nil
    if let asked, !asked.ip.isWildcard { return asked }
    if case .source(let ip)? = hold { return Endpoint(ip: ip, port: asked?.port ?? 0) }
    return asked
  }
}

/// An attempt that was over before it began.
private final class FailedAttempt: StreamAttempt {
  private var done: ((Result<Transport, NetError>) -> Void)?
  init(_ done: @escaping (Result<Transport, NetError>) -> Void) { self.done = done }
  func cancel() { done = nil }

  func fail(_ error: NetError) {
    let done = done
    self.done = nil
    done?(.failure(error))
  }
}
