import NIOCore

/// One host of a ``MemoryNetwork``: its addresses, its ports, and what its loops open their pipes in.
public final class MemoryHost: Network, @unchecked Sendable {
  public let name: String
  public let addresses: [IPAddress]
  /// Switched off or out of reach: nothing it sends arrives any more, and nothing arrives at it.
  public var hasVanished = false
  /// Calls from other hosts get lost, as before a router or firewall that lets in nothing but answers.
  public var isFirewalled = false
  /// What becomes of its own calls to an address, as behind a firewall that lets out a few ports; nil: all are let out.
  public var outgoing: ((Endpoint) -> Outgoing)?
  public enum Outgoing: Sendable { case passes, isLost, isRefused }
  public let number: Int
  let net: MemoryNetwork

  private var listeners: [StreamAddress: MemoryListener] = [:]
  private var sockets: [MemoryDatagram] = []
  private var streams: [ObjectIdentifier: MemoryStream] = [:]
  private var attempts: [ObjectIdentifier: MemoryAttempt] = [:]
  private var lastPort: UInt16 = firstPort - 1
  private var lastStream: UInt64 = 0
  private weak var lastLoop: VirtualLoop?

  init(_ name: String, number: Int, in net: MemoryNetwork, addresses: [IPAddress]) {
    self.name = name
    self.number = number
    self.net = net
    self.addresses = addresses
  }

  /// The event loop whose pipes live on this host.
  public var loop: VirtualLoop {
    if let lastLoop { return lastLoop }
    let made = net.time.makeLoop(network: self)
    lastLoop = made
    return made
  }

  /// The network it is in; the two hold each other until ``MemoryNetwork/reset(seed:keeping:)``.
  public var network: MemoryNetwork { net }

  var time: VirtualTime { net.time }

  func address(_ family: AddressFamily) -> IPAddress? { addresses.first { $0.family == family } }

  /// The address that packets to `ip` leave with.
  func source(to ip: IPAddress) -> IPAddress {
    ip.isLoopback ? .loopback(ip.family) : address(ip.family) ?? .wildcard(ip.family)
  }

  func owns(_ ip: IPAddress) -> Bool { ip.isWildcard || ip.isLoopback || addresses.contains(ip) }

  /// What is open on it: streams, calls under way, datagram sockets.
  public var open: (streams: Int, calls: Int, sockets: Int) { (streams.count, attempts.count, sockets.count) }

  // MARK: Streams

  public func connectStream(
    to address: StreamAddress, _ options: StreamOptions, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) -> any StreamAttempt {
    let attempt = MemoryAttempt(self, address, options, done)
    attempts[ObjectIdentifier(attempt)] = attempt
    attempt.start()
    return attempt
  }

  /// A call of this host between these two ends.
  func attempt(from source: Endpoint?, to target: Endpoint?) -> MemoryAttempt? {
    guard let source, let target else { return nil }
    return attempts.values.first { $0.calls(from: source, to: target) }
  }

  func remove(_ attempt: MemoryAttempt) { attempts[ObjectIdentifier(attempt)] = nil }

  public func listenStream(
    on address: StreamAddress, _ options: StreamOptions, owner: any ListenerOwner
  ) throws(NetError) -> Transport {
    var address = address
    if case .ip(let endpoint) = address {
      guard owns(endpoint.ip) else {
        throw NetError(.badAddress, "listen on \(endpoint)", cause: "\(name) has no such address")
      }
      if endpoint.port == 0 { address = .ip(Endpoint(ip: endpoint.ip, port: freePort())) }
    }
    guard listeners[address] == nil else {
      throw NetError(.inUse, "listen on \(address)", cause: "another listener has it")
    }
    let listener = MemoryListener(address, options, owner, self)
    listeners[address] = listener
    return listener
  }

  /// Who listens there: on that very address, or on all of its family.
  func listener(at address: StreamAddress) -> MemoryListener? {
    if let exact = listeners[address] { return exact }
    guard case .ip(let endpoint) = address else { return nil }
    if let all = listeners[.ip(Endpoint(ip: .wildcard(endpoint.ip.family), port: endpoint.port))] { return all }
    guard endpoint.ip.family == .v4 else { return nil }
    let both = listeners[.ip(Endpoint(ip: .wildcard(.v6), port: endpoint.port))]
    return both?.options.dualStack == true ? both : nil
  }

  func remove(_ listener: MemoryListener) {
    if listeners[listener.address] === listener { listeners[listener.address] = nil }
  }

  func nextStream() -> UInt64 {
    lastStream += 1
    return lastStream
  }

  func add(_ stream: MemoryStream) { streams[ObjectIdentifier(stream)] = stream }
  func remove(_ stream: MemoryStream) { streams[ObjectIdentifier(stream)] = nil }

  func streams(to other: MemoryHost) -> [MemoryStream] {
    streams.values.filter { $0.other === other }.sorted { $0.number < $1.number }
  }

  /// Ports a socket that asks for none gets, one after another.
  func freePort() -> UInt16 {
    lastPort = lastPort == .max ? Self.firstPort : lastPort + 1
    return lastPort
  }

