import Crypto
import Foundation
import P2PDNet
import Testing

@testable import P2PDSignaling

@Suite struct SealedMessageTests {
  private let alice: SignalIdentity
  private let bob: SignalIdentity
  private let eve: SignalIdentity

  init() throws {
    alice = try identity(1)
    bob = try identity(2)
    eve = try identity(3)
  }

  private func seal(_ payload: [UInt8], kind: SignalContent.Kind = .message) throws -> [UInt8] {
    try SealedMessage.seal(
      SignalContent(kind: kind, payload: payload), from: alice, to: bob.key, issued: 1000, lifetime: 30,
      gate: Gate(of: bob.key))
  }

  private func open(_ bytes: [UInt8], by receiver: SignalIdentity? = nil) -> (SignalKey, SignalContent)? {
    let receiver = receiver ?? bob
    guard let inner = Gate(of: receiver.key).open(bytes) else { return nil }
    return SealedMessage(inner: inner)?.open(by: receiver)
  }

  @Test(
    "the receiver learns who sent what, and every length is one of four", arguments: [0, 1, 200, 300, 800, 1900, 3876])
  func roundTrip(_ count: Int) throws {
    let payload = (0..<count).map { UInt8($0 & 0xff) }
    let secret = [UInt8](repeating: 9, count: 32)
    for kind in [SignalContent.Kind.message, .request(secret: secret), .answer(held: 70_000)] {
      let bytes = try seal(payload, kind: kind)
      #expect(Gate.sizes.contains(bytes.count))
      let (sender, content) = try #require(open(bytes))
      #expect(sender == alice.key && content == SignalContent(kind: kind, payload: payload))
    }
  }

  @Test("the longest payload fits and one byte more is refused")
  func longest() throws {
    let most = SealedMessage.longestPayload
    let secret = [UInt8](repeating: 9, count: 32)
    #expect(try seal([UInt8](repeating: 1, count: most), kind: .request(secret: secret)).count == 4096)
    let error = #expect(throws: NetError.self) { try seal([UInt8](repeating: 1, count: most + 1)) }
    #expect(error?.code == .tooLong)
  }

  @Test("nothing of it can be read on the way, and no two are alike")
  func opaque() throws {
    let marker = Array("where the treasure lies".utf8)
    let one = try seal(marker)
    let two = try seal(marker)
    #expect(!contains(one, marker) && !contains(one, alice.key.bytes) && !contains(one, bob.key.bytes))
    // No byte has a fixed value: 512 positions over 64 messages.
    let many = try (0..<64).map { _ in try seal(marker) }
    #expect((0..<512).allSatisfy { index in Set(many.map { $0[index] }).count > 30 })
    #expect(one != two && Set(many.map { $0.prefix(12) }).count == 64)
  }

