import NIOCore
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// What becomes of a pipe that begins on a relay: nodes as they are, on simulated hosts, with a relay in memory.
@Suite struct ImprovementTests {
  private typealias World = RaceTests.World

  /// Two nodes that only a relay joins at first, and a pipe over it.
  private func relayed(
    _ strategies: [ConnectStrategy] = ConnectStrategy.allCases, watch: (@Sendable (String) -> Void)? = nil,
    _ body: @escaping @Sendable (World, Node, Pipe) async throws -> Void
  ) async throws {
    try await RaceTests.inWorld { world in
      // Their routers give other ports than they tell.
      for stun in world.stuns { stun.outside = { Endpoint(ip: $0.ip, port: $0.port ^ 1) } }
      (world.a.isFirewalled, world.b.isFirewalled) = (true, true)
      let relay = FakeRelay(world.net.addHost("relay"))
      try await relay.start()
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b)
      let pipe = try await one.connect(two.address, strategies: strategies, watch: watch)
      #expect(pipe.strategy == "relay" && pipe.path == "relay")
      try await RaceTests.speaks(pipe)
      try await body(world, one, pipe)
      #expect(two.pipes().map(\.strategy) == [pipe.strategy])
      _ = try? await pipe.close().get()
      try await world.wait(.seconds(10))
      #expect(!relay.hasAllocation && relay.lines.isEmpty && one.connectors.isEmpty && two.responders.sessions.isEmpty)
      relay.close()
    }
  }

  private final class Steps: @unchecked Sendable {
    var told: [String] = []
  }

  @Test("it says why it stands on nothing better once that is known, and what would help")
  func why() async throws {
    let steps = Steps()
    try await relayed(watch: { steps.told.append($0) }) { _, node, pipe in
      #expect(pipe.whyNoBetter == nil)
      try await node.searched(for: pipe).get()
      let why = try #require(pipe.whyNoBetter)
      let ways = Set(why.attempts.compactMap { $0.way.map { "\($0.strategy)\($0.isPeers ? " of the peer" : "")" } })
      #expect(ways.isSuperset(of: ["direct", "punch", "reverse of the peer"]), "\(ways)")
      #expect(why.remedy.contains("port opened"))
      #expect(steps.told.last?.hasPrefix("nothing better than the relay:") == true, "\(steps.told)")
    }
  }

  @Test("strategies that were left out are what would help first")
  func leftOut() async throws {
    try await relayed([.reverse, .relay]) { _, node, pipe in
      try await node.searched(for: pipe).get()
      #expect(pipe.whyNoBetter?.remedy == "Allow the strategies direct and punch, which were left out.")
    }
  }

  @Test("it moves by itself when a better way opens, and nothing of the relay is left")
  func opens() async throws {
    try await relayed { world, node, pipe in
      try await node.searched(for: pipe).get()
      world.b.isFirewalled = false
      try await world.wait(.seconds(12))
      #expect(pipe.strategy == "direct" && pipe.path == "lan" && pipe.whyNoBetter == nil)
      world.net.change(world.a, world.net.hosts.last ?? world.a) { $0.isCut = true }
      try await RaceTests.speaks(pipe)
    }
  }

  @Test("a better way that swallows everything after a while costs nothing but time, and the next one is taken")
  func dies() async throws {
    try await relayed { world, node, pipe in
      try await node.searched(for: pipe).get()
      world.b.isFirewalled = false
      let streams = world.a.open.streams
      // The next race comes 5 s after the first, and the pipe is on its way to what it finds.
      try await world.wait(.milliseconds(6500))
      #expect(pipe.strategy == "relay" && world.a.open.streams > streams)
      world.net.change(world.a, world.b) { $0.isCut = true }
      try await RaceTests.speaks(pipe)
      #expect(pipe.strategy == "relay")
      world.net.change(world.a, world.b) { $0.isCut = false }
      try await world.wait(.seconds(70))
      #expect(pipe.strategy == "direct")
      try await RaceTests.speaks(pipe)
    }
  }
}
