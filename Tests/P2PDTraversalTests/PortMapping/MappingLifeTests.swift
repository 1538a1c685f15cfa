import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("The life of a mapping, stepped by hand")
struct MappingLifeTests {
  private func held(lifetime: UInt32 = 7200) -> Stepper {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.on(it.pcp(lifetime: lifetime), at: 0)
    return it
  }

  private func times(_ it: Stepper, _ word: String, until end: Int64) -> [Int64] {
    var found: [Int64] = []
    while let due = it.due, due <= end {
      for done in it.wait().words where done.hasPrefix(word) { found.append(due / 1000) }
    }
    return found
  }

  @Test("it is renewed at half of its life, at three quarters, at seven eighths; then it is lost and raced for anew")
  func renewal() {
    let it = held()
    // Each by an eighth, a sixteenth, ... of luck later, of which half.
    #expect(times(it, "pcp map", until: 7_199_000).prefix(3) == [4050, 5625, 6412])
    let end = it.pass(until: 7_200_000).words
    #expect(end.contains("lost") && end.suffix(3) == ["pcp map 7200 4000", "natpmp address", "search"])
  }

  @Test("a renewal that is answered begins a new life, without news")
  func renewed() {
    let it = held()
    _ = it.pass(until: 4_050_000)
    #expect(it.on(it.pcp(epoch: 4060), at: 4_050_005) == [])
    #expect(times(it, "pcp map", until: 8_200_000) == [8100])
  }

  @Test("another external port is news")
  func moved() {
    let it = held()
    _ = it.pass(until: 4_050_000)
    #expect(it.on(it.pcp(.success, "203.0.113.5:4009", epoch: 4060)).words == ["granted pcp 203.0.113.5:4009"])
  }

  @Test("a renewal that is refused: lost, and the others are raced for")
  func refusedRenewal() {
    let it = held()
    _ = it.pass(until: 4_050_000)
    let done = it.on(it.pcp(.notAuthorized, epoch: 4060)).words
    #expect(done == ["lost", "pcp map 7200 4000", "natpmp address", "search"])
    #expect(it.on(it.address(epoch: 4060), at: 4_050_010).words == ["natpmp map 7200 4000"])
  }

  @Test("a server that has restarted is noticed by its clock within minutes, and asked for the same again")
  func restarted() {
    let it = held()
    let first = it.due.map { _ in times(it, "pcp announce", until: 300_000) } ?? []
    #expect(first.count == 1 && first.allSatisfy { (240...270).contains($0) })
    let asked = it.now
    #expect(it.on(it.announce(epoch: UInt32(10 + asked / 1000)), at: asked) == [])
    _ = it.pass(until: 520_000)
    #expect(it.on(it.announce(epoch: 3)).words == ["pcp map 7200 4000"])
    // Asked until it answers.
    #expect(times(it, "pcp map", until: 524_000).count == 1)
    #expect(it.on(it.pcp(epoch: 8)) == [])
  }

  @Test("NAT-PMP's new outside address leads to a new mapping")
  func readdressed() {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.on(it.address(), at: 5)
    _ = it.pass(until: 60)
    _ = it.on(it.mapped(), at: 61)
    _ = it.pass(until: 270_000)
    #expect(it.on(it.address("203.0.113.9:0", epoch: 280)).words == ["natpmp map 7200 4000"])
    #expect(it.on(it.mapped(epoch: 280)).words == ["granted natpmp 203.0.113.9:4000"])
  }

  @Test("the router's announcement: asked again within five seconds")
  func announced() {
    let it = held()
    _ = it.on(.announced, at: 10_000)
    #expect(times(it, "pcp map", until: 15_000).count == 1)
  }

  @Test("the end: removed, three times at most, over when it is answered")
  func stop() {
    let it = held()
    let other = it.copy()
    #expect(it.on(.stop, at: 1000).words == ["lost", "pcp map 0 0"])
    #expect(it.on(it.pcp(lifetime: 0), at: 1010).words == ["over"])
    #expect(it.on(.timer, at: 5000) == [] && it.lease.isOver)
    _ = other.on(.stop, at: 1000)
    #expect(other.pass(until: 9000).words == ["pcp map 0 0", "pcp map 0 0", "over"])
  }