  @Test("every flipped bit is found by the gate")
  func flippedOutside() throws {
    let bytes = try seal([1, 2, 3])
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 1 << UInt8(index % 8)
      #expect(open(changed) == nil, "byte \(index)")
    }
  }

  @Test("who knows the node's id can make the gate anew, and still change nothing within")
  func flippedInside() throws {
    let gate = Gate(of: bob.key)
    let inner = try #require(gate.open(try seal([1, 2, 3])))
    for index in inner.indices {
      var changed = inner
      changed[index] ^= 1 << UInt8(index % 8)
      #expect(open(try gate.close(changed)) == nil, "byte \(index)")
    }
  }

  @Test("every cut is found, outside and inside")
  func cut() throws {
    let gate = Gate(of: bob.key)
    let bytes = try seal([1, 2, 3])
    let inner = try #require(gate.open(bytes))
    for count in 0..<bytes.count { #expect(open(Array(bytes.prefix(count))) == nil) }
    for count in 0..<inner.count { #expect(open(try gate.close(Array(inner.prefix(count)))) == nil) }
    #expect(open(bytes + [0]) == nil)
    #expect(open(try gate.close(inner + [0])) == nil)
  }

  @Test("nobody but the receiver opens it")
  func wrongReceiver() throws {
    let bytes = try seal([1, 2, 3])
    #expect(open(bytes, by: eve) == nil)
    let inner = try #require(Gate(of: bob.key).open(bytes))
    #expect(SealedMessage(inner: inner)?.open(by: eve) == nil)
    #expect(SealedMessage(inner: inner)?.open(by: bob) != nil)
  }

  @Test("a message made by hand from the drawing opens, so the drawing is right")
  func byHand() throws {
    let body: [UInt8] = [0, 0, 2, 7, 8]
    let bytes = try craft(claiming: alice.key, signedBy: alice, for: bob.key, to: bob.key, body: body)
    let (sender, content) = try #require(open(bytes))
    #expect(sender == alice.key && content.payload == [7, 8])
  }

  @Test("a sender's name without its key is worth nothing; nor is a signature made for somebody else")
  func forged() throws {
    let body: [UInt8] = [0, 0, 2, 7, 8]
    #expect(open(try craft(claiming: alice.key, signedBy: eve, for: bob.key, to: bob.key, body: body)) == nil)
    // Bob passes Alice's words on to Eve as if they had been for her.
    #expect(
      open(try craft(claiming: alice.key, signedBy: alice, for: bob.key, to: eve.key, body: body), by: eve) == nil)
  }

  @Test(
    "content that breaks its own form is refused",
    arguments: [
      [], [0], [0, 0], [3, 0, 0], [0, 0, 9, 1], [1, 0, 0], [2, 0, 0, 0], [0, 0, 1, 7, 1],
      [0, 0, 0] + [UInt8](repeating: 0, count: 50) + [1],
    ] as [[UInt8]])
  func form(_ body: [UInt8]) throws {
    #expect(SignalContent(body[...]) == nil)
    #expect(open(try craft(claiming: alice.key, signedBy: alice, for: bob.key, to: bob.key, body: body)) == nil)
  }

  @Test("a topic tells neither the key nor that two brokers carry the same node's")
  func topics() {
    let one = Broker(host: "one.example", port: 1883, tls: false)
    let topic = Gate.topic(of: bob.key, at: one)
    #expect(topic.hasPrefix("p2pd1/") && topic.utf8.count == 38)
    #expect(topic == Gate.topic(of: bob.key, at: Broker(host: "ONE.example", port: 8883, tls: true)))
    #expect(topic != Gate.topic(of: bob.key, at: Broker(host: "two.example", port: 1883, tls: false)))
    #expect(topic != Gate.topic(of: alice.key, at: one))
    #expect(!topic.contains(bob.key.description))
  }

  /// A message as the drawings in Gate.swift, SealedMessage.swift and SignalContent.swift have it, by other code.
  private func craft(
    claiming sender: SignalKey, signedBy signer: SignalIdentity, for named: SignalKey, to receiver: SignalKey,
    body: [UInt8]
  ) throws -> [UInt8] {
    let context = Array("p2pd signal 1\0".utf8)
    let point = try #require(Montgomery.publicKey(of: receiver))
    var hpke = try HPKE.Sender(
      recipientKey: try Curve25519.KeyAgreement.PublicKey(rawRepresentation: point),
      ciphersuite: .Curve25519_SHA256_ChachaPoly, info: Data(context + receiver.bytes))
    let header: [UInt8] = [1, 30, 0, 0, 3, 0xe8]
    let encapsulated = Array(hpke.encapsulatedKey)
    let signature = try signer.sign(context + named.bytes + header + encapsulated + body)
    let sealed = try hpke.seal(sender.bytes + signature + body, authenticating: header)
    return try Gate(of: receiver).close(header + encapsulated + Array(sealed))
  }

  private func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
    bytes.indices.contains { bytes[$0...].starts(with: part) }
  }
}

func identity(_ n: UInt8) throws -> SignalIdentity {
  try #require(SignalIdentity(seed: [UInt8](repeating: n, count: 32)))
}
