import Testing

@testable import P2PDNet

@Suite("rtnetlink's messages")
struct NetlinkCodecTests {
  private typealias Make = NetlinkBytes

  private func contents(_ bytes: [UInt8]) -> [NetlinkCodec.Content] { NetlinkCodec.messages(in: bytes).map(\.content) }

  @Test("a request has the header of its kind and asks for a dump")
  func requests() {
    for (kind, type, count) in [(NetlinkCodec.Dump.links, 18, 32), (.addresses, 22, 24), (.routes, 26, 28)] {
      let bytes = NetlinkCodec.request(kind, family: .v6, sequence: 0x0102_0304)
      #expect(bytes.count == count)
      let head =
        Make.number(UInt32(count)) + Make.number(UInt16(type)) + Make.number(UInt16(0x301))
        + Make.number(UInt32(0x0102_0304)) + Make.number(UInt32(0))
      #expect(Array(bytes.prefix(16)) == head)
      #expect(bytes[16] == 10)
      #expect(bytes.dropFirst(17).allSatisfy { $0 == 0 })
    }
    #expect(NetlinkCodec.request(.links, family: nil, sequence: 1)[16] == 0)
  }

  @Test("a link: name, hardware address, MTU, flags, kind")
  func link() {
    let found = contents(Make.link(3, "wg0", flags: 0x51, mac: [], mtu: 1420, kind: "wireguard"))
    let expected = NetlinkCodec.LinkRecord(
      index: 3, flags: 0x51, name: "wg0", hardwareAddress: [], mtu: 1420, kind: "wireguard")
    #expect(found == [.link(expected)])
  }

  @Test("an address of a broadcast link, with its 32 bits of flags")
  func address() {
    let bytes = Make.address(2, ip("192.0.2.2"), prefix: 24, flags: 0x180, broadcast: ip("192.0.2.255"))
    let expected = NetlinkCodec.AddressRecord(
      family: .v4, index: 2, prefixLength: 24, scope: 0, flags: 0x180, ip: ip("192.0.2.2"), peer: nil,
      broadcast: ip("192.0.2.255"))
    #expect(contents(bytes) == [.address(expected)])
  }

  @Test("on a point-to-point link the local address is ours and the other is the peer's")
  func pointToPoint() throws {
    let bytes = Make.address(2, ip("10.0.0.2"), prefix: 32, local: ip("10.0.0.1"))
    guard case .address(let record)? = contents(bytes).first else {
      Issue.record("no address")
      return
    }
    #expect(record.ip == ip("10.0.0.1"))
    #expect(record.peer == ip("10.0.0.2"))
  }

  @Test("a link-local address takes the interface as its scope, another does not")
  func scopes() {
    let bytes = Make.address(9, ip("fe80::1"), prefix: 64) + Make.address(9, ip("2001:db8::1"), prefix: 64)
    let ips = contents(bytes).map { content -> IPAddress? in
      if case .address(let record) = content { record.ip } else { nil }
    }
    #expect(ips == [ip("fe80::1", scope: 9), ip("2001:db8::1")])
  }

  @Test("a default route: gateway, interface, metric, and a link-local router with its scope")
  func route() {
    let preferred = Make.attribute(20, [3])
    let bytes = Make.route(.v6, Make.via(ip("fe80::1"), 4, metric: 1024) + preferred)
    var expected = NetlinkCodec.RouteRecord(family: .v6, destinationLength: 0, table: 254, type: 1, flags: 0)
    expected.metric = 1024
    expected.interfaceIndex = 4
    expected.gateway = ip("fe80::1", scope: 4)
    expected.preference = -1
    #expect(contents(bytes) == [.route(expected)])
  }

  @Test("a route with several next hops is a route for each")
  func multipath() {
    let hops = Make.hop(2, ip("192.0.2.1")) + Make.hop(3, ip("198.51.100.1"))
    let bytes = Make.route(.v4, Make.attribute(9, hops) + Make.attribute(6, Make.number(UInt32(50))))
    let routes = contents(bytes).compactMap { content -> NetlinkCodec.RouteRecord? in
      if case .route(let record) = content { record } else { nil }
    }
    #expect(routes.map(\.interfaceIndex) == [2, 3])
    #expect(routes.map(\.gateway) == [ip("192.0.2.1"), ip("198.51.100.1")])
    #expect(routes.map(\.metric) == [50, 50])
  }

  @Test("an IPv4 route through an IPv6 router (RFC 5549)")
  func foreignGateway() {
    let gateway = Make.number(UInt16(10)) + ip("fe80::1").bytes
    let bytes = Make.route(.v4, Make.attribute(18, gateway) + Make.attribute(4, Make.number(UInt32(2))))
    guard case .route(let record)? = contents(bytes).first else {
      Issue.record("no route")
      return
    }
    #expect(record.gateway == ip("fe80::1", scope: 2))
  }

