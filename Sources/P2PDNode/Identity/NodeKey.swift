import Crypto
import P2PDNet

/// The public half of a node's Ed25519 key (RFC 8032): what a node *is*, wherever it is.
public struct NodeKey: Hashable, Sendable, CustomStringConvertible {
  /// The 32 bytes of the public key.
  public let bytes: [UInt8]

  /// nil unless there are 32 bytes.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.length else { return nil }
    self.bytes = Array(bytes)
  }

  /// Reads what ``description`` writes, in either case.
  public init?(_ id: some StringProtocol) {
    guard id.utf8.count == Self.idLength, let bytes = Base32.decode(Array(id.utf8)) else { return nil }
    self.init(bytes: bytes)
  }

  /// The node's id: the key in lower-case base32 (RFC 4648 §6) without padding, 52 characters.
  public var description: String { Base32.encode(bytes) }

  /// Enough of the id to tell nodes apart in a log line.
  public var short: String { String(description.prefix(10)) }

  /// Whether the holder of this key signed these bytes.
  public func isValid(signature: some Collection<UInt8>, of message: [UInt8]) -> Bool {
    guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes) else { return false }
    return key.isValidSignature(Array(signature), for: message)
  }

  public static let length = 32
  public static let idLength = 52
}
