import NIOCore
import P2PDNet
@testable import P2PDSignaling
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Pipes over relays: whose they are, who is told, and what is left. A relay in memory, nodes as they are.
@Suite struct RelayWayTests {
  private typealias World = RaceTests.World

  /// A world with a relay, whose nodes are seen from outside and can reach each other by the relay alone.
  private func inWorld(_ body: @escaping @Sendable (World, FakeRelay) async throws -> Void) async throws {
    try await RaceTests.inWorld { world in
      for stun in world.stuns { stun.outside = { Endpoint(ip: $0.ip, port: $0.port ^ 1) } }
      (world.a.isFirewalled, world.b.isFirewalled) = (true, true)
      let relay = FakeRelay(world.net.addHost("relay"))
      try await relay.start()
      try await body(world, relay)
      relay.close()
    }
  }

  private func failure(_ body: () async throws -> Void) async -> NetError? {
    do {
      try await body()
      return nil
    } catch { return error as? NetError }
  }

  @Test("a relay that only the other side knows serves, and is given back when the pipe has ended")
  func theirs() async throws {
    try await inWorld { world, relay in
      let one = try await world.node(world.a)
      let two = try await world.node(world.b) { $0.servers.turn = [relay.url] }
      let pipe = try await one.connect(two.address, strategies: [.relay])
      #expect(pipe.strategy == "relay" && relay.hasAllocation && two.responders.lent == 1)
      try await RaceTests.speaks(pipe)
      #expect(two.pipes().map(\.strategy) == ["relay"])
      // The session is long over, the pipe is not.
      try await world.wait(.seconds(30))
      try await RaceTests.speaks(pipe)
      _ = pipe.close(flush: .zero)
      try await world.wait(.seconds(5))
      #expect(!relay.hasAllocation && relay.lines.isEmpty && two.responders.lent == 0)
    }
  }

  @Test("nor does it matter that this side's own is dead")
  func ownIsDead() async throws {
    try await inWorld { world, relay in
      let dead = world.net.addHost("dead")
      let url = ServerURL(.turn, host: dead.addresses[0].description, port: 9, user: "a", password: "b")
      let one = try await world.node(world.a) { $0.servers.turn = [url] }
      let two = try await world.node(world.b) { $0.servers.turn = [relay.url] }
      let pipe = try await one.connect(two.address, strategies: [.relay])
      try await RaceTests.speaks(pipe)
      _ = pipe.close(flush: .zero)
      try await world.wait(.seconds(5))
      dead.hasVanished = true
      try await RaceTests.speaks(try await one.connect(two.address, strategies: [.relay]))
    }
  }

  @Test("no allocation stays where nobody comes to it")
  func nobodyCame() async throws {
    try await inWorld { world, relay in
      let one = try await world.node(world.a)
      let two = try await world.node(world.b) { $0.servers.turn = [relay.url] }
      world.net.change(world.a, relay.host) { $0.isCut = true }
      let error = await failure { _ = try await one.connect(two.address, strategies: [.relay]) }
      #expect(error != nil)
      try await world.wait(.seconds(15))
      #expect(relay.asked.contains(.allocate) && !relay.hasAllocation && two.responders.lent == 0)
    }
  }

  @Test("where neither knows a server, both say so; who is refused by accept_cb gets no allocation")
  func none() async throws {
    try await inWorld { world, relay in
      let (one, two) = (try await world.node(world.a), try await world.node(world.b))
      let began = world.net.time.now
      let error = await failure { _ = try await one.connect(two.address, strategies: [.relay]) }
      let relays = (error?.attempts ?? []).filter { $0.way?.strategy == "relay" }
      #expect(relays.contains { $0.way?.isPeers == false && $0.cause.contains("this node knows no TURN server") })
      #expect(relays.contains { $0.way?.isPeers == true && $0.cause.contains("it knows no TURN server") })
      #expect(error?.remedy.contains("TURN") == true)
      #expect(world.net.time.now - began < .seconds(1), "it is known after two round trips")
      let three = try await world.node(world.b) { $0.servers.turn = [relay.url] }
      three.consent = { _, info in
        #expect(info.strategies == ["relay"])
        return three.loop.makeSucceededFuture(false)
      }
      let refused = await failure { _ = try await one.connect(three.address, strategies: [.relay]) }
      #expect(refused?.attempts.contains { $0.code == .permission } == true && relay.asked.isEmpty)
      _ = two
    }
  }

  @Test("word of a relay that is lost with a broker is said again")
  func lost() async throws {
    try await inWorld { world, relay in
      let one = try await world.node(world.a) { $0.servers.turn = [relay.url] }
      let two = try await world.node(world.b)
      // Whatever comes after the offer, for half a second.
      var since: NIODeadline?
      let key = try #require(SignalKey(bytes: two.identity.key.bytes))
      for broker in world.brokers {
        let topic = SignalingService.topic(of: key, at: broker.broker)
        var offer: [UInt8]?
        broker.loses = { message in
          guard message.topic == topic else { return false }
          if offer == nil { offer = message.payload }
          guard message.payload != offer else { return false }
          since = since ?? world.net.time.now
          return world.net.time.now - (since ?? world.net.time.now) < .milliseconds(500)
        }
      }
      let pipe = try await one.connect(two.address, strategies: [.relay])
      #expect(pipe.strategy == "relay" && since != nil)
      try await RaceTests.speaks(pipe)
    }
  }
}