  // MARK: Datagrams

  public func openDatagram(_ options: DatagramOptions) throws(NetError) -> Transport {
    let family = options.family
    var local = options.bind ?? Endpoint(ip: .wildcard(family), port: 0)
    guard owns(local.ip) || local.ip.isMulticast else {
      throw NetError(.badAddress, "open udp on \(local)", cause: "\(name) has no such address")
    }
    if local.port == 0 {
      local = Endpoint(ip: local.ip, port: freePort())
    } else if !options.reuseAddr, sockets.contains(where: { $0.local == local }) {
      throw NetError(.inUse, "open udp on \(local)", cause: "another socket has it")
    }
    for group in options.groups where !group.isMulticast {
      throw NetError(.badAddress, "join \(group)", cause: "not a multicast address (224.0.0.0/4 or ff00::/8)")
    }
    let socket = MemoryDatagram(local, options, self)
    sockets.append(socket)
    return socket
  }

  func remove(_ socket: MemoryDatagram) { sockets.removeAll { $0 === socket } }

  /// Sends to whoever has the address, or is in the group, when the datagram arrives.
  func send(_ bytes: ByteBuffer, from source: Endpoint, to target: Endpoint, loopsBack: Bool) {
    let isForAll = target.ip.isMulticast || target.ip.isBroadcast
    let receivers =
      isForAll
      ? net.hosts.filter { $0 !== self || loopsBack } : net.host(at: target.ip, from: self).map { [$0] } ?? []
    for receiver in receivers {
      let delay = net.datagramDelay(bytes.readableBytes, from: self, to: receiver)
      guard let delay, !net.isCut(self, receiver) else {
        net.tell("\(name):\(source.port) > \(receiver.name):\(target.port) datagram lost")
        continue
      }
      time.after(delay) { [net] in
        guard !net.isCut(self, receiver) else { return }
        net.tell("\(self.name):\(source.port) > \(receiver.name):\(target.port) datagram")
        receiver.take(bytes, from: source, to: target)
      }
    }
  }

  private func take(_ bytes: ByteBuffer, from source: Endpoint, to target: Endpoint) {
    let hearing = sockets.filter { $0.hears(source, target) }
    if target.ip.isMulticast || target.ip.isBroadcast {
      for socket in hearing { socket.arrived(bytes, from: source) }
    } else {
      // A socket that is connected to the sender is closer than one that hears all.
      (hearing.first { $0.isConnected } ?? hearing.first)?.arrived(bytes, from: source)
    }
  }

  // MARK: Names and interfaces

  public func resolve(_ host: String, families: [AddressFamily], timeout: TimeAmount) -> EventLoopFuture<[IPAddress]> {
    guard !net.muteNames.contains(host) else {
      let error = NetError(.timeout, "resolve \(host)", cause: "nobody answers for the name")
      return loop.scheduleTask(in: timeout) { throw error }.futureResult
    }
    let found: [IPAddress] =
      switch HostText(host) {
      case .addresses(let list): list
      case .name(let name): net.host(named: name)?.addresses ?? []
      case .invalid: []
      }
    let wanted = families.flatMap { family in found.filter { $0.family == family } }
    guard wanted.isEmpty else { return loop.makeSucceededFuture(wanted) }
    return loop.makeFailedFuture(
      NetError(.dns, "resolve \(host)", cause: "the simulated network has no host of that name"))
  }

  public func interfaces() throws(NetError) -> NetworkSnapshot {
    let loopback = [
      InterfaceAddress(ip: .loopback(.v4), prefixLength: 8, scope: .host, flags: .permanent),
      InterfaceAddress(ip: .loopback(.v6), prefixLength: 128, scope: .host, flags: .permanent),
    ]
    let own = addresses.map {
      InterfaceAddress(ip: $0, prefixLength: $0.family == .v4 ? 8 : 64, flags: .permanent)
    }
    return NetworkSnapshot(
      interfaces: [
        NetworkInterface(name: "lo", index: 1, mtu: 65_536, flags: [.up, .running, .loopback], addresses: loopback),
        NetworkInterface(
          name: "eth0", index: 2,
          hardwareAddress: [2, 0, 0, 0, UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)],
          flags: [.up, .running, .broadcast, .multicast], addresses: own),
      ],
      defaultRoutes: [
        .v4: DefaultRoute(family: .v4, interfaceIndex: 2), .v6: DefaultRoute(family: .v6, interfaceIndex: 2),
      ])
  }

  // MARK: The end

  func end() {
    for listener in listeners.values { listener.hostEnds() }
    for socket in sockets { socket.hostEnds() }
    for stream in streams.values.sorted(by: { $0.number < $1.number }) { stream.drop(.local) }
    for attempt in attempts.values { attempt.hostEnds() }
  }

  /// RFC 6335 §6: the dynamic ports.
  private static let firstPort: UInt16 = 49_152
}

extension Transport {
  /// The host it lives on is gone.
  fileprivate func hostEnds() {
    let told = owner
    close(linger: false)
    told?.transportEnded(.local)
  }
}
