import Logging
import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal
import Testing

@testable import P2PDNode

/// What a node finds out of its network, and how it is signalled: real nodes and clients, on simulated hosts in virtual time.
@Suite struct NodeNetworkTests {
  private static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// A host for the node, two with STUN servers, two with brokers; 40 ms from each to each.
  private final class World: @unchecked Sendable {
    let net: MemoryNetwork
    let home: MemoryHost
    let brokerHosts: [MemoryHost]
    var brokers: [MemoryBroker] = []
    var stuns: [MemorySTUN] = []
    var servers = ServerList()

    init(_ time: VirtualTime) async throws {
      net = MemoryNetwork(time, seed: 1)
      net.standard.latency = .milliseconds(20)
      home = net.addHost("home")
      brokerHosts = [net.addHost("broker-a"), net.addHost("broker-b")]
      for host in brokerHosts { brokers.append(try await MemoryBroker.start(on: host)) }
      for name in ["stun-a", "stun-b"] { stuns.append(try await MemorySTUN.start(on: net.addHost(name))) }
      servers.stun = stuns.map(\.url)
      servers.brokers = brokers.map(\.url)
    }

    var asked: Int { stuns.map(\.requests).reduce(0, +) }

    /// A router of this outside address stands before the node from now on; it leaves the ports as they are.
    func translate(_ outside: String) throws -> IPAddress {
      let ip = try #require(IPAddress(outside))
      for stun in stuns { stun.outside = { $0.ip.family == .v4 ? Endpoint(ip: ip, port: $0.port) : $0 } }
      return ip
    }

    func node(
      on host: MemoryHost? = nil, interfaces: (any InterfaceSource)? = nil,
      _ change: (inout NodeConfiguration) -> Void = { _ in }
    ) async throws -> Node {
      var configuration = NodeConfiguration()
      (configuration.ephemeral, configuration.port, configuration.servers) = (true, 0, servers)
      change(&configuration)
      let loop = (host ?? home).loop
      return try await Node.start(
        configuration, interfaces: interfaces ?? MemoryInterfaces(on: loop), on: loop, logger: quiet)
    }
  }

