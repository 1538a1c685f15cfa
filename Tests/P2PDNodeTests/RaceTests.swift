import Logging
import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Two nodes that come to a pipe in every way there is, over real signalling, TLS and sockets of simulated hosts: virtual
/// time tells the round trips exactly.
@Suite struct RaceTests {
  private static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  /// From any host to any other.
  static let way = TimeAmount.milliseconds(20)

  final class World: @unchecked Sendable {
    let net: MemoryNetwork
    let a: MemoryHost
    let b: MemoryHost
    var servers = ServerList()
    private(set) var brokers: [MemoryBroker] = []
    private(set) var stuns: [MemorySTUN] = []
    var nodes: [Node] = []

    init(_ time: VirtualTime) async throws {
      net = MemoryNetwork(time, seed: 1)
      net.standard.latency = RaceTests.way
      (a, b) = (net.addHost("a"), net.addHost("b"))
      for name in ["broker-a", "broker-b"] { brokers.append(try await MemoryBroker.start(on: net.addHost(name))) }
      for name in ["stun-a", "stun-b"] { stuns.append(try await MemorySTUN.start(on: net.addHost(name))) }
      servers.stun = stuns.map(\.url)
      servers.brokers = brokers.map(\.url)
    }

    /// A node that knows its network and listens at its brokers.
    func node(_ host: MemoryHost, _ change: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
      var configuration = NodeConfiguration()
      (configuration.ephemeral, configuration.port, configuration.servers) = (true, 0, servers)
      change(&configuration)
      let node = try await Node.start(configuration, on: host.loop, logger: RaceTests.quiet)
      try await node.settled().get()
      nodes.append(node)
      return node
    }

    func wait(_ time: TimeAmount) async throws { try await a.loop.scheduleTask(in: time) {}.futureResult.get() }

    /// What is open on both hosts, and the timers of the world.
    var open: [Int] {
      [a, b].flatMap { [$0.open.streams, $0.open.calls, $0.open.sockets] } + [net.time.timerCount]
    }

    func end() async {
      for node in nodes { await node.close(flush: .zero) }
      net.reset(seed: 0)
    }
  }

