import P2PDNet
import Testing

@testable import P2PDTraversal

/// Plays a router and servers for a ``MappingTest``: every question is answered by `world`, in the order asked.
private struct Play {
  var test: MappingTest
  var asked: [Endpoint] = []
  var told: [MappingTest.Verdict] = []
  var final: MappingTest.Verdict?

  typealias World = (Endpoint) -> (mapped: Endpoint, other: Endpoint?)?

  init(_ servers: [Endpoint], local: Endpoint = inside, isSearched: Bool = true, _ world: World) {
    test = MappingTest()
    var queue = test.handle(.start(local: local))
    for server in servers { queue += test.handle(.found(server)) }
    if isSearched { queue += test.handle(.searched) }
    while !queue.isEmpty {
      switch queue.removeFirst() {
      case .ask(let server):
        asked.append(server)
        if let (mapped, other) = world(server) {
          queue += test.handle(.answered(server, mapped: mapped, other: other))
        } else {
          queue += test.handle(.failed(server))
        }
      case .conclude(let verdict): told.append(verdict)
      case .finish(let verdict): final = verdict
      }
    }
  }
}

private let inside = ep("192.168.1.10:5000")
private let a = ep("198.51.100.1:3478")
private let a2 = ep("198.51.100.2:3479")
private let b = ep("198.51.100.3:3478")
private let c = ep("198.51.100.4:3478")
private let outside = ep("203.0.113.9:5000")

private func port(_ number: UInt16) -> Endpoint { Endpoint(ip: outside.ip, port: number) }

@Suite("How a router maps one port (RFC 5780 §4.3)")
struct MappingTestTests {
  @Test("the same for everybody")
  func independent() {
    let play = Play([a, b, c]) { _ in (outside, nil) }
    #expect(play.final?.mapping == .endpointIndependent && play.final?.mapped == [outside])
    #expect(play.asked == [a, b, c] && play.final?.answers == 3)
    // Told as soon as two agree: after one round trip.
    #expect(play.told.contains { $0.mapping == .endpointIndependent && $0.answers == 2 })
    #expect(play.told.first?.mapped == [outside] && play.told.first?.mapping == nil)
  }

  @Test("no translation needs one answer")
  func none() {
    let play = Play([a], local: ep("203.0.113.9:5000")) { _ in (outside, nil) }
    #expect(play.final?.mapping == NATBehaviour.Mapping.none)
  }

  @Test("one server alone cannot tell")
  func alone() {
    let play = Play([a]) { _ in (outside, nil) }
    #expect(play.final?.mapping == nil && play.final?.mapped == [outside])
  }

  @Test("one server with a second address can")
  func second() {
    let play = Play([a]) { server in (outside, server == a ? a2 : nil) }
    #expect(play.asked == [a, a2, Endpoint(ip: a.ip, port: 3479)])
    #expect(play.final?.mapping == .endpointIndependent)
    #expect(play.test.helpers.count == 1 && play.test.helpers.first?.other == a2)
  }

  @Test("by address, by address and port, and where nobody helps to tell them apart")
  func dependent() {
    func byAddress(_ server: Endpoint) -> Endpoint { port(UInt16(1000 + (server.ip.high >> 32 & 0xff))) }
    let adm = Play([a, b, c]) { (byAddress($0), $0 == a ? a2 : nil) }
    #expect(adm.final?.mapping == .addressDependent)
    let apdm = Play([a, b, c]) { server in
      (port(byAddress(server).port &+ server.port), server == a ? a2 : nil)
    }
    #expect(apdm.final?.mapping == .addressAndPortDependent)
    #expect(apdm.final?.mapped.count == 3, "what each of the servers asked for saw")
    let plain = Play([a, b, c]) { (byAddress($0), nil) }
    #expect(plain.final?.mapping == .endpointDependent)
    let portOnly = Play([a, b]) { server in (port(server.port), server == a ? a2 : nil) }
    #expect(portOnly.final?.mapping == .addressAndPortDependent)
  }

  @Test("a server that lies changes nothing, wherever in the order it stands", arguments: [a, b, c])
  func liar(_ liar: Endpoint) {
    let play = Play([a, b, c]) { server in (server == liar ? ep("198.18.0.1:666") : outside, nil) }
    #expect(play.final?.mapping == .endpointIndependent && play.final?.mapped == [outside])
    #expect(play.final?.doubted == [liar])
  }

  @Test("a liar with a second address has one voice, and is no helper")
  func liarWithTwo() {
    let play = Play([a, b, c]) { server in
      server.ip == a.ip || server.ip == a2.ip ? (ep("198.18.0.1:666"), server == a ? a2 : nil) : (outside, nil)
    }
    #expect(play.final?.mapping == .endpointIndependent && play.final?.mapped == [outside])
    #expect(play.test.helpers.isEmpty)
  }