  @Test("the end in the middle of the race: what may have been granted is given back")
  func stopEarly() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(.stop, at: 2).words == ["pcp map 0 0", "over"])
    let adding = Stepper()
    _ = adding.on(.start)
    _ = adding.on(.upnpReady, at: 50)
    _ = adding.pass(until: 100)
    #expect(adding.on(.stop, at: 101) == [])
    #expect(adding.on(adding.upnp(), at: 120).words == ["remove 4000"])
    #expect(adding.on(.upnpRemoved, at: 130).words == ["over"])
  }

  @Test("a UPnP mapping without an end is looked after, and removed at the end")
  func permanent() {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.on(.upnpReady, at: 50)
    _ = it.pass(until: 100)
    _ = it.on(it.upnp(lifetime: nil), at: 120)
    let added = times(it, "add", until: 1_300_000)
    #expect(added.count == 1)
    _ = it.on(it.upnp(lifetime: nil))
    #expect(it.on(.stop, at: 1_400_000).words == ["lost", "remove 4000"])
    #expect(it.pass(until: 1_402_000).words == ["over"], "nobody waits longer for a router")
  }

  @Test("the port of the run before is asked for")
  func suggested() {
    let it = Stepper(suggested: ep("203.0.113.5:5555"))
    #expect(it.on(.start).words.first == "pcp map 7200 5555")
  }
}

@Suite("A server's clock")
struct EpochTests {
  @Test("PCP: a sixteenth and two seconds either way (RFC 6887 §8.5)")
  func pcp() {
    func same(_ client: Int64, _ server: UInt32) -> Bool {
      var watch = EpochWatch(.pcp)
      _ = watch.isSame(1000, now: at(0))
      return watch.isSame(server, now: at(client * 1000))
    }
    #expect(same(100, 1100) && same(100, 1092) && same(100, 1108))
    #expect(!same(100, 1091) && !same(100, 1110) && !same(100, 5))
    #expect(same(0, 999) && !same(0, 998))
  }

  @Test("NAT-PMP: slow by an eighth and two seconds at most (RFC 6886 §3.6)")
  func natpmp() {
    func same(_ client: Int64, _ server: UInt32) -> Bool {
      var watch = EpochWatch(.natpmp)
      _ = watch.isSame(1000, now: at(0))
      return watch.isSame(server, now: at(client * 1000))
    }
    #expect(same(80, 1068) && same(80, 5000) && !same(80, 1067) && !same(80, 0))
  }
}

@Suite("What a node remembers of its mappings")
struct PortMappingMemoryTests {
  @Test("it is text that can be read again; what cannot is left out")
  func text() throws {
    var memory = PortMappingMemory()
    let nonce = try #require(PCPNonce((1...12).map { UInt8($0) }))
    let key = PortMappingMemory.Key(
      gateway: ep("192.168.1.1:0").ip, want: .init(local: ep("192.168.1.10:0").ip, transport: .tcp, port: 4000))
    memory.set(.init(nonce: nonce, external: ep("203.0.113.5:4001")), for: key)
    #expect(memory.text == "tcp 192.168.1.10 4000 192.168.1.1 0102030405060708090a0b0c 203.0.113.5:4001\n")
    #expect(PortMappingMemory(text: memory.text) == memory)
    let damaged = "tcp x 1 2 3 4\n\0\n" + memory.text + "tcp 192.168.1.10 4000 192.168.1.1 zz -\nudp"
    #expect(PortMappingMemory(text: damaged) == memory)
    for port in UInt16(1)...100 {
      memory.set(
        .init(nonce: nonce),
        for: .init(gateway: key.gateway, want: .init(local: key.gateway, transport: .udp, port: port)))
    }
    #expect(memory.entries.count == 32 && memory.entries.first?.key.want.port == 100)
  }
}
