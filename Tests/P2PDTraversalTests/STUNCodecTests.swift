import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("STUN messages")
struct STUNCodecTests {
  private static let v4 = ep("203.0.113.7:40000")
  private static let v6 = ep("[2001:db8::7]:40001")

  private static let every: [STUNAttribute] = [
    .mappedAddress(v4), .xorMappedAddress(v6), .xorPeerAddress(v4), .xorRelayedAddress(v6), .alternateServer(v4),
    .responseOrigin(v6), .otherAddress(v4), .sourceAddress(v4), .changedAddress(v4), .username("alice"),
    .userHash(Array(0..<32)), .realm("example.org"), .nonce([0xff, 0, 1]), .software("p2pd-lua"),
    .alternateDomain("example.net"), .passwordAlgorithm(.sha256),
    .passwordAlgorithms([.sha256, .md5, STUNPasswordAlgorithm(number: 9, parameters: [1, 2, 3])]),
    .errorCode(438, "Stale Nonce"), .unknownAttributes([0x7fff, 0x0024, 0x0025]), .changeRequest([.ip, .port]),
    .responsePort(4000), .padding(37), .channelNumber(0x4001), .lifetime(600), .data([1, 2, 3, 4, 5]),
    .requestedTransport(6), .evenPort(reserve: true), .evenPort(reserve: false),
    .reservationToken([1, 2, 3, 4, 5, 6, 7, 8]), .dontFragment, .requestedAddressFamily(.v6),
    .additionalAddressFamily(.v4), .addressErrorCode(.v6, 440, "Address Family not Supported"),
    .icmp(type: 3, code: 4, data: 1280), .connectionID(0xdead_beef), .other(0x7ffe, [1]), .other(0x9999, []),
  ]

  @Test("every attribute comes back as it was written", arguments: every)
  func roundTrip(_ attribute: STUNAttribute) throws {
    let message = STUNMessage(.indication, .data, attributes: [attribute])
    let bytes = try message.encoded(fingerprint: true)
    #expect(bytes.count % 4 == 0)
    let again = try STUNMessage(decoding: bytes)
    #expect(again.attributes.first == attribute)
    #expect(again.attributes.first?.type == attribute.type)
    #expect(again.kind == .indication && again.method == .data && again.transaction == message.transaction)
  }

  @Test("class and method are mixed as RFC 8489 §5 draws them")
  func types() throws {
    let cases: [(STUNMessage.Kind, STUNMethod, UInt16)] = [
      (.request, .binding, 0x0001), (.success, .binding, 0x0101), (.failure, .binding, 0x0111),
      (.indication, .binding, 0x0011), (.request, .allocate, 0x0003), (.failure, .allocate, 0x0113),
      (.indication, .connectionAttempt, 0x001c), (.request, .connectionBind, 0x000b),
      (.success, STUNMethod(rawValue: 0xfff), 0x3fef),
    ]
    for (kind, method, number) in cases {
      let bytes = try STUNMessage(kind, method).encoded()
      #expect(UInt16(bytes[0]) << 8 | UInt16(bytes[1]) == number)
      let again = try STUNMessage(decoding: bytes)
      #expect(again.kind == kind && again.method == method)
    }
  }