  @Test("ends, refusals, losses and what is of no interest")
  func others() {
    #expect(contents(Make.done()) == [.done])
    #expect(contents(Make.done(-16)) == [.failed(16)])
    #expect(contents(Make.message(2, Make.number(Int32(-1)) + Make.done())) == [.failed(1)])
    #expect(contents(Make.message(2, Make.number(Int32.min))) == [.failed(Int32.min)])
    #expect(contents(Make.message(4, [])) == [.overrun])
    #expect(contents(Make.message(28, [1, 2, 3, 4])) == [.other(28)])
    // Bridges list their forwarding tables as another family's addresses.
    #expect(contents(Make.message(20, [7, 0, 0, 0, 1, 0, 0, 0])) == [.other(20)])
  }

  @Test("sequence numbers and the mark of an interrupted dump are kept")
  func headers() {
    let messages = NetlinkCodec.messages(in: Make.message(3, flags: 0x12, sequence: 99, Make.number(Int32(0))))
    #expect(messages == [.init(sequence: 99, isInterrupted: true, content: .done)])
  }

  @Test("a message that claims more or fewer bytes than it can have ends the list")
  func damagedFraming() {
    let good = Make.link(1, "lo")
    for length: UInt32 in [0, 15, 17 + UInt32(good.count), .max] {
      let bad = Make.number(length) + Array(good.dropFirst(4))
      #expect(contents(good + bad).last == .malformed)
      #expect(contents(good + bad).count == 2)
    }
    #expect(contents(good + [1, 2, 3]).last == .malformed)
    #expect(contents([]).isEmpty)
  }

  @Test("an attribute of the wrong length is passed over")
  func damagedAttributes() {
    let short = Make.message(20, [2, 24, 0, 0] + Make.number(UInt32(1)) + Make.attribute(1, [192, 0, 2]))
    #expect(contents(short) == [.malformed])
    let odd = Make.message(
      20, [2, 200, 0, 0] + Make.number(UInt32(1)) + Make.attribute(1, [192, 0, 2, 1]) + Make.attribute(4, [1]))
    guard case .address(let record)? = contents(odd).first else {
      Issue.record("no address")
      return
    }
    #expect(record.prefixLength == 32)
    #expect(record.broadcast == nil)
  }

  @Test("cut, altered and spliced dumps never trap and never grow")
  func fuzz() {
    let corpus: [[UInt8]] = [
      Make.link(1, "lo", flags: 0x49, mac: [0, 0, 0, 0, 0, 0], mtu: 65536) + Make.link(2, "veth0", kind: "veth"),
      Make.address(1, ip("127.0.0.1"), prefix: 8, broadcast: ip("127.255.255.255"))
        + Make.address(2, ip("fe80::1"), prefix: 64, local: ip("fe80::2")),
      Make.route(.v4, Make.via(ip("192.0.2.1"), 2, metric: 100)) + Make.done(),
      Make.route(.v6, Make.attribute(9, Make.hop(2, ip("fe80::1")) + Make.hop(3, ip("fe80::2")))),
      Make.done(-16) + Make.message(2, Make.number(Int32(-13))) + Make.message(4, []),
    ]
    for sample in corpus {
      for count in 0...sample.count { check(Array(sample.prefix(count))) }
    }
    var numbers = SplitMix64(2)
    for _ in 0..<30_000 {
      var bytes = corpus.randomElement(using: &numbers) ?? []
      for _ in 0..<Int.random(in: 1...4, using: &numbers) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &numbers)
        switch Int.random(in: 0..<5, using: &numbers) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &numbers)
        case 1: bytes[place] = [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff].randomElement(using: &numbers) ?? 0
        case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...9, using: &numbers)))
        case 3: bytes.insert(contentsOf: corpus.randomElement(using: &numbers)?.prefix(40) ?? [], at: place)
        default: bytes = Array(bytes.prefix(place))
        }
      }
      check(bytes)
    }
  }

  private func check(_ bytes: [UInt8]) {
    let messages = NetlinkCodec.messages(in: bytes)
    // A next hop is at least eight bytes, a message sixteen, and the damaged rest one more.
    #expect(messages.count <= bytes.count / 8 + 1)
    for message in messages {
      switch message.content {
      case .link(let link): #expect(link.name.utf8.count <= bytes.count * 3 && link.index != 0)
      case .address(let address):
        #expect(address.prefixLength <= (address.family == .v4 ? 32 : 128))
        #expect(address.ip.family == address.family)
      default: break
      }
    }
    // Whatever was read can be put together.
    let contents = messages.map(\.content)
    _ = NetworkSnapshot(links: contents, addresses: contents, routes: contents)
  }
}
