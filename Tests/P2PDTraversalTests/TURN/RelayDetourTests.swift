import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// The far side sits behind a firewall that lets out the ports of TURN servers and nothing else. In a network of memory.
@Suite("A relayed stream round a firewall")
struct RelayDetourTests {
  /// The world of two peers and a relay, with one more relay, which the far side uses.
  private final class Walled: @unchecked Sendable {
    let world: RelayWorld
    let other: FakeRelay
    var path: RelayPath
    /// How often the far side wanted an allocation, and gave one back.
    var opened = 0
    var closed = 0
    /// From where it said it would come.
    var told: [Endpoint] = []
    var refusal: NetError?

    init(_ world: RelayWorld, firewall: MemoryHost.Outgoing = .isLost) async throws {
      self.world = world
      other = FakeRelay(world.net.addHost("other"))
      world.net.change(world.far, other.host) { $0.latency = .milliseconds(30) }
      world.net.change(world.relay.host, other.host) { $0.latency = .milliseconds(10) }
      try await other.start()
      let doors = [world.relay.place, other.place]
      world.far.outgoing = { doors.contains($0) ? .passes : firewall }
      path = world.path()
    }

    /// - Parameter way: how long the word to the near side takes.
    func plan(way: TimeAmount = .milliseconds(25)) -> RelayDetour.Plan {
      RelayDetour.Plan(
        [other.url], tls: nil,
        refusal: { [self] in
          if refusal == nil { opened += 1 }
          return refusal
        },
        tell: { [self] endpoint in
          told.append(endpoint)
          return world.far.loop.scheduleTask(in: way) {}.futureResult.flatMap { [self] in
            path.permit(relay: endpoint.ip)
          }
        },
        closed: { [self] in closed += 1 })
    }

    /// Dials from the far side; both ends as pipes, the near one having said hello.
    func meet(
      _ relayed: Endpoint, until: TimeAmount = .seconds(10), way: TimeAmount = .milliseconds(25)
    ) async throws -> (near: Pipe, far: Pipe, dial: RelayDial, after: Int64) {
      let loop = world.near.loop
      let began = world.time.now
      let near = loop.makePromise(of: Pipe.self)
      path.connected = { stream, _ in
        let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: loop)
        _ = Array("hello".utf8).withUnsafeBytes { pipe.send($0) }
        near.succeed(pipe)
      }
      let far = world.far.loop.makePromise(of: Pipe.self)
      let dial = RelayDial(to: relayed, until: began + until, detour: plan(way: way), on: world.far.loop) { result in
        far.completeWith(
          result.map { Pipe.adopt($0, conf: PipeConf(), sink: nil, on: self.world.far.loop) }
            .mapError { $0 as any Error })
      }
      let theirs = try await far.futureResult.get()
      #expect(try await theirs.next() == "hello")
      let after = world.since(began)
      _ = Array("and back".utf8).withUnsafeBytes { theirs.send($0) }
      let ours = try await near.futureResult.get()
      #expect(try await ours.next() == "and back")
      return (ours, theirs, dial, after)
    }

    /// What the dial ends with where nothing leads there.
    func fail(_ relayed: Endpoint, until: TimeAmount = .seconds(5)) async throws -> (RelayDial, NetError?) {
      let met = world.far.loop.makePromise(of: NetError?.self)
      let dial = RelayDial(to: relayed, until: world.time.now + until, detour: plan(), on: world.far.loop) {
        if case .failure(let error) = $0 { met.succeed(error) } else { met.succeed(nil) }
      }
      return (dial, try await met.futureResult.get())
    }

