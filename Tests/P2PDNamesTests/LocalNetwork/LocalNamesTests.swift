import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// Names on a LAN in memory: everything but the packets' wires is as in the program.
@Suite struct LocalNamesTests {
  private struct LAN: Sendable {
    let net: MemoryNetwork
    let hosts: [MemoryHost]

    func sleep(_ time: TimeAmount) async throws {
      try await hosts[0].loop.scheduleTask(in: time) {}.futureResult.get()
    }
  }

  private func lan(_ count: Int = 2, _ body: @escaping @Sendable (LAN, [LocalNames]) async throws -> Void) async throws
  {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 3)
    net.standard.latency = .milliseconds(1)
    let hosts = (0..<count).map { net.addHost("h\($0)") }
    try await hosts[0].loop.run {
      let names = hosts.map { LocalNames(on: $0.loop) }
      try await body(LAN(net: net, hosts: hosts), names)
      for name in names { try await name.stop().get() }
      for host in hosts { #expect(host.open.sockets == 0) }
      net.reset(seed: 0)
    }.get()
  }

  private static func key(_ first: UInt8) -> [UInt8] { [first] + [UInt8](repeating: 0, count: 31) }

  @Test("a node that announced its name is found by it, from another host and from its own")
  func found() async throws {
    try await lan { lan, names in
      #expect(lan.hosts[0].open.sockets == 0)
      try await names[0].announce("example", key: Self.key(1), value: "p2pd1abc", port: 7).get()
      #expect(lan.hosts[0].open.sockets == 2)
      try await lan.sleep(.seconds(5))
      for one in names {
        let began = lan.net.time.now
        let found = try await one.find("Example").get()
        #expect(
          found.map(\.value) == ["p2pd1abc"] && found.first?.key == Self.key(1) && found.first?.label == "example")
        #expect(found.first?.interface == "eth0")
        #expect(lan.net.time.now - began < .milliseconds(200))
        try await lan.sleep(.seconds(2))
      }
      let all = try await names[1].browse().get()
      #expect(all.map(\.label) == ["example"])
      #expect(names[0].announcements.map(\.state) == [.ours])
    }
  }

  @Test("nobody of that name is an empty list in the time given, no LAN an error")
  func nobody() async throws {
    try await lan { lan, names in
      let began = lan.net.time.now
      #expect(try await names[0].find("nobody", timeout: .seconds(2)).get() == [])
      #expect(lan.net.time.now - began == .seconds(2))
      let none = LocalNames(interfaces: ["eth7"], on: lan.hosts[0].loop)
      await #expect { try await none.find("x").get() } throws: { ($0 as? NetError)?.code == .unreachable }
      await #expect { try await none.announce("x", key: Self.key(1), value: "", port: 1).get() } throws: {
        ($0 as? NetError)?.code == .unreachable
      }
      // The LAN comes later.
      #expect(none.announcements.isEmpty)
      try await none.stop().get()
      await #expect { try await none.find("x").get() } throws: { ($0 as? NetError)?.code == .closed }
      for label in ["", "a\tb", String(repeating: "x", count: 64)] {
        await #expect { try await names[0].find(label).get() } throws: { ($0 as? NetError)?.code == .badName }
      }
    }
  }

  @Test("two nodes that want a name at the same moment: one has it, the other is told", arguments: 0..<8)
  func fight(seed: Int) async throws {
    try await lan { lan, names in
      let claims = names.enumerated().map { index, one in
        one.announce("example", key: Self.key(UInt8(index + 1)), value: "v\(index)", port: 7)
      }
      var (won, lost) = (0, 0)
      for claim in claims {
        do {
          try await claim.get()
          won += 1
        } catch {
          #expect((error as? NetError)?.code == .taken)
          lost += 1
        }
      }
      #expect(won == 1 && lost == 1)
      try await lan.sleep(.seconds(5))
      #expect(try await names[0].find("example").get().count == 1)
    }
  }

  @Test("a name that is in use is taken; when its owner leaves it can be had")
  func taken() async throws {
    try await lan(3) { lan, names in
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      await #expect { try await names[1].announce("example", key: Self.key(2), value: "b", port: 7).get() } throws: {
        ($0 as? NetError)?.code == .taken
      }
      #expect(names[1].announcements.map(\.state) == [.taken(by: Self.key(1))])
      try await lan.sleep(.seconds(3))
      #expect(try await names[2].find("example").get().map(\.value) == ["a"])
      names[0].withdraw("example")
      try await lan.sleep(.seconds(5))
      #expect(try await names[2].find("example").get().map(\.value) == ["b"])
      #expect(names[1].announcements.map(\.state) == [.ours])
    }
  }

  @Test("the same key twice is one node, not a conflict; both of its addresses are found")
  func sameKey() async throws {
    try await lan(3) { lan, names in
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      try await names[1].announce("example", key: Self.key(1), value: "b", port: 7).get()
      try await lan.sleep(.seconds(5))
      #expect(try await names[2].find("example").get().map(\.value) == ["a", "b"])
    }
  }

  @Test("a new address replaces the old one, a withdrawn name is gone, and so is one whose host vanished")
  func changes() async throws {
    try await lan { lan, names in
      try await names[0].announce("example", key: Self.key(1), value: "old", port: 7).get()
      try await names[0].announce("example", key: Self.key(1), value: "new", port: 7).get()
      try await lan.sleep(.seconds(4))
      #expect(try await names[1].find("example").get().map(\.value) == ["new"])
      lan.hosts[0].hasVanished = true
      #expect(try await names[1].find("example").get() == [])
      lan.hosts[0].hasVanished = false
      names[0].withdraw()
      #expect(try await names[1].find("example").get() == [])
      #expect(names[0].announcements.isEmpty)
    }
  }

  @Test("a LAN that loses a third of all packets is asked again until somebody answers")
  func loss() async throws {
    try await lan { lan, names in
      lan.net.standard.loss = 0.33
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      for _ in 0..<5 { #expect(try await names[1].find("example", timeout: .seconds(60)).get().map(\.value) == ["a"]) }
    }
  }

  @Test("two hosts that were apart and have the same name find out when they meet, and one keeps it")
  func meeting() async throws {
    try await lan { lan, names in
      lan.net.change(lan.hosts[0], lan.hosts[1]) { $0.isCut = true }
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      try await names[1].announce("example", key: Self.key(2), value: "b", port: 7).get()
      // Nothing was told in the last second.
      try await lan.sleep(.seconds(3))
      lan.net.change(lan.hosts[0], lan.hosts[1]) { $0.isCut = false }
      let found = try await names[0].find("example").get()
      #expect(found.count == 2)
      try await lan.sleep(.seconds(5))
      let states = names.flatMap(\.announcements).map(\.state)
      #expect(states.filter { $0 == .ours }.count == 1)
      #expect(try await names[1].find("example").get().count == 1)
    }
  }

  @Test("an interface that goes takes its sockets along, and one that comes is spoken on at once")
  func interfaces() async throws {
    try await lan { lan, names in
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      let now = try lan.hosts[0].interfaces()
      names[0].update(NetworkSnapshot())
      #expect(lan.hosts[0].open.sockets == 0 && names[0].announcements.isEmpty)
      await #expect { try await names[0].find("x").get() } throws: { ($0 as? NetError)?.code == .unreachable }
      names[0].update(now)
      names[0].update(now)
      #expect(lan.hosts[0].open.sockets == 2)
      try await lan.sleep(.seconds(4))
      #expect(names[0].announcements.map(\.state) == [.ours])
      #expect(try await names[1].find("example").get().map(\.value) == ["a"])
    }
  }

  @Test("a stranger from elsewhere is not heard, and a flood costs no more answers than a second has room for")
  func hostile() async throws {
    try await lan { lan, names in
      let far = lan.net.addHost("far", addresses: [IPAddress(family: .v4, high: 0xc000_0201 << 32, low: 0)])
      try await names[0].announce("example", key: Self.key(1), value: "a", port: 7).get()
      try await lan.sleep(.seconds(3))
      let liar = try LocalService(label: "example", key: Self.key(9), value: "lie", port: 1)
      var message = DNSMessage()
      message.isResponse = true
      message.answers = LinkRecords(liar, addresses: []).entries.map(\.record)
      let group = Endpoint(ip: IPAddress(family: .v4, high: 0xe000_00fb << 32, low: 0), port: 5353)
      let lie = message.bytes
      var conf = PipeConf()
      conf.reuseAddr = true
      let bind = Endpoint(ip: .wildcard(.v4), port: 5353)
      let pipe = try await PipeOpener.open(.udp, bind: bind, conf: conf, sink: Counter(), on: far.loop).get()
      async let found = names[1].find("example").get()
      for _ in 0..<3 { _ = lie.withUnsafeBytes { pipe.send($0, to: pipe.peer(for: group)) } }
      #expect(try await found.map(\.value) == ["a"])
      #expect(names[0].announcements.map(\.state) == [.ours])

      // A neighbour asks a thousand times in a second, with rubbish in between.
      let counter = Counter()
      conf.multicastGroups = [group.ip]
      let near = try await PipeOpener.open(.udp, bind: bind, conf: conf, sink: counter, on: lan.hosts[1].loop).get()
      var question = DNSMessage()
      question.questions = [DNSQuestion(name: liar.instance, type: .txt)]
      let bytes = question.bytes
      for round in 0..<1000 {
        _ = bytes.withUnsafeBytes { near.send($0, to: near.peer(for: group)) }
        _ = bytes.prefix(round % 30).withUnsafeBytes { near.send($0, to: near.peer(for: group)) }
        if round % 10 == 0 { try await lan.sleep(.milliseconds(10)) }
      }
      #expect(counter.answers >= 1 && counter.answers <= 3)
      near.close(flush: .zero)
      pipe.close(flush: .zero)
    }
  }

  /// Counts answers.
  private final class Counter: PipeSink, @unchecked Sendable {
    var answers = 0

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      if DNSMessage([UInt8](bytes))?.isResponse == true { answers += 1 }
      return true
    }
  }
}
