import P2PDNet

/// The bytes of a record: what is signed, and what is stored.
///
///     label    u8 count, UTF-8        sequence  u64
///     tld      u8 count, ASCII        expires   u64
///     key      32 bytes               value     u16 count, UTF-8
///     signature 64 bytes
///
/// Signed is `p2pd name 1` with a zero byte, then everything before the signature. Numbers are in network order. One
/// record has one form: names that are not in their kept form and bytes after the end are refused.
extension NameRecord {
  public var signedBytes: [UInt8] { Self.signedBytes(name, key, sequence, expires, value) }

  public var bytes: [UInt8] { Self.body(name, key, sequence, expires, value) + signature }

  /// nil for what is no record. The signature is not checked, see ``isValid``.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count <= Self.longestForm else { return nil }
    var reader = ByteReader(Array(bytes))
    guard let label = Self.text(&reader, reader.byte().map(Int.init)),
      let tld = Self.text(&reader, reader.byte().map(Int.init)),
      let key = reader.bytes(Self.keyLength), let sequence = reader.uint64(), let expires = reader.uint64(),
      let value = Self.text(&reader, reader.uint16().map(Int.init)),
      let signature = reader.bytes(Self.signatureLength), reader.isAtEnd,
      let name = try? PeerName(label: label, tld: tld), name.isWritten(label, tld),
      let record = try? NameRecord(
        name: name, key: Array(key), sequence: sequence, expires: expires, value: value, signature: Array(signature))
    else { return nil }
    self = record
  }

  static func signedBytes(
    _ name: PeerName, _ key: [UInt8], _ sequence: UInt64, _ expires: UInt64, _ value: String
  ) -> [UInt8] {
    context + body(name, key, sequence, expires, value)
  }

  private static func body(
    _ name: PeerName, _ key: [UInt8], _ sequence: UInt64, _ expires: UInt64, _ value: String
  ) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(Self.longestForm)
    for text in [name.label, name.tld] {
      out.append(UInt8(truncatingIfNeeded: text.utf8.count))
      out.append(contentsOf: text.utf8)
    }
    out.append(contentsOf: key)
    out.append(uint64: sequence)
    out.append(uint64: expires)
    out.append(uint16: UInt16(truncatingIfNeeded: value.utf8.count))
    out.append(contentsOf: value.utf8)
    return out
  }

  private static func text(_ reader: inout ByteReader, _ count: Int?) -> String? {
    count.flatMap { reader.bytes($0) }.flatMap { String(validating: $0, as: UTF8.self) }
  }

  /// So that no signature of a record is one of anything else.
  private static let context = Array("p2pd name 1\0".utf8)
  static let longestForm =
    1 + PeerName.longestLabel + 1 + LabelRules.longestTLD + keyLength + 8 + 8 + 2 + longestValue + signatureLength
}

extension PeerName {
  /// Whether the texts are byte for byte the name's kept form: String's own equality is blind to that.
  func isWritten(_ label: String, _ tld: String) -> Bool {
    self.label.utf8.elementsEqual(label.utf8) && self.tld.utf8.elementsEqual(tld.utf8)
  }
}
