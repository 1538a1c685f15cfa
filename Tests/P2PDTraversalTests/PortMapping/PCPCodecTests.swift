import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("PCP's bytes")
struct PCPCodecTests {
  private static let nonce = PCPNonce((1...12).map { UInt8($0) })

  @Test("a MAP request is the sixty bytes of RFC 6887 §11.1")
  func request() throws {
    let nonce = try #require(Self.nonce)
    let request = PCPRequest(
      client: ep("192.168.1.10:0").ip, lifetime: 7200,
      operation: .map(PCPMap(nonce: nonce, transport: 6, internalPort: 4000, external: ep("0.0.0.0:4000"))))
    let bytes = PCPCodec.encode(request)
    #expect(
      bytes
        == hex(
          """
          02 01 0000 00001c20 00000000 00000000 0000ffff c0a8010a
          010203040506070809 0a0b0c 06 000000 0fa0 0fa0 00000000 00000000 0000ffff 00000000
          """))
    #expect(PCPCodec.request(bytes) == request)
  }

  @Test("options of every kind go out and come back; a length beyond the message does not")
  func options() throws {
    let nonce = try #require(Self.nonce)
    var request = PCPRequest(
      client: ep("[2001:db8::5]:0").ip, lifetime: 120,
      operation: .map(PCPMap(nonce: nonce, transport: 17, internalPort: 1, external: ep("[::]:0"))))
    request.options = [
      .thirdParty(ep("192.0.2.7:0").ip), .preferFailure,
      .filter(prefix: 128, port: 80, address: ep("[2001:db8::9]:0").ip),
      .other(130, [1, 2, 3, 4, 5]),
    ]
    let bytes = PCPCodec.encode(request)
    #expect(bytes.count % 4 == 0 && PCPCodec.request(bytes) == request)
    var cut = bytes
    cut[cut.count - 9] = 200
    #expect(PCPCodec.request(cut) == nil)
    #expect(PCPCodec.request(Array(bytes.dropLast(4))) == nil)
  }

  @Test("answers: granted, refused in every way, of another version, and what is none")
  func responses() throws {
    let nonce = try #require(Self.nonce)
    let map = PCPMap(nonce: nonce, transport: 6, internalPort: 4000, external: ep("203.0.113.5:4001"))
    for code in UInt8(0)...20 {
      let response = PCPResponse(PCPResult(code), lifetime: 60, epoch: 99, operation: .map(map))
      #expect(response.result.code == code && !response.result.words.isEmpty)
      #expect(PCPCodec.response(PCPCodec.encode(response)) == response)
    }
    let announce = PCPResponse(.success, lifetime: 0, epoch: 7, operation: .announce)
    #expect(PCPCodec.response(PCPCodec.encode(announce)) == announce)
    // Version 1 says so in its own version (§9); version 0 is NAT-PMP.
    var other = PCPCodec.encode(PCPResponse(.unsupportedVersion, lifetime: 60, epoch: 1, operation: .other(1)))
    other[0] = 1
    #expect(PCPCodec.response(other)?.result == .unsupportedVersion)
    other[0] = 0
    #expect(PCPCodec.response(other) == nil)
    let good = PCPCodec.encode(PCPResponse(.success, lifetime: 60, epoch: 1, operation: .map(map)))
    #expect(PCPCodec.response(Array(good.prefix(28))) == nil, "a success without its content")
    #expect(PCPCodec.response(Array(good.dropLast())) == nil, "no multiple of four")
    #expect(PCPCodec.response(good + [UInt8](repeating: 0, count: 1100)) == nil, "too long")
    #expect(PCPCodec.response(PCPCodec.encode(PCPRequest(client: map.external.ip, operation: .announce))) == nil)
    // A refusal of what could not be read has nothing but its head.
    let bare = PCPResponse(.malformedRequest, lifetime: 60, epoch: 1, operation: .other(1))
    #expect(PCPCodec.response(PCPCodec.encode(bare)) == bare)
  }
}

@Suite("NAT-PMP's bytes")
struct NATPMPCodecTests {
  @Test("requests of RFC 6886 §3.2 and §3.3")
  func requests() {
    #expect(NATPMPRequest.address.bytes == hex("0000"))
    let map = NATPMPRequest.map(.tcp, internalPort: 4000, externalPort: 4001, lifetime: 7200)
    #expect(map.bytes == hex("00 02 0000 0fa0 0fa1 00001c20"))
    for request in [map, .address, .map(.udp, internalPort: 1, externalPort: 0, lifetime: 0)] {
      #expect(NATPMPRequest(request.bytes) == request)
    }
    #expect(NATPMPRequest(hex("0200")) == nil && NATPMPRequest(hex("0002 0000 0fa0")) == nil)
  }

  @Test("answers, refusals, and what is none")
  func responses() {
    let address = NATPMPResponse(.success, epoch: 77, content: .address(ep("203.0.113.5:0").ip))
    #expect(address.bytes == hex("00 80 0000 0000004d cb007105"))
    let map = NATPMPResponse(
      .success, epoch: 78, content: .map(.tcp, internalPort: 4000, externalPort: 4001, lifetime: 7200))
    for response in [address, map, NATPMPResponse(.notAuthorized, epoch: 5, content: .refused(2))] {
      #expect(NATPMPResponse(decoding: response.bytes) == response)
    }
    // A refusal may end after its code.
    #expect(NATPMPResponse(decoding: hex("00 81 0001"))?.epoch == nil)
    #expect(NATPMPResponse(decoding: hex("00 80 0000 0000004d")) == nil, "a success without its content")
    #expect(NATPMPResponse(decoding: hex("02 80 0000 0000004d cb007105")) == nil, "another version")
    #expect(NATPMPResponse(decoding: hex("00 00")) == nil, "a request")
    for code in UInt16(0)...9 { #expect(NATPMPResult(code).code == code) }
  }
}
