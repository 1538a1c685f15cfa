import NIOCore
import P2PDNet

@testable import P2PDTraversal

/// A router in a network of memory that speaks PCP and NAT-PMP, as far as a test lets it. Confined to the world's thread.
final class FakeRouter: PipeSink, @unchecked Sendable {
  struct Entry: Equatable {
    var client: IPAddress
    var port: UInt16
    var nonce: PCPNonce?
  }

  let host: MemoryHost
  /// By external port.
  private(set) var table: [UInt16: Entry] = [:]
  private(set) var heard: [String] = []
  var outside = ep("203.0.113.5:0").ip
  var speaksPCP = true
  var speaksNATPMP = true
  var lifetime: UInt32 = 7200
  /// Instead of an answer.
  var garbage: [UInt8]?
  /// Instead of what a PCP request would get.
  var result: PCPResult?
  private var born: NIODeadline
  private var pipes: [Pipe] = []

  init(_ host: MemoryHost) {
    self.host = host
    born = host.loop.now
  }

  func start() -> EventLoopFuture<Void> {
    let opened = host.addresses.map {
      PipeOpener.open(.udp, bind: Endpoint(ip: $0, port: 5351), sink: self, on: host.loop)
    }
    return EventLoopFuture.whenAllSucceed(opened, on: host.loop).map { self.pipes = $0 }
  }

  func restart(announced: Bool = false) {
    table = [:]
    born = host.loop.now
    guard announced, let pipe = pipes.first else { return }
    let bytes = PCPCodec.encode(PCPResponse(.success, lifetime: 0, epoch: 0, operation: .announce))
    for _ in 0..<100 { send(bytes, pipe, pipe.peer(for: ep("224.0.0.1:5350"))) }
  }

  private var epoch: UInt32 { UInt32((host.loop.now - born).nanoseconds / 1_000_000_000) }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let source = peer.endpoint else { return true }
    let copy = [UInt8](bytes)
    if let garbage {
      heard.append("?")
      for length in [garbage.count, 1, 0] { send(Array(garbage.prefix(length)), pipe, peer) }
    } else if let request = PCPCodec.request(copy) {
      if speaksPCP {
        send(PCPCodec.encode(answer(request, source)), pipe, peer)
      } else if speaksNATPMP {
        send(NATPMPResponse(.unsupportedVersion, epoch: epoch, content: .refused(copy[1])).bytes, pipe, peer)
      }
    } else if let request = NATPMPRequest(copy), speaksNATPMP {
      send(answer(request, source).bytes, pipe, peer)
    }
    return true
  }

  private func send(_ bytes: [UInt8], _ pipe: Pipe, _ peer: Peer) {
    _ = bytes.withUnsafeBytes { pipe.send($0, to: peer) }
  }

  private func answer(_ request: PCPRequest, _ source: Endpoint) -> PCPResponse {
    guard case .map(var map) = request.operation else {
      heard.append("announce")
      return PCPResponse(.success, lifetime: 0, epoch: epoch, operation: .announce)
    }
    heard.append("pcp \(request.lifetime)")
    var refusal = result
    if request.client != source.ip { refusal = .addressMismatch }
    let mine = table.first { $0.value.client == source.ip && $0.value.port == map.internalPort }
    if let mine, mine.value.nonce != map.nonce { refusal = .notAuthorized }
    if let refusal { return PCPResponse(refusal, lifetime: 1800, epoch: epoch, operation: .map(map)) }
    guard request.lifetime > 0 else {
      if let mine { table[mine.key] = nil }
      return PCPResponse(.success, lifetime: 0, epoch: epoch, operation: .map(map))
    }
    let port = source.ip.family == .v6 ? map.internalPort : mine?.key ?? free(map.external.port)
    table[port] = Entry(client: source.ip, port: map.internalPort, nonce: map.nonce)
    map.external = Endpoint(ip: source.ip.family == .v6 ? source.ip : outside, port: port)
    return PCPResponse(.success, lifetime: min(request.lifetime, lifetime), epoch: epoch, operation: .map(map))
  }

  private func answer(_ request: NATPMPRequest, _ source: Endpoint) -> NATPMPResponse {
    guard case .map(let transport, let inside, let wanted, let seconds) = request else {
      heard.append("address")
      return NATPMPResponse(.success, epoch: epoch, content: .address(outside))
    }
    heard.append("natpmp \(seconds)")
    let mine = table.first { $0.value.client == source.ip && $0.value.port == inside }
    guard seconds > 0 else {
      if let mine { table[mine.key] = nil }
      return NATPMPResponse(
        .success, epoch: epoch, content: .map(transport, internalPort: inside, externalPort: 0, lifetime: 0))
    }
    let port = mine?.key ?? free(wanted)
    table[port] = Entry(client: source.ip, port: inside)
    return NATPMPResponse(
      .success, epoch: epoch,
      content: .map(transport, internalPort: inside, externalPort: port, lifetime: min(seconds, lifetime)))
  }

  private func free(_ wanted: UInt16) -> UInt16 {
    var port = wanted == 0 ? 1024 : wanted
    while table[port] != nil { port = port == .max ? 1024 : port + 1 }
    return port
  }
}

/// Hosts behind one router, in virtual time.
struct Household: @unchecked Sendable {
  let time: VirtualTime
  let net: MemoryNetwork
  let router: FakeRouter
  let hosts: [MemoryHost]

  /// Runs the body in a household of its own.
  static func play(hosts count: Int = 1, _ body: @escaping @Sendable (Household) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 1)
    net.standard.latency = .milliseconds(2)
    let router = FakeRouter(net.addHost("router", addresses: ["192.168.1.1", "fe80::1"].compactMap { IPAddress($0) }))
    let hosts = (0..<count).map { index in
      net.addHost(
        "host\(index)", addresses: ["192.168.1.\(10 + index)", "2001:db8::\(10 + index)"].compactMap { IPAddress($0) })
    }
    try await router.host.loop.run {
      let house = Household(time: time, net: net, router: router, hosts: hosts)
      try await router.start().get()
      try await body(house)
      net.reset(seed: 0)
    }.get()
  }

  /// What the host's kernel would say of its interface.
  func snapshot(_ host: MemoryHost, gateway: String? = "192.168.1.1", six: String? = nil) -> NetworkSnapshot {
    let interface = NetworkInterface(
      name: "eth0", index: 2, addresses: host.addresses.map { InterfaceAddress(ip: $0, prefixLength: 64) })
    var routes: [AddressFamily: DefaultRoute] = [:]
    if let gateway { routes[.v4] = DefaultRoute(family: .v4, interfaceIndex: 2, gateway: IPAddress(gateway)) }
    if let six { routes[.v6] = DefaultRoute(family: .v6, interfaceIndex: 2, gateway: IPAddress(six)) }
    return NetworkSnapshot(interfaces: [interface], defaultRoutes: routes)
  }

  func pass(_ amount: TimeAmount) async throws {
    try await router.host.loop.scheduleTask(in: amount) {}.futureResult.get()
  }
}
