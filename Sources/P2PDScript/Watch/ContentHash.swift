import Crypto

/// What decides whether a file has changed: the SHA-256 of its bytes. Prints as 64 hexadecimal digits.
public struct ContentHash: Hashable, Sendable, CustomStringConvertible {
  /// 32 of them.
  public let bytes: [UInt8]

  public init(of content: [UInt8]) { bytes = Array(SHA256.hash(data: content)) }

  /// Of a file that is read in pieces.
  init(_ digest: SHA256.Digest) { bytes = Array(digest) }

  /// What a file has whose content is about to be written.
  static let empty = ContentHash(of: [])

  public var description: String {
    String(decoding: bytes.flatMap { [Self.digits[Int($0 >> 4)], Self.digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  private static let digits = Array("0123456789abcdef".utf8)
}