  static func inWorld(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 0)
    try await net.addHost("start").loop.run {
      let world = try await World(time)
      try await body(world)
      await world.end()
    }.get()
  }

  static func speaks(_ pipe: Pipe, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let promise = pipe.loop.makePromise(of: Message.self)
    _ = "ECHO hello".utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast())) }
    _ = pipe.receive(from: nil, timeout: .seconds(60)) { promise.completeWith($0.mapError { $0 as any Error }) }
    #expect(String(buffer: try await promise.futureResult.get().bytes) == "hello", sourceLocation: sourceLocation)
  }

  /// What a connect takes, and what it gives.
  private func connect(
    _ world: World, _ one: Node, _ two: NodeAddress, _ strategies: [ConnectStrategy] = ConnectStrategy.allCases
  ) async throws -> (pipe: Pipe, took: TimeAmount) {
    let began = world.net.time.now
    let pipe = try await one.connect(two, strategies: strategies)
    return (pipe, world.net.time.now - began)
  }

  // MARK: The strategies

  @Test("direct: a round trip, and TLS's")
  func direct() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      let (pipe, took) = try await connect(world, one, two.address)
      #expect(pipe.strategy == "direct" && pipe.path == "lan")
      // r for TCP, r for TLS.
      #expect(took == .milliseconds(80))
      try await Self.speaks(pipe)
    }
  }

  @Test("reverse: the peer dials back, half a broker's round trip later")
  func reverse() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      world.b.isFirewalled = true
      let (pipe, took) = try await connect(world, one, two.address, [.direct, .reverse])
      #expect(pipe.strategy == "reverse" && pipe.path == "lan")
      // Held 10 ms for the neighbour that might have answered; ½R = 40, r for TCP, 1½ r until the client has proven itself.
      #expect(took == .milliseconds(10 + 40 + 40 + 60), "\(took.nanoseconds / 1_000_000) ms")
      try await Self.speaks(pipe)
      let theirs = try #require(two.pipes().first)
      #expect(theirs.strategy == "reverse" && theirs.peerKey == one.identity.key.bytes)
      #expect(two.pipes().count == 1 && one.pipes().count == 1)
    }
  }

  @Test("reverse speaks the protocol that was asked for, and asks for consent")
  func reverseProtocol() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      world.b.isFirewalled = true
      let host = Recorder()
      try two.host(protocol: "chat", sink: host)
      var asked: [ConsentInfo] = []
      var allows = true
      two.consent = { key, info in
        asked.append(info)
        #expect(key == one.identity.key)
        return two.loop.makeSucceededFuture(allows)
      }
      let pipe = try await one.connect(two.address, protocol: "chat", strategies: [.direct, .reverse])
      try await world.wait(Self.way)
      #expect(pipe.protocolName == "chat" && two.pipes().first?.protocolName == "chat")
      #expect(host.view.opened.count == 1)
      #expect(asked.map(\.protocolName) == ["chat"] && asked.first?.strategies == ["reverse"])
      #expect(asked.first?.addresses.contains { $0.port == one.port } == true)
      allows = false
      do {
        _ = try await one.connect(two.address, protocol: "chat", timeout: .seconds(3), strategies: [.direct, .reverse])
        Issue.record("it connected")
      } catch let error as NetError {
        let attempt = error.attempts.first { $0.way?.strategy == "reverse" }
        #expect(attempt?.code == .permission && attempt?.cause.contains("does not allow") == true, "\(error)")
      }
      do {
        _ = try await one.connect(two.address, protocol: "chess", strategies: [.direct, .reverse])
        Issue.record("it connected")
      } catch let error as NetError { #expect(error.code == .noProtocol, "\(error)") }
    }
  }

  @Test("punch: both call at once, through firewalls that let nothing in")
  func punch() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      (world.a.isFirewalled, world.b.isFirewalled) = (true, true)
      try await world.wait(.seconds(3))
      let (pipe, took) = try await connect(world, one, two.address)
      #expect(pipe.strategy == "punch", "\(pipe.strategy)")
      #expect(took <= .milliseconds(10 + 80 + 40 + 40 + 60), "\(took.nanoseconds / 1_000_000) ms")
      try await Self.speaks(pipe)
      #expect(two.pipes().map(\.strategy) == ["punch"])
    }
  }

  // MARK: Why not

  @Test("a failure tells what both sides tried, and one thing to do")
  func whyNot() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      (world.a.isFirewalled, world.b.isFirewalled) = (true, true)
      let began = world.net.time.now
      do {
        _ = try await one.connect(two.address, timeout: .seconds(30), strategies: [.direct, .reverse])
        Issue.record("it connected")
      } catch let error as NetError {
        #expect(error.code == .timeout)
        #expect(error.attempts.contains { $0.way?.strategy == "direct" && $0.way?.isPeers == false })
        #expect(error.attempts.contains { $0.way?.strategy == "reverse" && $0.way?.isPeers == true }, "\(error)")
        #expect(error.remedy.contains("relay"))
      }
      #expect(world.net.time.now - began <= .seconds(6))
    }
  }

  @Test("a stale address: its endpoints are dead, its brokers lead to the node's fresh ones")
  func stale() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      let routes = two.address.routes.map { NodeRoute(interface: $0.interface, nic: $0.nic, port: 9) }
      let stale = try NodeAddress.make(
        by: two.identity, issued: 1, routes: routes, signalling: two.address.signalling)
      let pipe = try await one.connect(stale, strategies: [.direct])
      #expect(pipe.strategy == "direct" && pipe.peer?.port == Int(two.port))
      try await Self.speaks(pipe)
      // And where there is no route in it at all.
      let none = try NodeAddress.make(by: two.identity, issued: 1, routes: [], signalling: two.address.signalling)
      try await Self.speaks(try await one.connect(none))
    }
  }

  // MARK: Several at once

  @Test("both connecting to each other at once: two pipes that both work")
  func crossing() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      for walls in [(false, false), (false, true), (true, true)] {
        (world.a.isFirewalled, world.b.isFirewalled) = walls
        async let there = one.connect(two.address)
        async let back = two.connect(one.address)
        let (x, y) = try await (there, back)
        try await Self.speaks(x)
        try await Self.speaks(y)
        for pipe in [x, y] { _ = try? await pipe.close().get() }
      }
    }
  }

  @Test("a node connects to itself, whatever stands before it")
  func itself() async throws {
    try await Self.inWorld { world in
      let one = try await world.node(world.a)
      world.a.isFirewalled = true
      let pipe = try await one.connect(one.address)
      #expect(pipe.strategy == "direct" && pipe.path == "same machine")
      try await Self.speaks(pipe)
    }
  }

  @Test("a hundred connects at once, dialled back, all work and leave nothing behind", arguments: [100])
  func hundred(_ count: Int) async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      world.b.isFirewalled = true
      try await world.wait(.seconds(90))
      let before = world.open
      let opening = (0..<count).map { _ in
        one.connecting(two.address, timeout: .seconds(20), strategies: [.direct, .reverse]).pipe
      }
      let pipes = try await EventLoopFuture.whenAllSucceed(opening, on: one.loop).get()
      try await world.wait(Self.way)
      #expect(two.pipes().count == count)
      for pipe in pipes { try await Self.speaks(pipe) }
      for pipe in pipes { _ = try? await pipe.close().get() }
      try await world.wait(.seconds(90))
      #expect(one.connectors.isEmpty && two.responders.sessions.isEmpty)
      #expect(world.open == before, "\(world.open) \(before)")
    }
  }

  @Test("a hundred connects at once through two firewalls all work and leave nothing behind")
  func hundredPunches() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      (world.a.isFirewalled, world.b.isFirewalled) = (true, true)
      try await world.wait(.seconds(90))
      let before = world.open
      let opening = (0..<100).map { _ in one.connecting(two.address).pipe }
      let pipes = try await EventLoopFuture.whenAllSucceed(opening, on: one.loop).get()
      #expect(pipes.allSatisfy { $0.strategy == "punch" })
      for pipe in pipes { try await Self.speaks(pipe) }
      for pipe in pipes { _ = try? await pipe.close().get() }
      try await world.wait(.seconds(90))
      #expect(one.connectors.isEmpty && two.responders.sessions.isEmpty)
      #expect(world.open == before, "\(world.open) \(before)")
    }
  }

  @Test("a connect that is called off, at any moment, leaves nothing behind")
  func cancelled() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      world.b.isFirewalled = true
      try await world.wait(.seconds(90))
      let before = world.open
      for step in stride(from: 0, through: 200, by: 9) {
        let (pipe, cancel) = one.connecting(two.address)
        try await world.wait(.milliseconds(Int64(step)))
        cancel()
        let result = try? await pipe.get()
        if let result { _ = try? await result.close().get() }
        #expect(one.connectors.isEmpty)
        try await world.wait(.seconds(30))
        #expect(two.pipes().isEmpty && one.pipes().isEmpty, "after \(step) ms")
        #expect(two.responders.sessions.isEmpty && two.counter.handshakes == 0 && one.counter.handshakes == 0)
      }
      try await world.wait(.seconds(90))
      #expect(world.open == before, "\(world.open) \(before)")
    }
  }

  @Test("a peer that vanishes in the middle costs a timeout, and nothing stays")
  func vanishing() async throws {
    try await Self.inWorld { world in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      try await world.wait(.seconds(90))
      world.b.isFirewalled = true
      let connecting = one.connecting(two.address, timeout: .seconds(8))
      try await world.wait(.milliseconds(60))
      world.b.hasVanished = true
      do {
        _ = try await connecting.pipe.get()
        Issue.record("it connected")
      } catch let error as NetError { #expect(error.code == .timeout, "\(error)") }
      #expect(one.connectors.isEmpty)
      try await world.wait(.seconds(60))
      #expect(two.responders.sessions.isEmpty)
    }
  }
}
