import Crypto

/// What a file held: the SHA-256 of its bytes. Content decides whether something changed, not a time stamp.
public struct ContentHash: Hashable, Sendable, CustomStringConvertible {
  private let bytes: [UInt8]

  public init(of content: [UInt8]) { bytes = Array(SHA256.hash(data: content)) }

  /// 64 hex digits.
  public var description: String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}