  private func inWorld(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 0)
    try await net.addHost("start").loop.run {
      let world = try await World(time)
      try await body(world)
      world.net.reset(seed: 0)
    }.get()
  }

  private func wait(_ time: TimeAmount, _ node: Node) async throws {
    try await node.loop.scheduleTask(in: time) {}.futureResult.get()
  }

  @Test("a start waits for no server; what was found out goes into the address")
  func found() async throws {
    try await inWorld { world in
      let began = world.net.time.now
      let node = try await world.node()
      #expect(world.net.time.now == began)
      let first = node.address
      #expect(first.signalling.count == 2, "the brokers it is about to listen at")
      #expect(first.routes.allSatisfy { $0.external == .unknown && $0.nat == nil })
      try await node.settled().get()
      let settled = node.address
      #expect(settled.signalling.map(\.host) == ["broker-a", "broker-b"])
      #expect(settled.issued > first.issued)
      let route = try #require(settled.routes.first { $0.family == .v4 })
      #expect(route.external == .at(Endpoint(ip: route.nic, port: node.port)))
      #expect(route.nat?.delta == .equal)
      #expect(world.net.time.now - began < .seconds(8))
      await node.close(flush: .zero)
    }
  }

  @Test("behind a router the outside address is known, not which of its ports would lead in")
  func translated() async throws {
    try await inWorld { world in
      let outside = try world.translate("203.0.113.5")
      let node = try await world.node()
      try await node.settled().get()
      let route = try #require(node.address.routes.first { $0.family == .v4 })
      #expect(route.external == .at(Endpoint(ip: outside, port: 0)))
      #expect(route.nat == NATFacts(type: .portRestricted, delta: .equal, value: 0))
      await node.close(flush: .zero)
    }
  }

  @Test("a server whose name nobody answers for holds up nothing that the others say")
  func muteName() async throws {
    try await inWorld { world in
      let outside = try world.translate("203.0.113.5")
      world.net.muteNames = ["stun.dead"]
      let node = try await world.node { $0.servers.stun.insert(ServerURL(.stun, host: "stun.dead"), at: 0) }
      // A round trip of 40 ms, and the 200 ms in which news is gathered.
      try await wait(.milliseconds(300), node)
      let route = try #require(node.address.routes.first { $0.family == .v4 })
      #expect(route.external == .at(Endpoint(ip: outside, port: 0)))
      #expect(node.knowledge.reports.values.contains { $0.udp.mapping == .endpointIndependent })
      await node.close(flush: .zero)
    }
  }

  @Test("offline nobody is contacted, and nothing is waited for")
  func offline() async throws {
    try await inWorld { world in
      let node = try await world.node { $0.offline = true }
      let address = node.address
      try await node.settled().get()
      try await wait(.seconds(60), node)
      #expect(node.address == address && node.signalling == nil && node.messenger(to: address) == nil)
      #expect(world.asked == 0 && world.brokers.allSatisfy { $0.connections == 0 })
      await node.close(flush: .zero)
    }
  }

  @Test("a node for this machine alone contacts nobody elsewhere, though servers are configured")
  func loopback() async throws {
    try await inWorld { world in
      let node = try await world.node {
        $0.listen = [.loopback(.v4)]
        $0.servers.brokers.append(ServerURL(.mqtt, host: "127.0.0.1"))
      }
      try await node.settled().get()
      try await wait(.seconds(60), node)
      #expect(world.asked == 0 && world.brokers.allSatisfy { $0.connections == 0 } && node.portMapper == nil)
      #expect(node.configuration.servers.all.map(\.host) == ["127.0.0.1"], "that is this machine")
      await node.close(flush: .zero)
      var both = NodeConfiguration()
      #expect(!both.isForThisMachine)
      both.listen = [.loopback(.v6), .wildcard(.v4)]
      #expect(!both.isForThisMachine && both.effective.servers == both.servers)
    }
  }

  @Test("dead servers cost a node its 8 seconds of patience, no more")
  func dead() async throws {
    try await inWorld { world in
      for host in world.brokerHosts { host.hasVanished = true }
      let began = world.net.time.now
      let node = try await world.node { $0.servers.stun = [] }
      try await node.settled().get()
      #expect(world.net.time.now - began == .seconds(8))
      // They could not be had: the address names them no more.
      try await wait(.seconds(5), node)
      #expect(node.address.signalling == [])
      await node.close(flush: .zero)
    }
  }

  @Test("what says the same makes no new address")
  func noNoise() async throws {
    try await inWorld { world in
      let node = try await world.node()
      try await node.settled().get()
      try await wait(.seconds(20), node)
      var changes = 0
      node.addressChanged = { _ in changes += 1 }
      let (address, asked) = (node.address, world.asked)
      node.renewLater()
      node.networkChanged(node.snapshot)
      try await wait(.seconds(5), node)
      #expect(world.asked == asked, "what did not change is not measured again")
      // One of two brokers goes and comes back: the address goes on naming both.
      world.brokerHosts[0].hasVanished = true
      try await wait(.seconds(120), node)
      world.brokerHosts[0].hasVanished = false
      try await wait(.seconds(120), node)
      #expect(changes == 0 && node.address == address)
      await node.close(flush: .zero)
      try await wait(.seconds(1), node)
      #expect(world.brokers[1].connections == 0)
    }
  }

  @Test("another router is measured anew, and the address that follows tells what it does")
  func otherRouter() async throws {
    try await inWorld { world in
      let interfaces = PlayedInterfaces(try world.home.interfaces(), on: world.home.loop)
      let node = try await world.node(interfaces: interfaces)
      try await node.settled().get()
      try await wait(.seconds(20), node)
      let outside = try world.translate("203.0.113.9")
      var addresses: [NodeAddress] = []
      node.addressChanged = { addresses.append($0) }
      let asked = world.asked
      let now = interfaces.snapshot
      interfaces.play(
        NetworkSnapshot(
          interfaces: now.interfaces,
          defaultRoutes: [.v4: DefaultRoute(family: .v4, interfaceIndex: 2, gateway: IPAddress("10.9.9.9"))]))
      try await wait(.seconds(20), node)
      #expect(world.asked > asked)
      let last = try #require(addresses.last)
      #expect(last == node.address && addresses.count <= 4)
      #expect(last.routes.first { $0.family == .v4 }?.external == .at(Endpoint(ip: outside, port: 0)))
      // An interface that goes takes its routes along at once.
      interfaces.play(NetworkSnapshot(interfaces: now.interfaces.filter(\.isLoopback)))
      #expect(node.address.routes.allSatisfy { $0.nic.isLoopback })
      await node.close(flush: .zero)
      #expect(interfaces.isStopped)
    }
  }

  @Test("a router that got another address is found out when the brokers are back")
  func newOutside() async throws {
    try await inWorld { world in
      _ = try world.translate("203.0.113.5")
      let node = try await world.node()
      try await node.settled().get()
      try await wait(.seconds(20), node)
      var addresses: [NodeAddress] = []
      node.addressChanged = { addresses.append($0) }
      for host in world.brokerHosts { host.hasVanished = true }
      try await wait(.seconds(100), node)
      let outside = try world.translate("203.0.113.6")
      for host in world.brokerHosts { host.hasVanished = false }
      try await wait(.seconds(100), node)
      #expect(node.address.routes.first { $0.family == .v4 }?.external == .at(Endpoint(ip: outside, port: 0)))
      #expect((1...2).contains(addresses.count) && node.address.signalling.count == 2)
      await node.close(flush: .zero)
    }
  }

  @Test(
    "a router that got another address is found out by one broker that is back, though the others were never missed")
  func newOutsideByOne() async throws {
    try await inWorld { world in
      _ = try world.translate("203.0.113.5")
      let node = try await world.node()
      try await node.settled().get()
      try await wait(.seconds(20), node)
      let outside = try world.translate("203.0.113.6")
      world.net.cut(world.home, world.brokerHosts[0])
      try await wait(.seconds(20), node)
      #expect(node.address.routes.first { $0.family == .v4 }?.external == .at(Endpoint(ip: outside, port: 0)))
      // One that comes and goes all the time costs a look a minute.
      try await wait(.seconds(60), node)
      let asked = world.asked
      for _ in 0..<20 {
        world.net.cut(world.home, world.brokerHosts[0])
        try await wait(.seconds(3), node)
      }
      #expect((asked + 1...asked + 100).contains(world.asked), "\(world.asked - asked) questions in a minute")
      await node.close(flush: .zero)
    }
  }

  @Test("what could not be measured while there was no way out is measured when a broker is there")
  func lateOutside() async throws {
    try await inWorld { world in
      let outside = try world.translate("203.0.113.5")
      for host in world.net.hosts where host !== world.home { host.hasVanished = true }
      let node = try await world.node()
      try await wait(.seconds(6), node)
      #expect(node.knowledge.isInVain)
      for host in world.net.hosts { host.hasVanished = false }
      // Sooner than the measuring would be tried again by itself.
      try await wait(.seconds(15), node)
      #expect(node.address.routes.first { $0.family == .v4 }?.external == .at(Endpoint(ip: outside, port: 0)))
      await node.close(flush: .zero)
    }
  }

  @Test("two nodes speak through brokers, learn how long it takes, and one broker of two is enough")
  func signals() async throws {
    try await inWorld { world in
      let one = try await world.node()
      let other = try await world.node(on: world.net.addHost("other"))
      try await one.settled().get()
      try await other.settled().get()
      try await wait(.seconds(10), one)
      other.signalling?.onMessage = { $0.answer(Array("you said ".utf8) + $0.bytes) }
      let messenger = try #require(one.messenger(to: other.address))
      #expect(messenger.oneWay == nil)
      #expect(messenger.leg == .milliseconds(40))
      let answer = try await messenger.request(Array("hello".utf8), timeout: .seconds(5)).get()
      #expect(String(decoding: answer.bytes, as: UTF8.self) == "you said hello")
      #expect(answer.roundTrip == .milliseconds(80) && messenger.oneWay == .milliseconds(40))
      world.brokerHosts[0].hasVanished = true
      let again = try await messenger.request(Array("again".utf8), timeout: .seconds(5)).get()
      #expect(String(decoding: again.bytes, as: UTF8.self) == "you said again")
      await one.close(flush: .zero)
      await other.close(flush: .zero)
    }
  }

  @Test("an address that would be too long leaves its last routes out")
  func fitting() throws {
    let routes = try (1...16).map { index in
      NodeRoute(
        interface: UInt8(index % 16), nic: try #require(IPAddress("2001:db8::\(index)")), port: 7,
        external: .at(Endpoint(ip: try #require(IPAddress("2001:db8::\(index)")), port: 7)),
        nat: NATFacts(type: .open, delta: .equal, value: 0))
    }
    let servers = (1...3).map { SignalServer(host: "broker\($0).example.org", port: 8883, tls: true) }
    let identity = Identity.ephemeral()
    #expect(throws: NodeAddressError.self) {
      try NodeAddress.make(by: identity, issued: 1, routes: routes, signalling: servers)
    }
    let made = try NodeAddress.fitting(by: identity, issued: 1, routes: routes, signalling: servers)
    #expect(made.signalling == servers)
    #expect(made.routes == Array(routes.prefix(made.routes.count)) && made.routes.count > 8)
    let read = try NodeAddress(made.description)
    #expect(read == made)
  }

  @Test("round trips are kept for the nodes heard of last")
  func times() throws {
    var times = SignalTimes()
    let keys = (0...SignalTimes.capacity).map { _ in Identity.ephemeral().key }
    for key in keys { times.add(.milliseconds(100), of: key) }
    #expect(times.count == SignalTimes.capacity && times[keys[0]] == nil)
    times.add(.milliseconds(50), of: keys[1])
    #expect(times[keys[1]] == .milliseconds(75))
  }
}

/// Interfaces that change when a test says so.
final class PlayedInterfaces: InterfaceSource, @unchecked Sendable {
  private(set) var snapshot: NetworkSnapshot
  private(set) var isStopped = false
  private let loop: any EventLoop
  private var changed: (@Sendable (NetworkSnapshot) -> Void)?

  init(_ snapshot: NetworkSnapshot, on loop: any EventLoop) {
    self.snapshot = snapshot
    self.loop = loop
  }

  func start(on loop: any EventLoop, changed: @escaping @Sendable (NetworkSnapshot) -> Void) -> EventLoopFuture<
    NetworkSnapshot
  > {
    self.changed = changed
    return loop.makeSucceededFuture(snapshot)
  }

  func play(_ now: NetworkSnapshot) {
    snapshot = now
    changed?(now)
  }

  func stop() -> EventLoopFuture<Void> {
    isStopped = true
    changed = nil
    return loop.makeSucceededVoidFuture()
  }
}
