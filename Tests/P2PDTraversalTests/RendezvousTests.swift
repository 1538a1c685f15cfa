import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite struct RendezvousTests {
  private static let session = SessionID()

  private func endpoint(_ text: String) throws -> Endpoint { try #require(Endpoint(text)) }

  private func side() throws -> Rendezvous.Side {
    var side = Rendezvous.Side()
    side.paths = [
      PeerPath(
        interface: 3, local: try endpoint("192.168.1.2:20000"), external: try endpoint("203.0.113.7:0"),
        mapped: try endpoint("203.0.113.7:4444"),
        udp: NATWay(
          mapping: .endpointIndependent, filtering: .addressAndPortDependent, allocation: .offset(-7000)),
        tcp: NATWay(mapping: .endpointDependent, allocation: .sequential(step: -3, range: 1024...65535))),
      PeerPath(interface: 15, local: try endpoint("[2001:db8::2]:20000")),
    ]
    side.punch = PunchSide([
      PunchSide.Path(
        .v4, mapping: .addressDependent, filtering: nil, allocation: .random(range: 5...5), hairpin: .internalSource,
        ports: [
          PunchSide.Port([try endpoint("203.0.113.7:1"), try endpoint("203.0.113.7:2")], isPredicted: true),
          PunchSide.Port([]),
        ]), PunchSide.Path(.v6),
    ])
    side.leg = .milliseconds(31)
    return side
  }

  private func survives(_ message: Rendezvous.Message, sourceLocation: SourceLocation = #_sourceLocation) {
    let whole = Rendezvous(Self.session, message)
    #expect(Rendezvous(whole.bytes) == whole, sourceLocation: sourceLocation)
  }

  @Test("every message survives its bytes")
  func roundTrip() throws {
    var offer = Rendezvous.Offer()
    survives(.offer(offer))
    offer.protocolName = "chat"
    offer.strategies = [.reverse, .relay]
    offer.side = try side()
    survives(.offer(offer))
    offer.side.punch = PunchSide()
    survives(.offer(offer))
    var answer = Rendezvous.Answer()
    answer.side = try side()
    for refusal in Rendezvous.Refusal.allCases {
      answer.refusal = refusal
      answer.declined = [.punch: refusal, .relay: .off]
      survives(.answer(answer))
    }
    survives(.relay([try endpoint("198.51.100.1:40056"), try endpoint("[2001:db8::1]:1")]))
    survives(.round([try endpoint("198.51.100.1:40057"), try endpoint("[2001:db8::1]:2")]))
    survives(.abort)
    survives(.whereabouts)
    survives(.here("p2pd1abc"))
    survives(.here(String(repeating: "x", count: Rendezvous.longestAddress)))
    survives(.report([]))
    for code in PathAttempt.outcomes {
      survives(
        .report([
          PathAttempt(.punch, local: try endpoint("10.0.0.1:1"), remote: try endpoint("[::1]:2"), code, "seen so"),
          PathAttempt(.reverse, code, ""),
        ]))
    }
  }

  @Test("the longest message fits a signal, and lists lose what is over their number")
  func bounds() throws {
    var side = Rendezvous.Side()
    let ip = try endpoint("[2001:db8::1]:65535")
    let way = NATWay(
      mapping: .endpointDependent, filtering: .addressDependent, allocation: .sequential(step: 1, range: 1...2))
    side.paths = (0..<40).map {
      PeerPath(interface: UInt8($0 % 16), local: ip, external: ip, mapped: ip, udp: way, tcp: way)
    }
    let port = PunchSide.Port(Array(repeating: ip, count: 20), isPredicted: true)
    side.punch = PunchSide(
      Array(
        repeating: PunchSide.Path(
          .v6, mapping: .endpointDependent, allocation: .random(range: 1...2), ports: Array(repeating: port, count: 9)),
        count: 9))
    side.leg = .hours(9)
    var offer = Rendezvous.Offer()
    offer.protocolName = String(repeating: "x", count: 64)
    offer.side = side
    var answer = Rendezvous.Answer()
    answer.declined = [.direct: .off, .reverse: .off, .punch: .off, .relay: .off]
    answer.refusal = .other
    answer.side = side
    let attempt = PathAttempt(.relay, local: ip, remote: ip, .timeout, String(repeating: "é", count: 200))
    for message in [
      Rendezvous.Message.offer(offer), .answer(answer), .report(Array(repeating: attempt, count: 100)),
      .relay(Array(repeating: ip, count: 50)), .round(Array(repeating: ip, count: 50)),
    ] {
      let bytes = Rendezvous(Self.session, message).bytes
      #expect(bytes.count <= Rendezvous.longest)
      let read = try #require(Rendezvous(bytes))
      switch read.message {
      case .offer(let offer): #expect(offer.side.paths.count == 16 && offer.side.punch?.paths.count == 4)
      case .answer(let answer): #expect(answer.side.punch?.paths.first?.ports.first?.endpoints.count == 8)
      case .report(let attempts): #expect(attempts.count == 20 && attempts[0].seen.utf8.count == 120)
      case .relay(let endpoints), .round(let endpoints): #expect(endpoints.count == 4)
      case .abort, .whereabouts, .here: Issue.record("not that")
      }
    }
  }

  @Test("fields and bytes of a later version are passed over")
  func later() throws {
    let plain = Rendezvous(Self.session, .abort)
    #expect(Rendezvous(plain.bytes + [200, 0, 3, 1, 2, 3]) == plain)
    // A path with more behind it.
    let path = PeerPath(interface: 0, local: try endpoint("10.0.0.1:5"))
    let value = path.bytes + [9, 9]
    let read = try #require(Rendezvous([1, 1] + Self.session.bytes + [3, 0, UInt8(value.count)] + value))
    guard case .offer(let offer) = read.message else { throw NetError(.io, "no offer") }
    #expect(offer.side.paths == [path])
    // A reason, and an attempt's strategy, of a later version.
    let refused = try #require(Rendezvous([1, 2] + Self.session.bytes + [6, 0, 1, 99]))
    guard case .answer(let answer) = refused.message else { throw NetError(.io, "no answer") }
    #expect(answer.refusal == .other)
    let reported = try #require(Rendezvous([1, 4] + Self.session.bytes + [9, 0, 3, 77, 1, 0]))
    #expect(reported.message == .report([]))
  }

  @Test("what cannot be is nothing")
  func malformed() throws {
    let whole = Rendezvous(Self.session, .relay([try endpoint("198.51.100.1:40056")])).bytes
    for length in 0..<whole.count {
      let cut = Rendezvous(Array(whole.prefix(length)))?.message
      // The head alone asks for a relay.
      #expect(length == 18 ? cut == .relay([]) : cut == nil)
    }
    var other = whole
    other[0] = 2
    #expect(Rendezvous(other) == nil)
    other = whole
    other[1] = 77
    #expect(Rendezvous(other) == nil)
    let head = [1, 1] + Self.session.bytes
    // A family that is none, a port of 0, an allocation whose range runs backwards, an empty list of bits.
    for bad: [UInt8] in [
      [3, 0, 8, 0, 5, 1, 2, 3, 4, 0, 1], [3, 0, 8, 0, 4, 1, 2, 3, 4, 0, 0],
      [3, 0, 14, 1, 4, 1, 2, 3, 4, 0, 1, 0, 4, 0, 9, 0, 8], [2, 0, 0],
    ] { #expect(Rendezvous(head + bad) == nil, "\(bad)") }
    #expect(Rendezvous([UInt8](repeating: 1, count: Rendezvous.longest + 1)) == nil)
    // No address, one with a blank or with a control character, one that is too long.
    let here = [1, 9] + Self.session.bytes
    for bad: [UInt8] in [[], [16, 0, 0], [16, 0, 2, 0x61, 0x20], [16, 0, 1, 0x1b]] {
      #expect(Rendezvous(here + bad) == nil, "\(bad)")
    }
    #expect(Rendezvous(here + [16, 4, 1] + [UInt8](repeating: 0x61, count: 1025)) == nil)
  }

  @Test("another node's words are shown as text only")
  func words() throws {
    let evil = PathAttempt(.reverse, .refused, "a\u{1b}[31mb\n")
    guard case .report(let read) = Rendezvous(Rendezvous(Self.session, .report([evil])).bytes)?.message else {
      throw NetError(.io, "no report")
    }
    #expect(read.map(\.seen) == ["a?[31mb?"])
  }
}
