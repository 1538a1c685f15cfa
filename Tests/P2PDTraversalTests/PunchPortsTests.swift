import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// A STUN server over TCP on a simulated host. It says of each connection what its router would have made of it.
private final class Router: PipeSink, @unchecked Sendable {
  var listener: Pipe?
  private(set) var connections: [Pipe] = []
  private(set) var questions = 0
  var mapped: (Endpoint) -> Endpoint = { Endpoint(ip: outside, port: $0.port) }
  /// Takes questions and says nothing.
  var isSilent = false

  static let outside = ep("198.18.0.1:0").ip

  /// Where ports of ours are seen that are moved by so much.
  static func seen(_ ports: [TCPPort], plus distance: UInt16 = 0) -> [Endpoint] {
    ports.map { Endpoint(ip: outside, port: $0.local.port + distance) }
  }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    connections.append(pipe)
    return self
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard pipe !== listener, let request = try? STUNMessage(decoding: [UInt8](bytes)), let from = pipe.peer?.endpoint
    else { return true }
    questions += 1
    guard !isSilent else { return true }
    let answer = STUNMessage(
      .success, .binding, transaction: request.transaction, attributes: [.xorMappedAddress(mapped(from))])
    if let bytes = try? answer.encoded() { _ = bytes.withUnsafeBytes { pipe.send($0) } }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) { connections.removeAll { $0 === pipe } }

  func cut() { for pipe in connections { pipe.close(flush: .zero) } }
}

/// A host with a pool, and one with a server.
private struct Setting {
  let time: VirtualTime
  let net: MemoryNetwork
  let host: MemoryHost
  let server: Endpoint
  let router: Router
  let pool: PunchPorts

  var path: NetworkKnowledge.Path {
    NetworkKnowledge.Path(interface: "", index: 2, local: host.addresses[0], gateway: ep("10.0.0.254:0").ip)
  }

  func report(_ mapping: NATBehaviour.Mapping?, _ allocation: PortAllocation? = nil) -> NATReport {
    var report = NATReport(interface: "", family: .v4, local: host.addresses[0])
    report.tcp.reach = .answered
    report.tcp.mapping = mapping
    report.tcp.allocation = allocation
    report.tcp.mapped = [Endpoint(ip: Router.outside, port: 1)]
    report.udp.filtering = .addressDependent
    report.roundTrip = .milliseconds(20)
    report.servers = [
      NATReport.ServerFinding(
        server: server, transport: .tcp, mapped: report.tcp.mapped[0], roundTrip: .milliseconds(20))
    ]
    return report
  }

  func pause(_ amount: TimeAmount) async throws { try await host.loop.scheduleTask(in: amount) {}.futureResult.get() }

  func take(within patience: TimeAmount? = nil) async throws -> PunchHand {
    let promise = host.loop.makePromise(of: PunchHand.self)
    pool.take(within: patience) { promise.succeed($0) }
    return try await promise.futureResult.get()
  }
}

