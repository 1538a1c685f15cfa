import Logging
import NIOCore
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// What a node does with the ports that routers open for it, on simulated hosts.
@Suite struct NodePortMappingTests {
  /// A router that speaks PCP, and gives every port one higher.
  private final class Router: PipeSink, @unchecked Sendable {
    var outside: IPAddress
    private(set) var open: [UInt16: PCPNonce] = [:]
    private(set) var requests = 0

    init(_ outside: IPAddress) { self.outside = outside }

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      requests += 1
      guard let request = PCPCodec.request([UInt8](bytes)), case .map(var map) = request.operation else { return true }
      map.external = Endpoint(ip: outside, port: map.internalPort + 1)
      open[map.external.port] = request.lifetime == 0 ? nil : map.nonce
      let answer = PCPResponse(.success, lifetime: request.lifetime, epoch: 1, operation: .map(map))
      _ = PCPCodec.encode(answer).withUnsafeBytes { pipe.send($0, to: peer) }
      return true
    }
  }

  /// The host's interface with the router's address in its default route.
  private final class Home: InterfaceSource {
    let snapshot: NetworkSnapshot
    private let loop: VirtualLoop

    init(_ host: MemoryHost, gateway: IPAddress) throws {
      loop = host.loop
      var snapshot = try host.interfaces()
      snapshot.defaultRoutes = [.v4: DefaultRoute(family: .v4, interfaceIndex: 2, gateway: gateway)]
      self.snapshot = snapshot
    }

    func start(
      on loop: any EventLoop, changed: @escaping @Sendable (NetworkSnapshot) -> Void
    ) -> EventLoopFuture<NetworkSnapshot> { loop.makeSucceededFuture(snapshot) }

    func stop() -> EventLoopFuture<Void> { loop.makeSucceededVoidFuture() }
  }

  private struct World: @unchecked Sendable {
    let router: Router
    let host: MemoryHost
    let interfaces: Home
    let stun: MemorySTUN

    func node(_ change: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
      var configuration = NodeConfiguration()
      (configuration.ephemeral, configuration.port) = (true, 0)
      configuration.servers.stun = [stun.url]
      change(&configuration)
      return try await Node.start(
        configuration, interfaces: interfaces, on: host.loop,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }
  }

  /// - Parameter outside: what the router says its outside address is; STUN servers see 203.0.113.5.
  private func inWorld(
    outside: String = "203.0.113.5", _ body: @escaping @Sendable (World) async throws -> Void
  ) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 0)
    let (host, gateway) = (net.addHost("home"), net.addHost("router"))
    try await host.loop.run {
      let router = Router(try #require(IPAddress(outside)))
      let ip = try #require(gateway.addresses.first)
      _ = try await PipeOpener.open(.udp, bind: Endpoint(ip: ip, port: 5351), sink: router, on: gateway.loop).get()
      let stun = try await MemorySTUN.start(on: net.addHost("stun"))
      let seen = try #require(IPAddress("203.0.113.5"))
      stun.outside = { $0.ip.family == .v4 ? Endpoint(ip: seen, port: $0.port) : $0 }
      try await body(World(router: router, host: host, interfaces: try Home(host, gateway: ip), stun: stun))
      net.reset(seed: 0)
    }.get()
  }

  private func external(_ node: Node) -> ExternalAddress? { node.address.routes.first { $0.family == .v4 }?.external }

  @Test("the address tells the outside port; at the end it is closed")
  func mapped() async throws {
    try await inWorld { world in
      let node = try await world.node()
      try await node.settled().get()
      #expect(external(node) == .at(Endpoint(ip: world.router.outside, port: node.port + 1)))
      #expect(node.portMapper?.mappings.first?.trust == .verified && world.router.open.count == 1)
      await node.close(flush: .zero)
      #expect(world.router.open.isEmpty)
    }
  }

  @Test("an outside address that STUN contradicts, or a private one, is not told")
  func contradicted() async throws {
    for outside in ["198.51.100.7", "192.168.178.2", "100.64.0.9"] {
      try await inWorld(outside: outside) { world in
        let node = try await world.node()
        var told: [ExternalAddress?] = []
        node.addressChanged = { [unowned node] _ in told.append(self.external(node)) }
        try await node.settled().get()
        #expect(world.router.open.count == 1)
        let seen = try #require(IPAddress("203.0.113.5"))
        #expect(external(node) == .at(Endpoint(ip: seen, port: 0)))
        #expect(!told.contains { if case .at(let place)? = $0 { place.ip == world.router.outside } else { false } })
        await node.close(flush: .zero)
      }
    }
  }

  @Test("the router gets another outside address: the servers are asked again, and the new one is told")
  func moved() async throws {
    try await inWorld { world in
      let node = try await world.node()
      try await node.settled().get()
      let new = try #require(IPAddress("203.0.113.77"))
      world.router.outside = new
      world.stun.outside = { $0.ip.family == .v4 ? Endpoint(ip: new, port: $0.port) : $0 }
      // It is renewed at half of its two hours, or an eighth later.
      try await node.loop.scheduleTask(in: .minutes(80)) {}.futureResult.get()
      #expect(external(node) == .at(Endpoint(ip: new, port: node.port + 1)))
      #expect(node.portMapper?.mappings.first?.trust == .verified)
      await node.close(flush: .zero)
    }
  }

  @Test("a router that has a carrier's address stands behind a carrier's NAT, which the report tells")
  func carrier() async throws {
    for (outside, isCarrier) in [("100.64.0.9", true as Bool?), ("192.168.178.2", nil)] {
      try await inWorld(outside: outside) { world in
        let node = try await world.node()
        try await node.settled().get()
        #expect(node.knowledge.reports.first { $0.key.family == .v4 }?.value.carrierNAT == isCarrier)
        await node.close(flush: .zero)
      }
    }
  }

  @Test(
    "nobody is asked where the node is offline, has no servers, or is told not to; without servers it can be told to")
  func off() async throws {
    try await inWorld { world in
      let changes: [@Sendable (inout NodeConfiguration) -> Void] = [
        { $0.offline = true }, { $0.servers = ServerList() }, { $0.portMapping = false },
        { ($0.offline, $0.portMapping) = (true, true) }, { $0.listen = [.loopback(.v4)] },
      ]
      for change in changes {
        let node = try await world.node(change)
        try await node.settled().get()
        #expect(world.router.requests == 0)
        await node.close(flush: .zero)
      }
      let node = try await world.node { ($0.servers, $0.portMapping) = (ServerList(), true) }
      try await node.settled().get()
      #expect(external(node) == .at(Endpoint(ip: world.router.outside, port: node.port + 1)))
      await node.close(flush: .zero)
    }
  }

  @Test("the nonce is kept in the state folder, closed to others, and used again")
  func kept() async throws {
    try await withTemporaryFolder { folder in
      try await inWorld { world in
        var nonces: [PCPNonce?] = []
        for _ in 0..<2 {
          let node = try await world.node { ($0.ephemeral, $0.stateDirectory, $0.port) = (false, folder, nil) }
          try await node.settled().get()
          nonces.append(world.router.open.values.first)
          await node.close(flush: .zero)
          #expect(world.router.open.isEmpty)
        }
        #expect(nonces[0] != nil && nonces[0] == nonces[1])
      }
    }
  }
}
