import Crypto

/// The public half of a node's Ed25519 key (RFC 8032), as everything here names a node.
public struct SignalKey: Hashable, Sendable, CustomStringConvertible {
  /// The 32 bytes of the public key.
  public let bytes: [UInt8]

  /// nil unless there are 32 bytes.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.length else { return nil }
    self.bytes = Array(bytes)
  }

  /// Enough to tell nodes apart in a log line.
  public var description: String { bytes.prefix(5).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

  func isValid(signature: ArraySlice<UInt8>, of message: [UInt8]) -> Bool {
    guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes) else { return false }
    return key.isValidSignature(Array(signature), for: message)
  }

  static let length = 32
}

/// The secret half, for signing what this node sends and opening what it gets.
///
/// One key pair does both: messages are sealed to the X25519 form of the Ed25519 key (RFC 7748 §4.1), so that whoever
/// knows a node's id can send to it, and the address needs no second key that could be stale, missing or swapped. Ed25519
/// and an X25519-based KEM like HPKE's are jointly secure under one key: E. Thormarker, "On using the same key pair for
/// Ed25519 and an X25519 based KEM", IACR ePrint 2021/509.
public struct SignalIdentity: Sendable {
  public let key: SignalKey
  let agreement: Curve25519.KeyAgreement.PrivateKey
  private let signing: Curve25519.Signing.PrivateKey

  /// From the 32-byte seed of the node's Ed25519 key; nil for another length.
  public init?(seed: [UInt8]) {
    guard seed.count == 32, let signing = try? Curve25519.Signing.PrivateKey(rawRepresentation: seed),
      let key = SignalKey(bytes: signing.publicKey.rawRepresentation),
      // RFC 8032 §5.1.5: the secret scalar is the clamped first half of the seed's hash; X25519 clamps by itself.
      let agreement = try? Curve25519.KeyAgreement.PrivateKey(
        rawRepresentation: Array(SHA512.hash(data: seed).prefix(32)))
    else { return nil }
    self.key = key
    self.signing = signing
    self.agreement = agreement
  }

  func sign(_ message: [UInt8]) throws -> [UInt8] { Array(try signing.signature(for: message)) }
}