    /// Nothing is open anywhere.
    func isOver(sourceLocation: SourceLocation = #_sourceLocation) async throws {
      try await path.close().get()
      try await world.sleep(.seconds(3))
      #expect(!other.hasAllocation && other.lines.isEmpty, sourceLocation: sourceLocation)
      #expect(!world.relay.hasAllocation && world.relay.lines.isEmpty, sourceLocation: sourceLocation)
      #expect(world.time.timerCount == 0, sourceLocation: sourceLocation)
      #expect(opened == closed, sourceLocation: sourceLocation)
      other.close()
    }
  }

  private static func behind(
    _ firewall: MemoryHost.Outgoing, _ body: @escaping @Sendable (Walled) async throws -> Void
  ) async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let walled = try await Walled(world, firewall: firewall)
      try await body(walled)
      try await walled.isOver()
    }
  }

  @Test("calls that get lost: the own relay after 400 ms, word of it, and the stream is there; nothing stays of it")
  func lost() async throws {
    try await Self.behind(.isLost) { walled in
      walled.path.permit([walled.world.far.addresses[0]])
      let relayed = try await walled.path.open().get()
      try await walled.world.sleep(.milliseconds(100))
      let (near, far, dial, after) = try await walled.meet(relayed)
      #expect(dial.isDetoured && dial.tries == 1 && walled.told.map(\.ip) == [walled.other.host.addresses[0]])
      // Head start 400, allocation 180, word 25, permission 40. Then Connect: 30 there, 20 between the relays, 30 back;
      // ConnectionBind 60 on the spare connection, while the near side's takes 10 + 20 + 40 and its hello 20 + 10 + 30.
      #expect((785...830).contains(after), "\(after) ms")
      #expect(walled.other.asked.filter { $0 == .connect }.count == 1)
      #expect(
        dial.report.map(\.seen) == [
          "no answer (1 try): a firewall may let out only some ports; gone round by another relay"
        ])
      // The allocation lives as long as the stream, and longer than its first life.
      try await walled.world.sleep(.minutes(15))
      _ = Array("still there".utf8).withUnsafeBytes { far.send($0) }
      #expect(try await near.next() == "still there")
      #expect(walled.other.hasAllocation && walled.closed == 0)
      far.close(flush: .zero)
      near.close(flush: .zero)
      try await walled.world.sleep(.seconds(1))
      #expect(!walled.other.hasAllocation && walled.closed == 1)
    }
  }

  @Test("calls that are refused: at once")
  func refused() async throws {
    try await Self.behind(.isRefused) { walled in
      let relayed = try await walled.path.open().get()
      try await walled.world.sleep(.milliseconds(100))
      let (near, far, dial, after) = try await walled.meet(relayed)
      #expect(dial.isDetoured && (385...430).contains(after), "\(after) ms")
      far.close(flush: .zero)
      near.close(flush: .zero)
    }
  }

  @Test("who can dial the address opens nothing of its own, on a long line either")
  func notNeeded() async throws {
    try await Self.behind(.passes) { walled in
      walled.world.net.change(walled.world.far, walled.world.relay.host) { $0.latency = .milliseconds(190) }
      walled.path.permit([walled.world.far.addresses[0]])
      let relayed = try await walled.path.open().get()
      try await walled.world.sleep(.milliseconds(100))
      let (near, far, dial, after) = try await walled.meet(relayed)
      #expect(!dial.isDetoured && after > 400 && walled.other.accepted == 0 && walled.opened == 0)
      far.close(flush: .zero)
      near.close(flush: .zero)
    }
  }

  @Test("a firewall that opens in the middle: the first that answers wins, the other leaves nothing")
  func opens() async throws {
    for moment in stride(from: Int64(300), through: 900, by: 50) {
      try await Self.behind(.isLost) { walled in
        walled.path.permit([walled.world.far.addresses[0]])
        let relayed = try await walled.path.open().get()
        try await walled.world.sleep(.milliseconds(100))
        walled.world.near.loop.scheduleTask(in: .milliseconds(moment)) { walled.world.far.outgoing = nil }
        let (near, far, _, _) = try await walled.meet(relayed)
        far.close(flush: .zero)
        near.close(flush: .zero)
        try await walled.world.sleep(.seconds(1))
        #expect(walled.other.lines.isEmpty && !walled.other.hasAllocation, "after \(moment) ms")
      }
    }
  }

  @Test("given up at any moment: neither relay keeps anything")
  func cancelled() async throws {
    for moment in stride(from: Int64(0), through: 900, by: 23) {
      try await Self.behind(.isLost) { walled in
        let relayed = try await walled.path.open().get()
        walled.path.connected = { stream, _ in stream.close(linger: false) }
        let dial = RelayDial(
          to: relayed, until: walled.world.time.now + .seconds(10), detour: walled.plan(), on: walled.world.far.loop
        ) { _ in }
        try await walled.world.sleep(.milliseconds(moment))
        dial.cancel()
        try await walled.world.sleep(.seconds(2))
        #expect(walled.other.lines.isEmpty && !walled.other.hasAllocation, "after \(moment) ms")
        #expect(walled.opened == walled.closed, "after \(moment) ms")
      }
    }
  }

  @Test(
    "servers that say no: to the allocation, to the peer, that it cannot be reached, that it is connected, nothing at all"
  )
  func refusals() async throws {
    for (method, code, met, least) in [
      (STUNMethod.allocate, 486, NetError.Code.limit, 0), (.connect, 403, .permission, 1), (.connect, 447, .refused, 5),
      (.connect, 446, .inUse, 5), (.connect, 437, .closed, 1), (.connect, 0, .timeout, 1),
      (.connectionBind, 400, .inUse, 5),
    ] {
      try await Self.behind(.isLost) { walled in
        let relayed = try await walled.path.open().get()
        walled.other.misbehave = { relay, request, line in
          guard request.method == method, request.nonce != nil else { return false }
          if code != 0 { relay.refuse(request, line, code) }
          return true
        }
        let began = walled.world.time.now
        let (dial, error) = try await walled.fail(relayed)
        #expect(error?.code == .timeout && walled.world.since(began) == 5000)
        let report = dial.report
        #expect(report.count == 2 && report.last?.outcome == met, "\(code): \(report)")
        let tries = walled.other.asked.filter { $0 == .connect }.count
        #expect(least <= 1 ? tries == least : tries >= least, "\(code): \(tries)")
        try await walled.world.sleep(.seconds(1))
        #expect(!walled.other.hasAllocation && walled.other.lines.isEmpty, "\(code)")
      }
    }
  }

  @Test("447 for a while, 438 in the middle, and a connection cut before its first word: it is tried again")
  func again() async throws {
    try await Self.behind(.isLost) { walled in
      let relayed = try await walled.path.open().get()
      try await walled.world.sleep(.milliseconds(100))
      var count = 0
      walled.other.misbehave = { relay, request, line in
        guard request.method == .connect else { return false }
        count += 1
        switch count {
        case 1, 2: relay.refuse(request, line, 447)
        case 3: relay.challenge(request, line, code: 438)
        default: return false
        }
        return true
      }
      let (near, far, dial, _) = try await walled.meet(relayed)
      #expect(dial.isDetoured && count == 4)
      far.close(flush: .zero)
      near.close(flush: .zero)
    }
  }

  @Test("a near side that does not let the other relay through says why; a far side that may open none says so")
  func notLetThrough() async throws {
    try await Self.behind(.isLost) { walled in
      let relayed = try await walled.path.open().get()
      walled.world.relay.misbehave = { relay, request, line in
        guard request.method == .createPermission else { return false }
        relay.refuse(request, line, 403)
        return true
      }
      let (dial, error) = try await walled.fail(relayed)
      #expect(error?.code == .timeout && dial.report.last?.outcome == .permission, "\(dial.report)")
      #expect(!walled.other.asked.contains(.connect) && !walled.other.hasAllocation)
      walled.refusal = NetError(.limit, "relay", cause: "enough")
      let (next, _) = try await walled.fail(relayed)
      #expect(next.report.map(\.seen).last == "on the way round: enough" && walled.opened == 1)
    }
  }

  @Test("a relay on the Internet is not sent into a private network")
  func inward() async throws {
    try await Self.behind(.isLost) { walled in
      let relayed = try await walled.path.open().get()
      walled.other.claims = ep("198.51.100.7:5")
      let (dial, _) = try await walled.fail(relayed)
      #expect(dial.report.last?.outcome == .badAddress && walled.told.isEmpty, "\(dial.report)")
      #expect(!walled.other.asked.contains(.connect) && !walled.other.hasAllocation)
    }
    #expect(!RelayDetour.mayConnect(from: ep("198.51.100.7:5"), to: ep("127.0.0.1:5")))
    #expect(!RelayDetour.mayConnect(from: ep("192.168.1.7:5"), to: ep("127.0.0.1:5")))
    #expect(RelayDetour.mayConnect(from: ep("192.168.1.7:5"), to: ep("192.168.1.8:5")))
    #expect(RelayDetour.mayConnect(from: ep("192.168.1.7:5"), to: ep("198.51.100.8:5")))
  }

  @Test("a server that goes away in the middle takes its stream along, and its allocation's owner hears of it")
  func serverGone() async throws {
    try await Self.behind(.isLost) { walled in
      let relayed = try await walled.path.open().get()
      try await walled.world.sleep(.milliseconds(100))
      let (near, far, _, _) = try await walled.meet(relayed)
      walled.other.dropClients()
      _ = try await far.ended.get()
      _ = try await near.ended.get()
      try await walled.world.sleep(.seconds(2))
      #expect(walled.closed == 1)
    }
  }

  @Test("other relays than those named stay outside, and at most four are let in")
  func few() async throws {
    try await Self.behind(.isLost) { walled in
      let relayed = try await walled.path.open().get()
      _ = relayed
      for number in 1...4 { try await walled.path.permit(relay: ep("192.0.2.\(number):1").ip).get() }
      for bad in ["192.0.2.5:1", "[2001:db8::1]:1", "0.0.0.0:1", "224.0.0.1:1"] {
        await #expect(throws: NetError.self, "\(bad)") { try await walled.path.permit(relay: ep(bad).ip).get() }
      }
      try await walled.path.permit(relay: ep("192.0.2.1:1").ip).get()
    }
  }
}
