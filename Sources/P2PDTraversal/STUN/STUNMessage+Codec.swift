import P2PDNet

/// The bytes a message was read from, and where in them the check values stand.
struct STUNSource: Sendable {
  let bytes: [UInt8]
  var integrity: Int?
  var integritySHA256: Int?
}

extension STUNMessage {
  /// Could these bytes be STUN? Tells it from other traffic on the same socket (RFC 8489 §5, RFC 7983).
  public static func looksLikeSTUN(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count >= headerSize && bytes[0] & 0xc0 == 0 && bytes[3] & 3 == 0
      && bytes.count >= headerSize + (Int(bytes[2]) << 8 | Int(bytes[3]))
  }

  /// The length of the message that a stream begins with, header included; nil until that is known.
  /// - Throws: `.notSTUN` where the stream is something else.
  public static func length(of stream: ArraySlice<UInt8>) throws(STUNError) -> Int? {
    var reader = ByteReader(stream)
    guard let first = stream.first else { return nil }
    guard first & 0xc0 == 0 else { throw .notSTUN }
    guard reader.uint16() != nil, let length = reader.uint16() else { return nil }
    guard length % 4 == 0 else { throw .notSTUN }
    return headerSize + Int(length)
  }

  /// Reads one whole message. A FINGERPRINT is checked here; integrity is, by whoever has the key, with
  /// ``isAuthentic(_:)``.
  public init(decoding bytes: [UInt8]) throws(STUNError) {
    var reader = ByteReader(bytes)
    guard let type = reader.uint16(), type & 0xc000 == 0, let length = reader.uint16(), length % 4 == 0,
      let id = reader.bytes(16).flatMap({ STUNTransactionID($0) }), reader.remaining == Int(length)
    else { throw .notSTUN }
    let (kind, method) = Self.split(type)
    self.init(kind, method, transaction: id)
    var source = STUNSource(bytes: bytes)
    var isEnded = false
    while !reader.isAtEnd {
      let offset = reader.offset
      guard let type = reader.uint16(), let size = reader.uint16(), let value = reader.bytes(Int(size)) else {
        throw .truncated
      }
      // RFC 3489 knows no padding, but its values are all multiples of four.
      guard reader.skip((4 - Int(size) % 4) % 4) else { throw .truncated }
      // FINGERPRINT is the last one (RFC 8489 §14.7).
      guard !isEnded else { throw .malformed(attribute: type) }
      let isSigned = source.integrity != nil || source.integritySHA256 != nil
      // What follows the integrity is not covered by it, so it is not there, but for these two.
      if isSigned, type != 0x8028, type != 0x001c || source.integritySHA256 != nil { continue }
      let attribute = try STUNAttribute.read(type, value, id)
      switch attribute {
      case .messageIntegrity: source.integrity = offset
      case .messageIntegritySHA256: source.integritySHA256 = offset
      case .fingerprint(let sum):
        guard sum == STUNFingerprint.of(bytes[..<offset]) else { throw .fingerprint }
        isEnded = true
      default: break
      }
      guard attributes.count < Self.mostAttributes else { throw .tooMany }
      attributes.append(attribute)
    }
    self.source = source
  }

  /// The message's bytes.
  /// - Parameters:
  ///   - key: adds a MESSAGE-INTEGRITY made with it.
  ///   - sha256: makes that a MESSAGE-INTEGRITY-SHA256.
  ///   - fingerprint: adds a FINGERPRINT.
  public func encoded(
    key: STUNKey? = nil, sha256: Bool = false, fingerprint: Bool = false
  ) throws(STUNError) -> [UInt8] {
    var out: [UInt8] = []
    out.append(uint16: Self.join(kind, method))
    out.append(uint16: 0)
    transaction.write(to: &out)
    for attribute in attributes { try Self.write(attribute, transaction, &out) }
    if let key {
      let size = sha256 ? 32 : 20
      // The length stands as if the message ended behind the check value (RFC 8489 §14.5).
      try Self.setLength(&out, more: 4 + size)
      let code = sha256 ? key.sha256(out[...]) : key.sha1(out[...])
      try Self.write(sha256 ? .messageIntegritySHA256(code) : .messageIntegrity(code), transaction, &out)
    }
    if fingerprint {
      try Self.setLength(&out, more: 8)
      try Self.write(.fingerprint(STUNFingerprint.of(out[...])), transaction, &out)
    }
    try Self.setLength(&out, more: 0)
    return out
  }

  private static func write(
    _ attribute: STUNAttribute, _ id: STUNTransactionID, _ out: inout [UInt8]
  ) throws(STUNError) {
    let value = attribute.value(id)
    guard let size = UInt16(exactly: value.count) else { throw .tooLong }
    out.append(uint16: attribute.type)
    out.append(uint16: size)
    out += value
    out += repeatElement(0, count: (4 - value.count % 4) % 4)
  }

  private static func setLength(_ out: inout [UInt8], more: Int) throws(STUNError) {
    guard let length = UInt16(exactly: out.count - headerSize + more) else { throw .tooLong }
    out.set(uint16: length, at: 2)
  }

  /// RFC 8489 §5: the class stands in bits 4 and 8 of the type, among the method's.
  private static func split(_ type: UInt16) -> (Kind, STUNMethod) {
    let kind = Kind(rawValue: type >> 4 & 1 | type >> 7 & 2) ?? .request
    return (kind, STUNMethod(rawValue: type & 0xf | type >> 1 & 0x70 | type >> 2 & 0xf80))
  }

  private static func join(_ kind: Kind, _ method: STUNMethod) -> UInt16 {
    let number = method.rawValue
    return number & 0xf | (number & 0x70) << 1 | (number & 0xf80) << 2 | (kind.rawValue & 1) << 4
      | (kind.rawValue & 2) << 7
  }

  public static let headerSize = 20
  /// TURN's longest requests have a dozen.
  static let mostAttributes = 64
}
