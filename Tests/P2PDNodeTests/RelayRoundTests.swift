import NIOConcurrencyHelpers
import NIOCore
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Nodes behind firewalls that let out the ports of servers and nothing else: relayed addresses cannot be dialled from there.
/// Relays in memory, nodes as they are.
@Suite struct RelayRoundTests {
  private typealias World = RaceTests.World

  /// Two hosts with a TURN server each. Those behind a wall reach of both servers nothing but their doors.
  private func inWorld(
    walls: [String], _ body: @escaping @Sendable (World, FakeRelay, FakeRelay) async throws -> Void
  ) async throws {
    try await RaceTests.inWorld { world in
      for stun in world.stuns { stun.outside = { Endpoint(ip: $0.ip, port: $0.port ^ 1) } }
      let relays = [FakeRelay(world.net.addHost("relay")), FakeRelay(world.net.addHost("other"))]
      for relay in relays { try await relay.start() }
      let (doors, inside) = (relays.map(\.place), relays.map { $0.host.addresses[0] })
      for host in [world.a, world.b] {
        host.isFirewalled = true
        guard walls.contains(host.name) else { continue }
        host.outgoing = { inside.contains($0.ip) && !doors.contains($0) ? .isLost : .passes }
      }
      try await body(world, relays[0], relays[1])
      for relay in relays { relay.close() }
    }
  }

  private func isGivenBack(_ world: World, _ relays: [FakeRelay], sourceLocation: SourceLocation = #_sourceLocation)
    async throws
  {
    try await world.wait(.seconds(5))
    for relay in relays { #expect(!relay.hasAllocation && relay.lines.isEmpty, sourceLocation: sourceLocation) }
    for node in world.nodes { #expect(node.responders.lent == 0, sourceLocation: sourceLocation) }
  }

  @Test(
    "who is called comes by a relay of its own, which counts as one it has opened for others", arguments: ["b", "a b"])
  func theCalled(_ walls: String) async throws {
    try await inWorld(walls: walls.split(separator: " ").map(String.init)) { world, relay, other in
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b) { $0.servers.turn = [other.url] }
      let began = world.net.time.now
      let pipe = try await one.connect(two.address, strategies: [.relay])
      let took = world.net.time.now - began
      #expect(pipe.strategy == "relay" && relay.hasAllocation && other.hasAllocation && two.responders.lent == 1)
      try await RaceTests.speaks(pipe)
      // The relay's ½R + 3 r, the head start of 0.4 s, 3 r for the own relay, R + r until it is let through, and what a stream takes.
      #expect(took < .milliseconds(1200), "\(took.nanoseconds / 1_000_000) ms")
      // The session is long over, the pipe is not.
      try await world.wait(.seconds(60))
      try await RaceTests.speaks(pipe)
      _ = pipe.close(flush: .zero)
      try await isGivenBack(world, [relay, other])
      // It is known now, until dialling is of use again.
      let again = world.net.time.now
      let next = try await one.connect(two.address, strategies: [.relay])
      #expect(took - (world.net.time.now - again) >= .milliseconds(390) && two.isWalled)
      _ = next.close(flush: .zero)
      try await isGivenBack(world, [relay, other])
      world.b.outgoing = nil
      let free = try await one.connect(two.address, strategies: [.relay])
      #expect(!two.isWalled)
      _ = free.close(flush: .zero)
      try await isGivenBack(world, [relay, other])
    }
  }

  @Test("only one of the two is behind such a firewall, and it is the one that connects: nothing more is opened")
  func theCaller() async throws {
    try await inWorld(walls: ["a"]) { world, relay, other in
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b) { $0.servers.turn = [other.url] }
      let pipe = try await one.connect(two.address, strategies: [.relay])
      try await RaceTests.speaks(pipe)
      #expect(relay.hasAllocation && other.accepted == 0)
      _ = pipe.close(flush: .zero)
      try await isGivenBack(world, [relay, other])
    }
  }

  @Test("a relay of the other side's is come to in the same way")
  func lent() async throws {
    try await inWorld(walls: ["a", "b"]) { world, relay, other in
      // The first allocation is refused: the other side is asked for one.
      var refused = 0
      relay.misbehave = { relay, request, line in
        guard request.method == .allocate, request.nonce != nil, refused == 0 else { return false }
        refused += 1
        relay.refuse(request, line, 486)
        return true
      }
      let steps = NIOLockedValueBox<[String]>([])
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b) { $0.servers.turn = [other.url] }
      let pipe = try await one.connect(
        two.address, strategies: [.relay], watch: { words in steps.withLockedValue { $0.append(words) } })
      try await RaceTests.speaks(pipe)
      #expect(refused == 1 && relay.hasAllocation && other.hasAllocation && two.responders.lent == 1)
      let told = steps.withLockedValue { $0 }
      #expect(
        told.contains { $0.contains("a firewall may let out only some ports; gone round by another relay") }, "\(told)")
      _ = pipe.close(flush: .zero)
      try await isGivenBack(world, [relay, other])
    }
  }

  @Test("a pipe that came round moves to a better way like any other, and both relays are given back")
  func moves() async throws {
    try await inWorld(walls: ["a", "b"]) { world, relay, other in
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b) { $0.servers.turn = [other.url] }
      let pipe = try await one.connect(two.address)
      #expect(pipe.strategy == "relay" && other.hasAllocation)
      world.b.isFirewalled = false
      try await world.wait(.seconds(90))
      #expect(pipe.strategy == "direct")
      try await RaceTests.speaks(pipe)
      try await isGivenBack(world, [relay, other])
      try await RaceTests.speaks(pipe)
      _ = pipe.close(flush: .zero)
    }
  }

  @Test("where the one behind the wall knows no server, both sides' words say so, and what would help")
  func noServer() async throws {
    try await inWorld(walls: ["b"]) { world, relay, other in
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b)
      do {
        _ = try await one.connect(two.address, strategies: [.relay])
        Issue.record("it connected")
      } catch let error as NetError {
        let theirs = error.attempts.filter { $0.way?.isPeers == true }
        #expect(theirs.contains { $0.cause.contains("a firewall may let out only some ports") }, "\(error)")
        #expect(theirs.contains { $0.cause == RelayDial.noWayRound }, "\(error)")
        #expect(error.remedy.contains("in the other node's p2pd.conf.lua"), "\(error.remedy)")
      }
      try await isGivenBack(world, [relay, other])
    }
  }

  @Test("called off in the middle, at any moment: neither relay keeps anything")
  func calledOff() async throws {
    for moment in stride(from: Int64(100), through: 1100, by: 83) {
      try await inWorld(walls: ["a", "b"]) { world, relay, other in
        let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
        let two = try await world.node(world.b) { $0.servers.turn = [other.url] }
        let connecting = Task {
          try await one.connect(two.address, timeout: .milliseconds(moment), strategies: [.relay])
        }
        if let pipe = try? await connecting.value { _ = pipe.close(flush: .zero) }
        try await world.wait(.seconds(12))
        try await isGivenBack(world, [relay, other])
      }
    }
  }
}
