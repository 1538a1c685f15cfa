import NIOConcurrencyHelpers
import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Servers that mean harm, or are broken")
struct HostileRelayTests {
  private typealias Deed = @Sendable (FakeRelay, STUNMessage, FakeRelay.Line) -> Bool

  /// What opening a path at such a server fails with, in how many milliseconds, and how often the server was asked.
  private static func meet(_ deed: @escaping Deed) async throws -> (code: NetError.Code?, after: Int64, asked: Int) {
    let world = try RelayWorld()
    // Not a future of the world's loop: nothing runs there once the world has ended.
    let result = NIOLockedValueBox<(NetError.Code?, Int64, Int)>((nil, 0, 0))
    try await world.run { world in
      world.relay.misbehave = deed
      let began = world.time.now
      let error = try await world.failure()
      result.withLockedValue { $0 = (error?.code, world.since(began), world.relay.asked.count) }
      try await world.sleep(.seconds(3))
      #expect(world.relay.lines.isEmpty, "a connection is left")
      #expect(world.time.timerCount == 0, "a timer is left")
    }
    return result.withLockedValue { $0 }
  }

  @Test("silence is a timeout after ten seconds")
  func silent() async throws {
    let (code, after, asked) = try await Self.meet { _, _, _ in true }
    #expect(code == .timeout && after == 10_000 && asked == 1)
  }

  @Test("an answer signed by somebody else, or by nobody, is none")
  func integrity() async throws {
    for key in [nil, STUNKey.longTerm(username: "ann", realm: "test", password: "other")] {
      let (code, after, _) = try await Self.meet { _, request, line in
        guard request.attributes.contains(where: { $0.type == 0x0008 }) else { return false }
        let answer = STUNMessage(
          .success, .allocate, transaction: request.transaction,
          attributes: [.xorRelayedAddress(ep("10.0.0.3:9")), .lifetime(600)])
        line.send((try? answer.encoded(key: key)) ?? [])
        return true
      }
      #expect(code == .timeout && after == 10_000)
    }
  }

  @Test("401 for ever and nonces that change each time are left after three")
  func neverIn() async throws {
    let forever = try await Self.meet { relay, request, line in
      relay.challenge(request, line)
      return true
    }
    #expect(forever.code == .permission && forever.asked == 2)
    let realms = try await Self.meet { relay, request, line in
      relay.challenge(request, line, nonce: "\(relay.asked.count)", realm: "\(relay.asked.count)")
      return true
    }
    #expect(realms.code == .permission && realms.asked == 4)
    let nonces = try await Self.meet { relay, request, line in
      relay.challenge(request, line, code: 438, nonce: "\(relay.asked.count)")
      return true
    }
    #expect(nonces.code == .permission && nonces.asked == 4)
  }

  @Test("a length that never comes, garbage, the end in mid-message: each fails, none hangs")
  func broken() async throws {
    let long = try await Self.meet { _, _, line in
      line.send([0x01, 0x03, 0xff, 0xfc] + [UInt8](repeating: 0, count: 100))
      return true
    }
    #expect(long.code == .timeout)
    let garbage = try await Self.meet { _, _, line in
      line.send(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8).map { $0 | 0x80 })
      return true
    }
    #expect(garbage.code == .io && garbage.after == 80)
    let cut = try await Self.meet { _, request, line in
      let answer = STUNMessage(.failure, .allocate, transaction: request.transaction, attributes: [.errorCode(401, "")])
      line.send(Array(((try? answer.encoded()) ?? []).dropLast(3)))
      line.pipe.close()
      return true
    }
    #expect(cut.code == .closed)
    let flood = try await Self.meet { _, _, line in
      for _ in 0..<200 {
        line.send(TURNFrame.channelData(0x4000, [UInt8](repeating: 1, count: 5000), padded: true) ?? [])
      }
      return true
    }
    #expect(flood.code == .timeout)
  }

  @Test("relayed addresses that point into the client's own machine, or nowhere")
  func relayed() async throws {
    for place in ["127.0.0.1:80", "0.0.0.0:80", "224.0.0.1:80", "255.255.255.255:80", "10.0.0.3:0"] {
      let world = try RelayWorld()
      try await world.run { world in
        world.relay.claims = ep(place)
        #expect(try await world.failure()?.code == .badAddress, "\(place)")
        try await world.sleep(.seconds(3))
        #expect(world.relay.lines.isEmpty && world.time.timerCount == 0)
      }
    }
  }

  @Test("servers that send us on: to another that works, in circles, without end, into our own machine")
  func redirections() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      var relays: [FakeRelay] = []
      for number in 0..<6 {
        let relay = FakeRelay(world.net.addHost("r\(number)"))
        try await relay.start()
        relays.append(relay)
      }
      func send(_ from: FakeRelay, to place: Endpoint) {
        from.misbehave = { relay, request, line in
          relay.refuse(request, line, 300, [.alternateServer(place)])
          return true
        }
      }
      send(relays[0], to: world.relay.place)
      let path = world.path([relays[0].url])
      let relayed = try await path.open().get()
      #expect(relayed.ip == world.relay.place.ip)
      try await path.close().get()
      // To itself, to one that sends back, and round all of them.
      send(relays[0], to: relays[0].place)
      #expect(try await world.failure([relays[0].url])?.code == .limit)
      send(relays[0], to: relays[1].place)
      send(relays[1], to: relays[0].place)
      #expect(try await world.failure([relays[0].url])?.code == .limit)
      for number in 0..<6 { send(relays[number], to: relays[(number + 1) % 6].place) }
      #expect(try await world.failure([relays[0].url])?.code == .limit)
      #expect(relays[5].asked.isEmpty && relays[3].asked.count == 1)
      send(relays[0], to: ep("127.0.0.1:3478"))
      #expect(try await world.failure([relays[0].url])?.code == .badAddress)
      send(relays[0], to: ep("10.0.0.9:1"))
      #expect(try await world.failure([relays[0].url])?.code == .refused)
      try await world.sleep(.seconds(3))
      for relay in relays + [world.relay] { #expect(relay.lines.isEmpty) }
      #expect(world.time.timerCount == 0)
      for relay in relays { relay.close() }
    }
  }

  @Test("a server that forgets, refuses connections it told of, or tells of some that are none")
  func lies() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      path.permit([world.far.addresses[0]])
      _ = try await path.open().get()
      try await world.sleep(.milliseconds(100))
      path.connected = { _, _ in Issue.record("a stream out of nothing") }
      let peer = Endpoint(ip: world.far.addresses[0], port: 9)
      world.relay.attempt(77, peer)
      world.relay.misbehave = { relay, request, line in
        guard request.method == .connectionBind else { return false }
        relay.challenge(request, line, code: 438, nonce: "\(relay.asked.count)")
        return true
      }
      world.relay.attempt(78, peer)
      try await world.sleep(.seconds(1))
      #expect(path.failures.count == 2)
      let lost = world.near.loop.makePromise(of: String.self)
      path.lost = { lost.succeed($0.cause) }
      world.relay.misbehave = { relay, request, line in
        relay.refuse(request, line, 437)
        return true
      }
      #expect(try await lost.futureResult.get() == "the server does not know the allocation any more")
      try await world.sleep(.seconds(3))
      #expect(world.relay.lines.isEmpty && world.time.timerCount == 0)
    }
  }
}
