import Crypto
import P2PDNet

/// What both sides of an authenticated exchange share (RFC 8489 §9.1.1, §9.2.2).
///
/// User names, realms and passwords are taken as they are: with letters outside ASCII they must be in the form of RFC
/// 8265 (OpaqueString) already.
public struct STUNKey: Hashable, Sendable {
  let bytes: [UInt8]

  /// A password that both got by signalling.
  public static func shortTerm(password: String) -> STUNKey { STUNKey(bytes: Array(password.utf8)) }

  /// A user's password at a realm: the hash of `user:realm:password`.
  public static func longTerm(
    username: String, realm: String, password: String, algorithm: STUNPasswordAlgorithm = .md5
  ) -> STUNKey? {
    let text = Array("\(username):\(realm):\(password)".utf8)
    switch algorithm.number {
    case STUNPasswordAlgorithm.md5.number: return STUNKey(bytes: Array(Insecure.MD5.hash(data: text)))
    case STUNPasswordAlgorithm.sha256.number: return STUNKey(bytes: Array(SHA256.hash(data: text)))
    default: return nil
    }
  }

  /// What stands for a user name that eavesdroppers shall not read (RFC 8489 §14.4).
  public static func userHash(username: String, realm: String) -> [UInt8] {
    Array(SHA256.hash(data: Array("\(username):\(realm)".utf8)))
  }

  func sha1(_ message: ArraySlice<UInt8>) -> [UInt8] {
    Array(HMAC<Insecure.SHA1>.authenticationCode(for: Array(message), using: SymmetricKey(data: bytes)))
  }

  func sha256(_ message: ArraySlice<UInt8>) -> [UInt8] {
    Array(HMAC<SHA256>.authenticationCode(for: Array(message), using: SymmetricKey(data: bytes)))
  }
}

/// How an exchange is signed: with which key, and with which of the two hashes.
public struct STUNSignature: Hashable, Sendable {
  public let key: STUNKey
  /// MESSAGE-INTEGRITY-SHA256 in the place of MESSAGE-INTEGRITY, both ways.
  public let sha256: Bool

  public init(key: STUNKey, sha256: Bool = false) {
    self.key = key
    self.sha256 = sha256
  }
}

extension STUNMessage {
  /// Whether a message read from the network was signed like this. One signed with the weaker hash only is not, where the
  /// stronger was agreed on.
  public func isAuthentic(_ signature: STUNSignature) -> Bool {
    if signature.sha256, source?.integritySHA256 == nil { return false }
    return isAuthentic(signature.key)
  }

  func encoded(signature: STUNSignature?) throws(STUNError) -> [UInt8] {
    try encoded(key: signature?.key, sha256: signature?.sha256 ?? false)
  }

  /// Whether a message read from the network was signed with the key. False where it is not signed at all.
  public func isAuthentic(_ key: STUNKey) -> Bool {
    guard let source else { return false }
    if let offset = source.integritySHA256 {
      guard let code = check(at: offset, in: source.bytes, key.sha256) else { return false }
      return code
    }
    guard let offset = source.integrity else { return false }
    return check(at: offset, in: source.bytes, key.sha1) ?? false
  }

  private func check(at offset: Int, in bytes: [UInt8], _ hmac: (ArraySlice<UInt8>) -> [UInt8]) -> Bool? {
    guard offset >= Self.headerSize, offset + 4 <= bytes.count else { return nil }
    let size = Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3])
    guard offset + 4 + size <= bytes.count else { return nil }
    var head = Array(bytes[..<offset])
    head.set(uint16: UInt16(truncatingIfNeeded: offset + 4 + size - Self.headerSize), at: 2)
    let wanted = hmac(head[...])
    let found = bytes[offset + 4..<offset + 4 + size]
    // In constant time; a SHA-256 code may be cut short (RFC 8489 §14.6).
    var difference: UInt8 = 0
    for (a, b) in zip(wanted, found) { difference |= a ^ b }
    return difference == 0 && size <= wanted.count
  }
}

/// RFC 8489 §14.7: CRC-32 (ITU V.42) of all before it, XORed with "STUN".
enum STUNFingerprint {
  static func of(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var crc: UInt32 = 0xffff_ffff
    for (index, byte) in bytes.enumerated() {
      // The length counts the fingerprint as well, whether the caller has set it already or not.
      var byte = byte
      if index == 2 || index == 3 {
        let length = UInt16(truncatingIfNeeded: bytes.count - STUNMessage.headerSize + 8)
        byte = UInt8(truncatingIfNeeded: index == 2 ? length >> 8 : length)
      }
      crc = table[Int((crc ^ UInt32(byte)) & 0xff)] ^ crc >> 8
    }
    return ~crc ^ 0x5354_554e
  }

  private static let table: [UInt32] = (0..<256).map { number in
    (0..<8).reduce(UInt32(number)) { value, _ in value & 1 != 0 ? 0xedb8_8320 ^ value >> 1 : value >> 1 }
  }
}
