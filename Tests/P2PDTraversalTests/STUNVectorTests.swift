import P2PDNet
import Testing

@testable import P2PDTraversal

/// The messages of RFC 5769, and that of RFC 8489 appendix B.1.
@Suite("STUN test vectors")
struct STUNVectorTests {
  static let request = hex(
    """
    00010058 2112a442 b7e7a701bc34d686fa87dfae
    80220010 5354554e207465737420636c69656e74
    00240004 6e0001ff
    80290008 932ff9b151263b36
    00060009 6576746a3a68367659 202020
    00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
    80280004 e57a3bcf
    """)
  static let responseV4 = hex(
    """
    0101003c 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f72 20
    00200008 0001a147e112a643
    00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
    80280004 c07d4c96
    """)
  static let responseV6 = hex(
    """
    01010048 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f72 20
    00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9
    00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
    80280004 c8fb0b4c
    """)
  static let longTerm = hex(
    """
    00010060 2112a442 78ad3433c6ad72c029da412e
    00060012 e3839ee38388e383aae38383e382afe382b9 0000
    0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341
    0014000b 6578616d706c652e6f7267 00
    00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666
    """)
  static let userHash = hex(
    """
    00010090 2112a442 78ad3433c6ad72c029da412e
    001e0020 4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704
    00150029 6f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c39465354767936347341 000000
    0014000b 6578616d706c652e6f7267 00
    001d0004 00020000
    001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65
    """)

  private static let password = STUNKey.shortTerm(password: "VOkJxbRl1RmTxUk/WvJxBt")
  private static let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}"

  @Test("RFC 5769 2.1: a request with short-term credentials")
  func sampleRequest() throws {
    let message = try STUNMessage(decoding: Self.request)
    #expect(message.kind == .request && message.method == .binding)
    #expect(message.software == "STUN test client")
    #expect(message.attributes.contains(.username("evtj:h6vY")))
    #expect(message.attributes.contains(.other(0x0024, [0x6e, 0, 1, 0xff])), "PRIORITY is ICE's")
    #expect(message.unknownRequired == [0x0024])
    #expect(message.isAuthentic(Self.password))
    #expect(!message.isAuthentic(.shortTerm(password: "VOkJxbRl1RmTxUk/WvJxBT")))
  }

  @Test("RFC 5769 2.2 and 2.3: responses with an IPv4 and an IPv6 address")
  func sampleResponses() throws {
    let v4 = try STUNMessage(decoding: Self.responseV4)
    #expect(v4.kind == .success && v4.method == .binding)
    #expect(v4.mapped == ep("192.0.2.1:32853") && v4.software == "test vector")
    #expect(v4.isAuthentic(Self.password))
    let v6 = try STUNMessage(decoding: Self.responseV6)
    #expect(v6.mapped == ep("[2001:db8:1234:5678:11:2233:4455:6677]:32853"))
    #expect(v6.isAuthentic(Self.password))
    #expect(v4.transaction == v6.transaction && v4.transaction.hasMagicCookie)
  }

  @Test("RFC 5769 2.4: a request with long-term credentials, read and written")
  func sampleLongTerm() throws {
    let key = try #require(STUNKey.longTerm(username: Self.user, realm: "example.org", password: "TheMatrIX"))
    var message = try STUNMessage(decoding: Self.longTerm)
    #expect(message.attributes.first == .username(Self.user))
    #expect(message.realm == "example.org" && message.nonce == Array("f//499k954d6OL34oL9FSTvy64sA".utf8))
    #expect(message.isAuthentic(key))
    message.attributes.removeLast()
    #expect(try message.encoded(key: key) == Self.longTerm)
  }

  @Test("RFC 8489 B.1: USERHASH, PASSWORD-ALGORITHM and MESSAGE-INTEGRITY-SHA256, read and written")
  func sampleUserHash() throws {
    let key = try #require(
      STUNKey.longTerm(username: Self.user, realm: "example.org", password: "TheMatrIX", algorithm: .sha256))
    var message = try STUNMessage(decoding: Self.userHash)
    let hash = STUNKey.userHash(username: Self.user, realm: "example.org")
    #expect(message.attributes.first == .userHash(hash))
    #expect(message.attributes.contains(.passwordAlgorithm(.sha256)))
    #expect(message.isAuthentic(key))
    message.attributes.removeLast()
    #expect(try message.encoded(key: key, sha256: true) == Self.userHash)
  }

  @Test("the checks are computed over the message as the samples are", arguments: [request, responseV4, responseV6])
  func fingerprint(_ bytes: [UInt8]) throws {
    var damaged = bytes
    damaged[25] ^= 1
    #expect(throws: STUNError.fingerprint) { try STUNMessage(decoding: damaged) }
    // Without the fingerprint the integrity still finds the change.
    damaged.removeLast(8)
    damaged[3] -= 8
    #expect(!(try STUNMessage(decoding: damaged)).isAuthentic(Self.password))
  }
}
