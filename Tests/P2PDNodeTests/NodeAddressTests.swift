import P2PDNet
import Testing

@testable import P2PDNode

private let identity = Identity.ephemeral()

private func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

private func make(_ routes: [NodeRoute] = [], _ signalling: [SignalServer] = []) throws -> NodeAddress {
  try NodeAddress.make(by: identity, issued: 1_760_000_000, routes: routes, signalling: signalling)
}

@Suite struct NodeAddressTests {
  @Test func everythingComesBack() throws {
    let routes = [
      NodeRoute(interface: 0, nic: try ip("192.168.1.20"), port: 20_001),
      NodeRoute(
        interface: 1, nic: try ip("10.0.0.2"), port: 1, external: .at(Endpoint(ip: try ip("203.0.113.7"), port: 65535)),
        nat: NATFacts(type: .portRestricted, delta: .dependent, value: -3)),
      NodeRoute(interface: 15, nic: try ip("2001:db8::1"), port: 65535, external: .none),
      NodeRoute(
        interface: 2, nic: try ip("2001:db8::2"), port: 7, external: .at(Endpoint(ip: try ip("2001:db8::3"), port: 0))),
      NodeRoute(
        interface: 2, nic: try ip("fe80::1"), port: 7, nat: NATFacts(type: .unknown, delta: .unknown, value: .min)),
      NodeRoute(interface: 3, nic: .loopback(.v4), port: 8),
      NodeRoute(interface: 3, nic: .loopback(.v6), port: 8),
    ]
    let servers = [
      SignalServer(host: "broker.example.org", port: 8883, tls: true),
      SignalServer(host: "192.0.2.1", port: 1883, tls: false),
    ]
    let made = try make(routes, servers)
    let read = try NodeAddress(made.description)
    #expect(read == made)
    #expect(read.key == identity.key)
    #expect(read.issued == 1_760_000_000)
    #expect(read.routes == routes)
    #expect(read.signalling == servers)
  }

  @Test func unknownIsNotNone() throws {
    let unknown = try make([NodeRoute(interface: 0, nic: try ip("10.0.0.2"), port: 1)])
    let none = try make([NodeRoute(interface: 0, nic: try ip("10.0.0.2"), port: 1, external: .none)])
    #expect(try NodeAddress(unknown.description).routes.first?.external == .unknown)
    #expect(try NodeAddress(none.description).routes.first?.external == ExternalAddress.none)
    #expect(try NodeAddress(unknown.description).routes.first?.nat == nil)
  }