  @Test("behind a symmetric NAT a liar's address is not taken for ours")
  func liarAmongDifferent() {
    let play = Play([a, b, c]) { server in
      (server == b ? ep("198.18.0.1:666") : port(UInt16(truncatingIfNeeded: server.ip.high >> 32)), nil)
    }
    #expect(play.final?.mapping == .endpointDependent && play.final?.doubted == [b])
    #expect(play.final?.mapped.allSatisfy { $0.ip == outside.ip } == true && play.final?.mapped.count == 2)
  }

  @Test("two that contradict each other are not believed before a third speaks")
  func contradiction() {
    let play = Play([a, b, c]) { server in (server == a ? port(1) : server == b ? port(2) : port(2), nil) }
    #expect(play.final?.mapping == .endpointIndependent && play.final?.mapped == [port(2)])
    #expect(play.told.allSatisfy { $0.mapping != .endpointDependent })
  }

  @Test("dead servers change nothing; with all of them dead nothing is known")
  func dead() {
    let play = Play([a, b, c]) { server in server == a ? nil : (outside, nil) }
    #expect(play.final?.mapping == .endpointIndependent)
    let none = Play([a, b, c]) { _ in nil }
    #expect(none.final == MappingTest.Verdict())
    #expect(Play([]) { _ in nil }.final == MappingTest.Verdict())
  }

  @Test("while servers are still looked for, those that are there say what they can, and nothing is final")
  func searching() {
    let play = Play([a, b], isSearched: false) { _ in (outside, nil) }
    #expect(play.told.last?.mapping == .endpointIndependent && play.final == nil)
    // Two that contradict each other: one of them may be wrong, and a third may come.
    var two = Play([a, b], isSearched: false) { server in (port(server == a ? 1 : 2), nil) }
    #expect(two.told.allSatisfy { $0.mapping == nil })
    #expect(two.test.handle(.found(c)) == [.ask(c)])
    #expect(two.test.handle(.searched).allSatisfy { if case .finish = $0 { false } else { true } })
    guard case .finish(let verdict)? = two.test.handle(.answered(c, mapped: port(2), other: nil)).last else {
      Issue.record("it does not end")
      return
    }
    #expect(verdict.mapping == .endpointIndependent && verdict.doubted == [a])
  }

  @Test(
    "an address that cannot be ours is no answer",
    arguments: ["0.0.0.0:5", "203.0.113.9:0", "224.0.0.1:5", "127.0.0.1:5", "255.255.255.255:5", "[2001:db8::1]:5"])
  func implausible(_ mapped: String) {
    let play = Play([a, b]) { server in (server == a ? ep(mapped) : outside, nil) }
    #expect(play.final?.mapped == [outside] && play.final?.answers == 1)
  }

  @Test(
    "a server cannot make us speak to whom it likes",
    arguments: [
      "192.168.1.1:3479", "127.0.0.1:3479", "224.0.0.1:3479", "198.51.100.1:3479", "198.51.100.2:3478", "0.0.0.0:3479",
      "198.51.100.2:0", "[2001:db8::1]:3479",
    ])
  func redirect(_ other: String) {
    let play = Play([a, b]) { server in (outside, server == a ? ep(other) : nil) }
    #expect(play.asked == [a, b])
  }

  @Test("a second address that does not answer is no helper; questions are bounded")
  func helpers() {
    let silent = Play([a, b]) { server in server == a2 ? nil : (outside, server == a ? a2 : nil) }
    #expect(silent.test.helpers.isEmpty && silent.final?.mapping == .endpointIndependent)
    let late = Play([a, b]) { server in
      server.ip == b.ip && server.port != b.port
        ? nil : (outside, server == a ? a2 : server == b ? ep("198.51.100.9:3479") : nil)
    }
    #expect(late.test.helpers.map(\.server) == [a] && late.final?.mapping == .endpointIndependent)
    let many = (1...20).map {
      Endpoint(ip: IPAddress(family: .v4, high: UInt64(0xc633_6400 + $0) << 32, low: 0), port: 3478)
    }
    let play = Play(many) { server in
      (outside, Endpoint(ip: IPAddress(family: .v4, high: server.ip.high + 100 << 32, low: 0), port: 9))
    }
    #expect(play.asked.count <= MappingTest.mostQuestions)
  }

  @Test("answers to what was not asked, or twice, are ignored")
  func strange() {
    var test = MappingTest()
    #expect(test.handle(.found(a)).isEmpty && test.handle(.answered(a, mapped: outside, other: nil)).isEmpty)
    _ = test.handle(.start(local: inside))
    #expect(test.handle(.found(a)) == [.ask(a)] && test.handle(.found(a)).isEmpty)
    _ = test.handle(.searched)
    #expect(test.handle(.answered(b, mapped: outside, other: nil)).isEmpty)
    #expect(!test.handle(.answered(a, mapped: outside, other: nil)).isEmpty)
    #expect(test.handle(.answered(a, mapped: port(7), other: nil)).isEmpty)
  }
}