@Suite("The pool of punch ports")
struct PunchPortsTests {
  private func inWorld(_ body: @escaping @Sendable (Setting) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 1)
    let (a, b) = (net.addHost("a"), net.addHost("b"))
    net.change(a, b) { $0.latency = .milliseconds(10) }
    try await a.loop.run {
      let router = Router()
      let place = Endpoint(ip: b.addresses[0], port: 3478)
      router.listener = try await PipeOpener.open(.tcp, bind: place, sink: router, on: b.loop).get()
      let setting = Setting(time: time, net: net, host: a, server: place, router: router, pool: PunchPorts(on: a.loop))
      try await body(setting)
      setting.pool.close()
      _ = router.listener?.close(flush: .zero)
      net.reset(seed: 0)
    }.get()
  }

  @Test("two ports are ready after two round trips; taken at once, told as measured, and replaced")
  func warm() async throws {
    try await inWorld { world in
      world.pool.update([world.path: world.report(.endpointIndependent, .preserving)])
      #expect(world.pool.ready[world.path] == 0)
      try await world.pause(.milliseconds(50))
      #expect(world.pool.ready[world.path] == 2)
      let began = world.time.now
      let hand = try await world.take()
      #expect(world.time.now == began)
      let path = try #require(hand.side.paths.first)
      #expect(path.mapping == .endpointIndependent && path.filtering == .addressDependent)
      #expect(path.endpoints == Router.seen(hand.ports[0]))
      #expect(Set(hand.ports[0].map(\.local.port)).count == 2)
      #expect(hand.ports[0].allSatisfy { (10_000...32_767).contains($0.local.port) && $0.connections == 1 })
      #expect(world.pool.ready[world.path] == 0)
      try await world.pause(.milliseconds(50))
      #expect(world.pool.ready[world.path] == 2)
      let next = try await world.take()
      #expect(Set(next.side.paths[0].endpoints).isDisjoint(with: path.endpoints))
      hand.close()
      next.close()
      try await world.pause(.milliseconds(100))
      #expect(world.router.connections.count == 2)
    }
  }

  @Test("a hundred takers at once get a port each, on a near line and on a far one", arguments: [10, 100])
  func hundred(_ latency: Int) async throws {
    try await inWorld { world in
      world.net.change(world.host, world.net.hosts[1]) { $0.latency = .milliseconds(Int64(latency)) }
      var report = world.report(.endpointIndependent, .preserving)
      report.roundTrip = .milliseconds(Int64(latency) * 2)
      world.pool.update([world.path: report])
      try await world.pause(.seconds(2))
      let promises = (0..<100).map { _ in world.host.loop.makePromise(of: PunchHand.self) }
      for promise in promises { world.pool.take { promise.succeed($0) } }
      var hands: [PunchHand] = []
      for promise in promises { hands.append(try await promise.futureResult.get()) }
      #expect(hands.allSatisfy { $0.side.paths.first?.endpoints.isEmpty == false })
      // Chance may give two of them one inside port, towards two servers.
      #expect(Set(hands.flatMap { $0.ports.joined().map(\.local.port) }).count >= 96)
      for hand in hands { hand.close() }
      try await world.pause(.seconds(2))
      #expect(world.pool.ready[world.path] == 2 && world.router.connections.count == 2)
    }
  }

  @Test("an unused hand goes back, a used one does not")
  func giveBack() async throws {
    try await inWorld { world in
      world.pool.update([world.path: world.report(.endpointIndependent)])
      try await world.pause(.milliseconds(50))
      let hand = try await world.take()
      world.pool.giveBack(hand)
      #expect(world.pool.ready[world.path] == 2)
      #expect(hand.ports[0].allSatisfy { $0.connections == 1 })
      // Those opened meanwhile are one too many.
      try await world.pause(.milliseconds(100))
      #expect(world.pool.ready[world.path] == 2 && world.router.connections.count == 2)
      let used = try await world.take()
      #expect(used.side == hand.side)
      used.isUsed = true
      world.pool.giveBack(used)
      #expect(used.ports[0].allSatisfy { $0.connections == 0 })
    }
  }

  @Test("mappings are asked for every 25 s; one that changed or was lost is replaced")
  func refresh() async throws {
    try await inWorld { world in
      world.pool.update([world.path: world.report(.endpointIndependent)])
      try await world.pause(.seconds(1))
      #expect(world.router.questions == 2)
      try await world.pause(.seconds(28))
      #expect(world.router.questions == 4)
      world.router.mapped = { Endpoint(ip: Router.outside, port: $0.port &+ 1) }
      try await world.pause(.seconds(32))
      let hand = try await world.take()
      #expect(hand.side.paths[0].endpoints == Router.seen(hand.ports[0], plus: 1))
      hand.close()
      try await world.pause(.seconds(1))
      world.router.cut()
      try await world.pause(.milliseconds(500))
      #expect(world.pool.ready[world.path] == 0)
      // The third loss in a row costs four seconds.
      try await world.pause(.seconds(9))
      #expect(world.pool.ready[world.path] == 2)
    }
  }

  @Test("a server that closes every connection is asked ever less often, and a take still gets a port")
  func closing() async throws {
    try await inWorld { world in
      world.pool.update([world.path: world.report(.endpointIndependent)])
      for _ in 0..<600 {
        try await world.pause(.seconds(1))
        world.router.cut()
      }
      #expect(world.router.questions < 60)
      let hand = try await world.take()
      #expect(hand.side.paths.first?.ports.count ?? 0 >= 1)
      hand.close()
    }
  }

  @Test("a router that counts: the next ports are predicted when they are needed, and how many are gone can be told")
  func sequential() async throws {
    try await inWorld { world in
      let counter = Counter()
      world.router.mapped = { counter.map($0) }
      world.pool.update([
        world.path: world.report(.addressAndPortDependent, .sequential(step: 3, range: 2000...3000))
      ])
      try await world.pause(.seconds(60))
      #expect(world.router.questions == 0)
      let hand = try await world.take()
      let port = try #require(hand.side.paths.first?.ports.first)
      #expect(port.isPredicted && hand.side.paths[0].ports.count == 1)
      #expect(port.endpoints.map(\.port) == [40_003, 40_006, 40_009, 40_012, 40_015, 40_018, 40_021, 40_024])
      // Two more of others.
      counter.next += 6
      let promise = world.host.loop.makePromise(of: Int?.self)
      hand.counter?.count { promise.succeed($0) }
      #expect(try await promise.futureResult.get() == 3)
      hand.counter?.close()
      hand.close()
    }
  }

  @Test("the row goes on over the top, either way")
  func wrapping() {
    #expect(PunchCounter.following(65_534, 1, count: 3) == [65_535, 1024, 1025])
    #expect(PunchCounter.following(1025, -1, count: 3) == [1024, 65_535, 65_534])
    #expect(PunchCounter.steps(from: 65_534, to: 1025, 1) == 3)
    #expect(PunchCounter.steps(from: 2000, to: 1000, 1) == nil)
  }

  @Test("a silent server: others wait no longer than they said, and get the ways that are known")
  func silence() async throws {
    try await inWorld { world in
      world.router.isSilent = true
      let six = NetworkKnowledge.Path(interface: "", index: 2, local: world.host.addresses[1], gateway: nil)
      var untranslated = NATReport(interface: "", family: .v6, local: six.local)
      untranslated.udp.mapping = NATBehaviour.Mapping.none
      world.pool.update([world.path: world.report(.endpointIndependent), six: untranslated])
      let began = world.time.now
      let hand = try await world.take(within: .milliseconds(300))
      #expect(world.time.now - began == .milliseconds(300))
      #expect(hand.side.paths.map(\.family) == [.v6])
      #expect(hand.side.paths[0].endpoints == hand.ports[0].map(\.local))
      hand.close()
    }
  }

  @Test("a lost packet is hedged by another port long before the kernel sends it again")
  func hedged() async throws {
    try await inWorld { world in
      var report = world.report(.addressAndPortDependent, .sequential(step: 1, range: 1...9))
      report.roundTrip = .milliseconds(20)
      world.pool.update([world.path: report])
      world.router.isSilent = true
      world.host.loop.scheduleTask(in: .milliseconds(50)) { world.router.isSilent = false }
      let began = world.time.now
      let hand = try await world.take()
      #expect(hand.side.paths.count == 1)
      #expect(world.time.now - began == .milliseconds(100))
      hand.close()
    }
  }

  @Test(
    "servers that are slower than ever are waited for where nothing else is in hand, and no longer once they failed")
  func slow() async throws {
    try await inWorld { world in
      world.net.change(world.host, world.net.hosts[1]) { $0.latency = .milliseconds(300) }
      let report = world.report(.addressAndPortDependent, .sequential(step: 1, range: 1...9))
      world.pool.update([world.path: report])
      var began = world.time.now
      var hand = try await world.take()
      #expect(hand.side.paths.count == 1 && world.time.now - began == .milliseconds(1_200))
      hand.close()
      // Those opened beside it against a lost packet come now, and are closed.
      try await world.pause(.seconds(3))
      world.router.isSilent = true
      began = world.time.now
      hand = try await world.take()
      #expect(hand.side.paths.isEmpty && world.time.now - began == .milliseconds(1_500))
      try await world.pause(.seconds(5))
      began = world.time.now
      hand = try await world.take()
      #expect(hand.side.paths.isEmpty && world.time.now - began == .milliseconds(400))
    }
  }

  @Test("a node that has just begun: who takes ports waits for the measuring, and gets what it finds")
  func measuring() async throws {
    try await inWorld { world in
      let loop = world.host.loop
      let blank = NATReport(interface: "", family: .v4, local: world.host.addresses[0])
      world.pool.update([world.path: blank])
      loop.scheduleTask(in: .milliseconds(40)) { world.pool.update([world.path: world.report(.addressDependent)]) }
      let row = world.report(.addressDependent, .sequential(step: 1, range: 1...9))
      loop.scheduleTask(in: .milliseconds(150)) { world.pool.update([world.path: row]) }
      let began = world.time.now
      let hand = try await world.take()
      #expect(world.time.now - began == .milliseconds(190))
      #expect(hand.side.paths.first?.ports.first?.isPredicted == true)
      hand.close()
      // It turns out that nothing is translated.
      var none = blank
      none.udp.mapping = NATBehaviour.Mapping.none
      let bare = none
      world.pool.update([world.path: blank])
      loop.scheduleTask(in: .milliseconds(30)) { world.pool.update([world.path: bare]) }
      let next = try await world.take()
      #expect(next.side.paths.first?.endpoints == next.ports.first?.map(\.local))
      next.close()
    }
  }

  @Test("where no server speaks TCP, a router that keeps ports needs none")
  func computed() async throws {
    try await inWorld { world in
      var report = NATReport(interface: "", family: .v4, local: world.host.addresses[0])
      report.udp.mapping = .endpointIndependent
      report.udp.allocation = .offset(7000)
      report.udp.mapped = [Endpoint(ip: Router.outside, port: 1)]
      world.pool.update([world.path: report])
      let hand = try await world.take()
      #expect(hand.side.paths[0].ports.count == 2)
      #expect(hand.side.paths[0].endpoints == Router.seen(hand.ports[0], plus: 7000))
      hand.close()
    }
  }

  @Test("a hundred takes at once: each gets a port or is told in time, and nothing stays")
  func many() async throws {
    try await inWorld { world in
      world.pool.update([world.path: world.report(.endpointIndependent)])
      try await world.pause(.milliseconds(50))
      let hands = Hands()
      for _ in 0..<100 { world.pool.take { hands.all.append($0) } }
      try await world.pause(.seconds(1))
      #expect(hands.all.count == 100)
      let ports = hands.all.flatMap { $0.ports.joined() }.map(\.local.port)
      // Chance picks one twice now and then.
      #expect(Set(ports).count >= ports.count - 3)
      #expect(ports.count >= 20)
      for hand in hands.all { hand.close() }
      try await world.pause(.seconds(5))
      #expect(world.router.connections.count == 2)
    }
  }

  @Test("closed, or its way gone: connections and timers are gone, and who waits is told")
  func closed() async throws {
    try await inWorld { world in
      let timers = world.time.timerCount
      world.pool.update([world.path: world.report(.endpointIndependent)])
      try await world.pause(.milliseconds(50))
      world.pool.update([:])
      try await world.pause(.seconds(5))
      #expect(world.router.connections.isEmpty && world.time.timerCount == timers)
      world.router.isSilent = true
      world.pool.update([world.path: world.report(.endpointIndependent)])
      let hands = Hands()
      world.pool.take { hands.all.append($0) }
      world.pool.close()
      #expect(hands.all.count == 1 && hands.all[0].side.paths.isEmpty)
      try await world.pause(.seconds(5))
      #expect(world.router.connections.isEmpty && world.time.timerCount == timers)
      world.pool.take { hands.all.append($0) }
      #expect(hands.all.count == 2)
    }
  }
}

private final class Hands: @unchecked Sendable { var all: [PunchHand] = [] }

/// A router that counts by three.
private final class Counter: @unchecked Sendable {
  var next: UInt16 = 40_000
  private var known: [Endpoint: Endpoint] = [:]

  func map(_ inside: Endpoint) -> Endpoint {
    if let outside = known[inside] { return outside }
    let outside = Endpoint(ip: Router.outside, port: next)
    known[inside] = outside
    next += 3
    return outside
  }
}