  @Test func aTokenIsUrlSafeAndSmall() throws {
    let address = try make([
      NodeRoute(
        interface: 0, nic: try ip("192.168.1.20"), port: 20_001,
        external: .at(Endpoint(ip: try ip("203.0.113.7"), port: 9))),
      NodeRoute(interface: 0, nic: try ip("2001:db8::1"), port: 20_001),
      NodeRoute(interface: 0, nic: try ip("fe80::1"), port: 20_001),
    ])
    #expect(address.description.hasPrefix("p2pd1"))
    #expect(
      address.description.utf8.allSatisfy {
        $0 < 0x80
          && ($0 == 0x2d || $0 == 0x5f || Character(UnicodeScalar($0)).isLetter
            || Character(UnicodeScalar($0)).isNumber)
      })
    #expect(address.description.utf8.count < 240)
  }

  @Test func aScopeStaysAtHome() throws {
    let scoped = IPAddress(family: .v6, high: 0xfe80 << 48, low: 1, scopeID: 7)
    let route = NodeRoute(interface: 0, nic: scoped, port: 1)
    #expect(route.nic.scopeID == 0)
    #expect(try NodeAddress(make([route]).description).routes.first?.nic == (try ip("fe80::1")))
  }

  @Test func spaceAroundItIsNoMatter() throws {
    let address = try make()
    #expect(try NodeAddress("  \n\(address.description)\r\n\t") == address)
  }

  @Test func mostRoutesFit() throws {
    let full = try (0..<16).map { index in
      NodeRoute(
        interface: UInt8(index), nic: try ip("2001:db8::\(index)1"), port: 1,
        external: .at(Endpoint(ip: try ip("2001:db8::1:\(index)1"), port: 9)),
        nat: NATFacts(type: .symmetric, delta: .random, value: 1))
    }
    // 16 of the largest are too long for a token, and that is said when it is made, not where it is used.
    #expect(throws: NodeAddressError.self) { try make(full) }
    let address = try make(full.map { NodeRoute(interface: $0.interface, nic: $0.nic, port: 1) })
    #expect(try NodeAddress(address.description).routes.count == 16)
    #expect(throws: NodeAddressError.malformed("more than 16 routes")) {
      try make(Array(repeating: full[0], count: 17))
    }
  }

  // MARK: Later versions

  private func body(_ fields: [UInt8]) -> [UInt8] { identity.key.bytes + [0, 0, 0, 1] + fields }

  @Test func unknownFieldsAreSkipped() throws {
    let route: [UInt8] = [1, 7, 0x00, 0x4e, 0x21, 10, 0, 0, 1]
    let address = try NodeAddress.make(by: identity, body: body([200, 3, 1, 2, 3] + route + [255, 0]))
    #expect(address.routes == [NodeRoute(interface: 0, nic: try ip("10.0.0.1"), port: 20_001)])
    // And nobody but the signer can put them there.
    let text = try NodeAddress.make(by: identity, body: body([200, 1, 1])).description
    var bytes = try #require(Base64URL.decode(Array(text.utf8.dropFirst(5))))
    bytes[38] = 2
    let forged = "p2pd1" + Base64URL.encode(Array(bytes.dropLast(4)).checksummed)
    #expect(throws: NodeAddressError.badSignature) { try NodeAddress(forged) }
  }

  @Test func whatFollowsInAFieldIsSkipped() throws {
    let route: [UInt8] = [1, 9, 0x10, 0x4e, 0x21, 10, 0, 0, 1, 0xaa, 0xbb]
    #expect(
      try NodeAddress.make(by: identity, body: body(route)).routes == [
        NodeRoute(interface: 1, nic: try ip("10.0.0.1"), port: 20_001)
      ])
  }

  @Test func laterNATNumbersReadAsUnknown() throws {
    let route: [UInt8] = [1, 12, 0x01, 0x4e, 0x21, 10, 0, 0, 1, 0xff, 0, 0, 0, 9]
    #expect(
      try NodeAddress.make(by: identity, body: body(route)).routes.first?.nat
        == NATFacts(type: .unknown, delta: .unknown, value: 9))
  }

  // MARK: What is refused

  @Test func kindsOfRefusal() throws {
    let good = try make([NodeRoute(interface: 0, nic: try ip("10.0.0.2"), port: 1)]).description
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress("") }
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress("p2p") }
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress("p2pd") }
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress("p2pd-lua") }
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress("example.org:80") }
    #expect(throws: NodeAddressError.notAnAddress) { try NodeAddress(good.uppercased()) }
    #expect(throws: NodeAddressError.unknownVersion("2")) { try NodeAddress("p2pd2" + good.dropFirst(5)) }
    #expect(throws: NodeAddressError.unknownVersion("z")) { try NodeAddress("p2pdz") }
    #expect(throws: NodeAddressError.damaged) { try NodeAddress("p2pd1") }
    #expect(throws: NodeAddressError.damaged) { try NodeAddress(good + "A") }
    #expect(throws: NodeAddressError.damaged) { try NodeAddress(good + "=") }
    #expect(throws: NodeAddressError.damaged) { try NodeAddress("p2pd1ü" + good.dropFirst(6)) }
    #expect(throws: NodeAddressError.damaged) { try NodeAddress(good.prefix(40) + " " + good.dropFirst(40)) }
    #expect(throws: NodeAddressError.tooLong(1025)) { try NodeAddress("p2pd1" + String(repeating: "A", count: 1020)) }
    for error in [
      NodeAddressError.notAnAddress, .unknownVersion("2"), .tooLong(1025), .damaged, .badSignature, .malformed("x"),
    ] {
      #expect(error.netError.code == .badAddress)
      #expect(error.description.contains("address"))
    }
  }

  @Test func everyMistypedCharacterIsDamage() throws {
    let good = Array(try make([NodeRoute(interface: 0, nic: try ip("10.0.0.2"), port: 1)]).description.utf8)
    for index in 5..<good.count {
      var bad = good
      bad[index] = bad[index] == 0x41 ? 0x42 : 0x41
      #expect(throws: NodeAddressError.damaged) { try NodeAddress(String(decoding: bad, as: UTF8.self)) }
      #expect(throws: NodeAddressError.damaged) { try NodeAddress(String(decoding: good.prefix(index), as: UTF8.self)) }
    }
  }

  @Test func anotherKeyCannotSign() throws {
    let other = Identity.ephemeral()
    let bytes = other.key.bytes + [0, 0, 0, 1]
    let forged = bytes + (try identity.sign(Array("p2pd address 1\0".utf8) + bytes))
    #expect(throws: NodeAddressError.badSignature) { try NodeAddress("p2pd1" + Base64URL.encode(forged.checksummed)) }
    // A signature of the same key on something else is none on an address.
    let unmarked = try other.sign(bytes)
    #expect(throws: NodeAddressError.badSignature) {
      try NodeAddress("p2pd1" + Base64URL.encode((bytes + unmarked).checksummed))
    }
  }

  @Test(
    arguments: [
      ([1, 0], "a route is cut short"), ([1, 3, 0, 1, 1], "a route is cut short"),
      ([1, 6, 0, 1, 1, 10, 0, 0], "a route is cut short"),
      ([1, 7, 8, 1, 1, 10, 0, 0, 1], "a route is cut short"), ([1, 7, 0, 0, 0, 10, 0, 0, 1], "a route's port is 0"),
      ([1, 7, 0, 1, 1, 0, 0, 0, 0], "a route leads to 0.0.0.0"),
      ([1, 7, 0, 1, 1, 224, 0, 0, 1], "a route leads to 224.0.0.1"),
      ([1, 7, 0, 1, 1, 255, 255, 255, 255], "a route leads to 255.255.255.255"),
      ([1, 7, 4, 1, 1, 10, 0, 0, 1], "a route is cut short"),
      ([1, 12, 4, 1, 1, 10, 0, 0, 1, 0, 1, 8, 8, 8], "a route is cut short"),
      ([1, 13, 4, 1, 1, 10, 0, 0, 1, 0, 1, 127, 0, 0, 1], "a route's outside address is 127.0.0.1"),
      ([1, 8, 1, 1, 1, 10, 0, 0, 1, 0x11], "a route is cut short"),
      ([1, 255, 0], "a field is longer than what is left"),
      ([1], "a field is longer than what is left"), ([2, 3, 0, 1, 1], "a signal server"),
      ([2, 4, 0, 0, 0, 0x61], "a signal server"),
      ([2, 4, 0, 1, 1, 0x0a], "a signal server"), ([2, 5, 0, 1, 1, 0xc3, 0xbc], "a signal server"),
    ] as [([UInt8], String)])
  func malformed(_ fields: [UInt8], _ what: String) throws {
    #expect {
      try NodeAddress.make(by: identity, body: body(fields))
    } throws: { error in
      // A cut route may be told by its own length or by the rest's.
      [.malformed(what), .malformed("a field is longer than what is left")].contains(error as? NodeAddressError)
    }
  }

  @Test func mappedAddressesAreRefused() throws {
    let mapped: [UInt8] = Array(repeating: 0, count: 10) + [255, 255, 127, 0, 0, 1]
    #expect(throws: NodeAddressError.self) {
      try NodeAddress.make(by: identity, body: body([1, 19, 8, 1, 1] + mapped))
    }
  }

  @Test func tooManyFieldsAreRefused() throws {
    let route: [UInt8] = [1, 7, 0x00, 0x4e, 0x21, 10, 0, 0, 1]
    #expect(throws: NodeAddressError.malformed("more than 16 routes")) {
      try NodeAddress.make(by: identity, body: body(Array(repeating: route, count: 17).flatMap { $0 }))
    }
    #expect(throws: NodeAddressError.malformed("more than 8 signal servers")) {
      try NodeAddress.make(by: identity, body: body(Array(repeating: [2, 4, 0, 1, 1, 0x61], count: 9).flatMap { $0 }))
    }
  }

  // MARK: In words

  @Test func itExplainsItself() throws {
    let address = try make([
      NodeRoute(
        interface: 0, nic: try ip("192.168.1.20"), port: 20_001,
        external: .at(Endpoint(ip: try ip("203.0.113.7"), port: 9)),
        nat: NATFacts(type: .symmetric, delta: .independent, value: 2)),
      NodeRoute(interface: 0, nic: try ip("fe80::1"), port: 20_001),
      NodeRoute(interface: 1, nic: .loopback(.v4), port: 20_001),
      NodeRoute(interface: 2, nic: try ip("198.51.100.1"), port: 20_001, external: .none),
    ])
    let text = address.explanation(now: 1_760_000_000 + 7200).map { "\($0.what): \($0.value)" }
    #expect(text.contains("node id: \(identity.id)"))
    #expect(text.contains("made: 2025-10-09 08:53:20 UTC, 2 h ago"))
    #expect(
      text.contains(
        "route: interface 0, IPv4: 192.168.1.20:20001 (private network); seen from outside: 203.0.113.7:9; NAT: "
          + "symmetric, outside port goes up by 2 each time"))
    #expect(text.contains("route: interface 0, IPv6: [fe80::1]:20001 (same link only)"))
    #expect(text.contains("route: interface 1, IPv4: 127.0.0.1:20001 (this machine only)"))
    #expect(text.contains("route: interface 2, IPv4: 198.51.100.1:20001 (public); seen from outside: no way out"))
    #expect(text.contains("signalling: none: only direct connections are possible"))
    #expect(address.explanation(now: 0).contains { $0.value.hasSuffix("in the future by this machine's clock") })
  }

  @Test(
    arguments: [
      (0, "1970-01-01 00:00:00 UTC"), (951_782_400, "2000-02-29 00:00:00 UTC"),
      (1_709_251_199, "2024-02-29 23:59:59 UTC"),
      (4_294_967_295, "2106-02-07 06:28:15 UTC"),
    ] as [(UInt32, String)])
  func dates(_ seconds: UInt32, _ text: String) { #expect(NodeAddress.utc(seconds) == text) }

  @Test func nodeKeys() throws {
    #expect(identity.id.utf8.count == NodeKey.idLength)
    #expect(NodeKey(identity.id) == identity.key)
    #expect(NodeKey(identity.id.uppercased()) == identity.key)
    #expect(NodeKey(identity.id + "a") == nil)
    #expect(NodeKey(identity.id.dropLast() + "b") == nil, "bits that no byte holds")
    #expect(NodeKey(bytes: [1, 2, 3]) == nil)
  }
}
