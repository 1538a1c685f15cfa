import Crypto
import FoundationEssentials
import P2PDNet

/// A message between two nodes: sealed to the receiver with HPKE (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
/// ChaCha20Poly1305, base mode) and signed by the sender inside, so that a broker sees neither. Whoever changes a bit,
/// passes it to another node, or plays it again later is found out. Opened in steps, the cheap ones first: ``Gate/open(_:)``,
/// ``init(inner:)``, then ``open(by:)``.
struct SealedMessage {
  /// Seconds since 1970 by the sender's clock.
  let issued: UInt32
  /// Seconds it is good for.
  let lifetime: UInt8
  /// Of all that the seal covers: equal digests are the same message.
  let digest: SeenFilter.Digest
  private let header: [UInt8]
  private let encapsulated: [UInt8]
  private let ciphertext: [UInt8]

  /// nil: cut short, of another version, or with a key that seals nothing.
  init?(inner: [UInt8]) {
    var reader = ByteReader(inner)
    guard reader.byte() == Self.version, let lifetime = reader.byte(), let issued = reader.uint32(),
      let encapsulated = reader.bytes(Self.encapsulatedLength), !Montgomery.isSmallOrder(encapsulated),
      let ciphertext = reader.bytes(reader.remaining), ciphertext.count >= Self.leastCiphertext
    else { return nil }
    self.issued = issued
    self.lifetime = lifetime
    self.encapsulated = Array(encapsulated)
    self.ciphertext = Array(ciphertext)
    header = Array(inner.prefix(Self.headerLength))
    var hash = ByteReader(Array(SHA256.hash(data: inner)))
    guard let high = hash.uint64(), let low = hash.uint64() else { return nil }
    digest = SeenFilter.Digest(high: high, low: low)
  }

  /// The public key work: unseals and checks the signature. nil: it was not sealed to this node, or not by who it says.
  func open(by receiver: SignalIdentity) -> (sender: SignalKey, content: SignalContent)? {
    guard
      var recipient = try? HPKE.Recipient(
        privateKey: receiver.agreement, ciphersuite: Self.suite, info: Data(Self.info(receiver.key)),
        encapsulatedKey: Data(encapsulated)),
      let plain = try? recipient.open(ciphertext, authenticating: header)
    else { return nil }
    var reader = ByteReader(Array(plain))
    guard let sender = reader.bytes(SignalKey.length).flatMap({ SignalKey(bytes: $0) }),
      let signature = reader.bytes(Self.signatureLength), let body = reader.bytes(reader.remaining),
      sender.isValid(signature: signature, of: Self.signed(receiver.key, header, encapsulated, body)),
      let content = SignalContent(body)
    else { return nil }
    return (sender, content)
  }

  /// The bytes for the broker.
  /// - Parameters:
  ///   - issued: seconds since 1970.
  ///   - lifetime: seconds, by the receiver's clock too: its clock may be off by a tolerance of its own.
  /// - Throws: ``NetError``: `too_long` over ``longestPayload``, `bad_address` for a key no message can be sealed to.
  static func seal(
    _ content: SignalContent, from sender: SignalIdentity, to receiver: SignalKey, issued: UInt32, lifetime: UInt8,
    gate: Gate
  ) throws(NetError) -> [UInt8] {
    guard content.payload.count <= longestPayload else {
      throw NetError(
        .tooLong, "send a signal", cause: "\(content.payload.count) bytes, at most \(longestPayload) are allowed")
    }
    let bare = overhead + content.bytes(paddedTo: 0).count
    let size = Gate.sizes.first { $0 >= bare } ?? Gate.longest
    return try seal(
      body: content.bytes(paddedTo: size - overhead), from: sender, to: receiver, issued: issued, lifetime: lifetime,
      gate: gate)
  }

  /// Around a body that may break its own form: tests make hostile messages with it.
  static func seal(
    body: [UInt8], from sender: SignalIdentity, to receiver: SignalKey, issued: UInt32, lifetime: UInt8, gate: Gate
  ) throws(NetError) -> [UInt8] {
    var header: [UInt8] = [version, lifetime]
    header.append(uint32: issued)
    do {
      guard let point = Montgomery.publicKey(of: receiver), !Montgomery.isSmallOrder(point) else {
        throw CryptoKitError.incorrectKeySize
      }
      let key = try Curve25519.KeyAgreement.PublicKey(rawRepresentation: point)
      var hpke = try HPKE.Sender(recipientKey: key, ciphersuite: suite, info: Data(info(receiver)))
      let encapsulated = Array(hpke.encapsulatedKey)
      let signature = try sender.sign(signed(receiver, header, encapsulated, body[...]))
      let ciphertext = try hpke.seal(sender.key.bytes + signature + body, authenticating: header)
      return try gate.close(header + encapsulated + Array(ciphertext))
    } catch {
      throw NetError(.badAddress, "send a signal to \(receiver)", cause: "nothing can be sealed to that key")
    }
  }

  private static func info(_ receiver: SignalKey) -> [UInt8] { context + receiver.bytes }

  private static func signed(
    _ receiver: SignalKey, _ header: [UInt8], _ encapsulated: [UInt8], _ body: ArraySlice<UInt8>
  ) -> [UInt8] { context + receiver.bytes + header + encapsulated + body }

  private static let suite = HPKE.Ciphersuite.Curve25519_SHA256_ChachaPoly
  /// Keeps these signatures and seals from passing for any other of the same keys.
  private static let context = Array("p2pd signal 1\0".utf8)
  private static let version: UInt8 = 1
  private static let headerLength = 6
  private static let encapsulatedLength = 32
  private static let signatureLength = 64
  private static let tagLength = 16
  private static let leastCiphertext = SignalKey.length + signatureLength + 3 + tagLength
  /// What surrounds the content's bytes.
  static let overhead =
    Gate.overhead + headerLength + encapsulatedLength + SignalKey.length + signatureLength + tagLength
  /// Bytes of one message, whatever its kind.
  static let longestPayload = Gate.longest - overhead - SignalContent.longestHead
}
