import Crypto
import P2PDNet

/// What binds a name to a key and a value, signed by the holder of that key: a server can withhold it or show an older
/// one, but not make one up.
///
/// A record without a value is a tombstone: the owner gave the name up. A value of this type is well formed; whether the
/// signature holds is ``isValid``, and whether it may be used now is ``check(now:)``.
public struct NameRecord: Hashable, Sendable {
  public let name: PeerName
  /// The owner's Ed25519 public key, 32 bytes.
  public let key: [UInt8]
  /// Counts the owner's changes: of two records the higher is the newer. At most ``highestSequence``.
  public let sequence: UInt64
  /// Seconds since 1970 (UTC) up to which it may be used. At most ``highestSequence``.
  public let expires: UInt64
  /// The node's address, or "" for a name that was given up. At most ``longestValue`` bytes of UTF-8.
  public let value: String
  /// Ed25519, 64 bytes, over ``signedBytes``.
  public let signature: [UInt8]

  public var isDeleted: Bool { value.isEmpty }

  /// A record with a signature made elsewhere.
  /// - Throws: `bad_name`, `bad_record`, `too_large`.
  public init(
    name: PeerName, key: [UInt8], sequence: UInt64, expires: UInt64, value: String, signature: [UInt8]
  ) throws(NetError) {
    try Self.validate(name, key, sequence, expires, value)
    guard signature.count == Self.signatureLength else {
      throw Self.bad(name, "its signature has \(signature.count) bytes instead of \(Self.signatureLength)")
    }
    (self.name, self.key, self.sequence, self.expires) = (name, key, sequence, expires)
    (self.value, self.signature) = (value, signature)
  }

  /// Makes and signs one.
  /// - Parameter expires: seconds since 1970, at most ``longestLife`` ahead or servers refuse it.
  /// - Throws: `bad_name`, `bad_record`, `too_large`.
  public static func sign(
    name: PeerName, value: String, sequence: UInt64, expires: UInt64, as owner: NameOwner
  ) throws(NetError) -> NameRecord {
    try validate(name, owner.key, sequence, expires, value)
    let signature: [UInt8]
    do {
      signature = try owner.sign(signedBytes(name, owner.key, sequence, expires, value))
    } catch {
      throw NetError(error, "sign the record of \(name)")
    }
    return try NameRecord(
      name: name, key: owner.key, sequence: sequence, expires: expires, value: value, signature: signature)
  }

  /// Whether the holder of ``key`` signed it.
  public var isValid: Bool {
    guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: key) else { return false }
    return key.isValidSignature(signature, for: signedBytes)
  }

  /// Whether it may be used at this time.
  /// - Parameter now: seconds since 1970.
  public func isExpired(now: UInt64) -> Bool { expires <= now }

  /// What a server asks of a record before it keeps it: the signature holds, it has not expired, and it does not last
  /// longer than ``longestLife`` and ``clockTolerance`` for clocks that disagree.
  /// - Throws: `bad_record`, `expired`.
  public func check(now: UInt64) throws(NetError) {
    guard isValid else { throw Self.bad(name, "its signature is not by the key it names") }
    guard !isExpired(now: now) else {
      throw NetError(
        .expired, "take the record of \(name)", cause: "it expired \(now - expires) s ago",
        remedy: "Check the clocks of both hosts, and push the name again.")
    }
    guard expires - now <= Self.longestLife + Self.clockTolerance else {
      throw Self.bad(name, "it lasts longer than \(Self.longestLife / 86_400) days")
    }
  }

  /// Whether this record replaces the other, which has the same name and key. Where an owner signed two with one
  /// sequence number, every reader still picks the same: the later expiry, then the greater bytes.
  public func isNewer(than other: NameRecord) -> Bool {
    if sequence != other.sequence { return sequence > other.sequence }
    if expires != other.expires { return expires > other.expires }
    return other.bytes.lexicographicallyPrecedes(bytes)
  }

  private static func validate(
    _ name: PeerName, _ key: [UInt8], _ sequence: UInt64, _ expires: UInt64, _ value: String
  ) throws(NetError) {
    guard name.isRegistrable else {
      throw NetError(
        .badName, "make a record of \(name)", cause: "name servers keep names of one label and an ending",
        remedy: "Choose a name without the inner dot.")
    }
    guard key.count == keyLength else { throw bad(name, "its key has \(key.count) bytes instead of \(keyLength)") }
    guard sequence <= highestSequence, expires <= highestSequence else {
      throw bad(name, "its sequence or expiry is over \(highestSequence)")
    }
    guard value.utf8.count <= longestValue else {
      throw NetError(
        .tooLarge, "make a record of \(name)",
        cause: "its value has \(value.utf8.count) bytes, at most \(longestValue) are allowed",
        remedy: "Leave out interfaces or servers that nobody needs to reach the node by.")
    }
    let isPlain = value.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) }
    guard isPlain else { throw bad(name, "its value has control characters") }
  }

  static func bad(_ name: PeerName, _ why: String) -> NetError {
    NetError(.badRecord, "read the record of \(name)", cause: why)
  }

  static let keyLength = 32
  static let signatureLength = 64
  /// 2^53 - 1: whole numbers that every reader of JSON keeps (RFC 7493 §2.2).
  public static let highestSequence: UInt64 = (1 << 53) - 1
  /// Bytes of UTF-8 of a value: an address of a node with many interfaces has some 600.
  public static let longestValue = 1024
  /// Seconds: names expire after 7 days, as P2PD's.
  public static let longestLife: UInt64 = 7 * 86_400
  /// Seconds by which clocks may differ.
  public static let clockTolerance: UInt64 = 300
}

/// Who owns names: an Ed25519 key and the power to sign with it.
public struct NameOwner: Sendable {
  /// The public key, 32 bytes.
  public let key: [UInt8]
  let sign: @Sendable ([UInt8]) throws -> [UInt8]

  /// - Parameter sign: an Ed25519 signature (64 bytes) of the bytes by the secret half of `key`.
  public init(key: [UInt8], sign: @escaping @Sendable ([UInt8]) throws -> [UInt8]) {
    (self.key, self.sign) = (key, sign)
  }

  /// A fresh key of this process only.
  public static func ephemeral() -> NameOwner {
    let secret = Curve25519.Signing.PrivateKey()
    return NameOwner(key: Array(secret.publicKey.rawRepresentation)) { Array(try secret.signature(for: $0)) }
  }
}