  @Test("a message cut anywhere, or with a changed length, is refused and does not trap")
  func cut() throws {
    let whole = try STUNMessage(.success, .binding, attributes: Self.every).encoded()
    for end in 0..<whole.count { #expect(throws: STUNError.self) { try STUNMessage(decoding: Array(whole[..<end])) } }
    #expect(throws: STUNError.notSTUN) { try STUNMessage(decoding: whole + [0, 0, 0, 0]) }
    #expect(throws: STUNError.notSTUN) { try STUNMessage(decoding: [0x80] + whole.dropFirst()) }
    // An attribute that says it is longer than what is left.
    var long = try STUNMessage(.success, .binding, attributes: [.software("abc")]).encoded()
    long[23] = 200
    #expect(throws: STUNError.truncated) { try STUNMessage(decoding: long) }
  }

  @Test("what must be understood must be well-formed; what may be ignored is")
  func malformed() throws {
    func message(_ type: UInt16, _ value: [UInt8]) throws -> STUNMessage {
      try STUNMessage(decoding: try STUNMessage(.success, .binding, attributes: [.other(type, value)]).encoded())
    }
    #expect(throws: STUNError.malformed(attribute: 0x0020)) { try message(0x0020, [0, 3, 0, 0, 1, 2, 3, 4]) }
    #expect(throws: STUNError.malformed(attribute: 0x0020)) { try message(0x0020, [0, 1, 0, 0, 1, 2, 3]) }
    #expect(throws: STUNError.malformed(attribute: 0x0008)) { try message(0x0008, [1, 2, 3]) }
    #expect(throws: STUNError.malformed(attribute: 0x0009)) { try message(0x0009, [0, 0, 4, 100]) }
    #expect(throws: STUNError.malformed(attribute: 0x0006)) { try message(0x0006, [0xff, 0xfe]) }
    #expect(try message(0x802c, [9]).attributes == [.other(0x802c, [9])])
    #expect(try message(0x8022, [0xff]).unknownRequired.isEmpty)
    #expect(try message(0x7001, [1]).unknownRequired == [0x7001])
    let many = STUNMessage(.request, .binding, attributes: Array(repeating: .dontFragment, count: 65))
    #expect(throws: STUNError.tooMany) { try STUNMessage(decoding: try many.encoded()) }
  }

  @Test("what stands behind the integrity is not there, and the fingerprint is the last")
  func afterIntegrity() throws {
    let key = STUNKey.shortTerm(password: "secret")
    let signed = try STUNMessage(.success, .binding, attributes: [.xorMappedAddress(Self.v4)]).encoded(key: key)
    // Somebody on the way adds an address of his own.
    var longer = try STUNMessage(decoding: signed)
    longer.attributes.append(.otherAddress(Self.v4))
    let read = try STUNMessage(decoding: try longer.encoded())
    #expect(read.other == nil && read.mapped == Self.v4 && read.isAuthentic(key))
    var behind = STUNMessage(.success, .binding)
    let sum = try STUNMessage(decoding: try behind.encoded(fingerprint: true)).attributes
    behind.attributes = sum + [.software("x")]
    #expect(throws: STUNError.self) { try STUNMessage(decoding: try behind.encoded()) }
    #expect(!(try STUNMessage(decoding: try STUNMessage(.success, .binding).encoded())).isAuthentic(key), "not signed")
  }

  @Test("SHA-256 integrity, alone and cut short, with both keys' kinds")
  func sha256() throws {
    let key = STUNKey.shortTerm(password: "secret")
    let bytes = try STUNMessage(.request, .allocate, attributes: [.requestedTransport(17)])
      .encoded(key: key, sha256: true, fingerprint: true)
    #expect(try STUNMessage(decoding: bytes).isAuthentic(key))
    #expect(!(try STUNMessage(decoding: bytes).isAuthentic(.shortTerm(password: "other"))))
    #expect(STUNKey.longTerm(username: "u", realm: "r", password: "p", algorithm: .init(number: 3)) == nil)
  }

  @Test("an answer of RFC 3489: no cookie in its id, plain addresses")
  func old() throws {
    let id = try #require(STUNTransactionID(hex("0102030405060708090a0b0c0d0e0f10")[...]))
    let answer = STUNMessage(
      .success, .binding, transaction: id,
      attributes: [
        .mappedAddress(Self.v4), .sourceAddress(ep("192.0.2.1:3478")), .changedAddress(ep("192.0.2.2:3479")),
      ])
    let read = try STUNMessage(decoding: try answer.encoded())
    #expect(!read.transaction.hasMagicCookie && read.transaction == id)
    #expect(read.mapped == Self.v4 && read.other == ep("192.0.2.2:3479"))
  }

  @Test("the first of several equal attributes counts")
  func duplicates() throws {
    let message = STUNMessage(
      .success, .binding, attributes: [.xorMappedAddress(Self.v4), .xorMappedAddress(Self.v6), .mappedAddress(Self.v6)])
    #expect(try STUNMessage(decoding: try message.encoded()).mapped == Self.v4)
  }

  @Test("how long a message of a stream is")
  func stream() throws {
    let bytes = try STUNMessage(.request, .binding, attributes: [.software("ab")]).encoded()
    #expect(try STUNMessage.length(of: []) == nil)
    #expect(try STUNMessage.length(of: bytes[..<3]) == nil)
    #expect(try STUNMessage.length(of: (bytes + [1, 2, 3])[...]) == bytes.count)
    #expect(throws: STUNError.notSTUN) { try STUNMessage.length(of: [0x40]) }
    #expect(throws: STUNError.notSTUN) { try STUNMessage.length(of: [0, 1, 0, 3]) }
  }

  @Test("too long to be said")
  func tooLong() {
    let message = STUNMessage(.indication, .data, attributes: [.data(Array(repeating: 0, count: 65_536))])
    #expect(throws: STUNError.tooLong) { try message.encoded() }
    let two = STUNMessage(.indication, .data, attributes: Array(repeating: .padding(40_000), count: 2))
    #expect(throws: STUNError.tooLong) { try two.encoded() }
  }

  @Test("servers as people write them")
  func servers() {
    #expect(STUNServer("stun.example.net")?.description == "stun.example.net:3478")
    #expect(STUNServer("stun:stun.example.net:19302")?.port == 19302)
    #expect(STUNServer("192.0.2.1:3479") == STUNServer(host: "192.0.2.1", port: 3479))
    #expect(STUNServer("[2001:db8::1]:3478")?.host == "2001:db8::1")
    #expect(STUNServer("2001:db8::1")?.description == "[2001:db8::1]:3478")
    #expect(STUNServer("[2001:db8::1]")?.host == "2001:db8::1")
    #expect(STUNServer("stuns:stun.example.net") == STUNServer(host: "stun.example.net", port: 5349, transport: .tls))
    #expect(STUNServer("stun:192.0.2.1?transport=tcp")?.transport == .tcp)
    for text in ["stuns:stun.example.net:443", "stun:[2001:db8::1]:3478?transport=tcp"] {
      #expect(STUNServer(text)?.description == text)
    }
    for text in ["", "stun:", ":3478", "host:0", "host:70000", "a b", "192.0.2.1:0", "user@host", "mqtt://host"] {
      #expect(STUNServer(text) == nil, "\(text)")
    }
  }
}
