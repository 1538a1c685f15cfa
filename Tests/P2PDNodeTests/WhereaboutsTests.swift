import Logging
import NIOCore
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Asking a node for its present address, through brokers on simulated hosts.
@Suite struct WhereaboutsTests {
  @Test("a node that moved tells its present address, and only so often")
  func moved() async throws {
    try await SignalWorld.run { world in
      let one = try await world.node("one")
      let other = try await world.node("other")
      try await other.settled().get()
      let old = other.address
      // A later address, as after a change of the network.
      try await world.wait(.seconds(5))
      other.offered.servers = []
      other.renew()
      let now = other.address
      #expect(now != old && now.issued > old.issued)
      #expect(try await one.freshAddress(of: old).get() == now)
      #expect(try await one.freshAddress(of: now).get() == now)
      // The next ones are answered until the budget is used up.
      var answered = 2
      while answered < 20, let fresh = try? await one.freshAddress(of: old, timeout: .seconds(1)).get() {
        #expect(fresh == now)
        answered += 1
      }
      #expect((10...11).contains(answered))
      await one.close(flush: .zero)
      await other.close(flush: .zero)
    }
  }

  @Test("an address that is dated earlier, another node's and no answer at all")
  func others() async throws {
    try await SignalWorld.run { world in
      let one = try await world.node("one")
      let other = try await world.node("other")
      let third = try await world.node("third")
      try await other.settled().get()
      let address = other.address
      let later = try NodeAddress.make(
        by: other.identity, issued: address.issued + 1000, routes: address.routes, signalling: address.signalling)
      #expect(try await one.freshAddress(of: later).get() == address, "what it says now counts")
      let lie = third.address.description
      var answer: ((Rendezvous) -> [UInt8]?) = { Rendezvous($0.session, .here(lie)).bytes }
      other.signalling?.onMessage = { signal in
        if let asked = Rendezvous(signal.bytes), let bytes = answer(asked) { signal.answer(bytes) }
      }
      await #expect { try await one.freshAddress(of: address).get() } throws: { ($0 as? NetError)?.code == .wrongKey }
      answer = { Rendezvous($0.session, .here("p2pd1nonsense")).bytes }
      await #expect { try await one.freshAddress(of: address).get() } throws: { ($0 as? NetError)?.code == .notP2PD }
      answer = { _ in Rendezvous(SessionID(), .here(address.description)).bytes }
      await #expect { try await one.freshAddress(of: address).get() } throws: { ($0 as? NetError)?.code == .notP2PD }
      answer = { _ in nil }
      await #expect { try await one.freshAddress(of: address).get() } throws: { ($0 as? NetError)?.code == .timeout }
      let bare = try NodeAddress.make(by: other.identity, issued: 1, routes: address.routes)
      await #expect { try await one.freshAddress(of: bare).get() } throws: {
        ($0 as? NetError)?.code == .unsupported
      }
      for node in [one, other, third] { await node.close(flush: .zero) }
    }
  }

  @Test("askers are remembered in bounded memory, and who asks too often waits")
  func limits() throws {
    var now = NIODeadline.uptimeNanoseconds(1)
    var limits = AskerLimits(at: now)
    let key = Identity.ephemeral().key
    #expect((0..<20).filter { _ in limits.allows(key, at: now) }.count == 10)
    now = now + .seconds(2)
    #expect(limits.allows(key, at: now) == true)
    #expect(limits.allows(key, at: now) == false)
    // Many keys share one budget.
    let many = (0..<300).filter { _ in limits.allows(Identity.ephemeral().key, at: now) }.count
    #expect((180...200).contains(many))
    now = now + .hours(1)
    for _ in 0..<2000 { _ = limits.allows(Identity.ephemeral().key, at: now) }
    #expect(limits.count <= AskerLimits.mostKeys)
    #expect(limits.allows(Identity.ephemeral().key, at: now) == false, "they were too many together")
  }
}

/// Simulated hosts with two brokers, 40 ms from each to each, and nodes that know them.
final class SignalWorld: @unchecked Sendable {
  let net: MemoryNetwork
  private(set) var brokers: [MemoryBroker] = []
  private(set) var brokerHosts: [MemoryHost] = []
  private let home: MemoryHost

  private init(_ time: VirtualTime) {
    net = MemoryNetwork(time, seed: 1)
    net.standard.latency = .milliseconds(20)
    home = net.addHost("home")
  }

  static func run(_ body: @escaping @Sendable (SignalWorld) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let world = SignalWorld(time)
    try await world.home.loop.run {
      for name in ["broker-a", "broker-b"] {
        let host = world.net.addHost(name)
        world.brokerHosts.append(host)
        world.brokers.append(try await MemoryBroker.start(on: host))
      }
      try await body(world)
      world.net.reset(seed: 0)
    }.get()
  }

  func node(_ name: String, _ change: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
    try await node(on: net.addHost(name), change)
  }

  func node(on host: MemoryHost, _ change: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
    var configuration = NodeConfiguration()
    (configuration.ephemeral, configuration.port) = (true, 0)
    configuration.servers.brokers = brokers.map(\.url)
    change(&configuration)
    let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    return try await Node.start(
      configuration, interfaces: MemoryInterfaces(on: host.loop), on: host.loop, logger: quiet)
  }

  func wait(_ time: TimeAmount) async throws {
    try await home.loop.scheduleTask(in: time) {}.futureResult.get()
  }
}
