/// Reads network-order values from bytes that came from outside: nil where they end too soon.
struct ByteReader {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  /// Bytes not read yet.
  var left: Int { bytes.endIndex - position }
  /// Bytes read so far.
  var offset: Int { position - bytes.startIndex }

  mutating func byte() -> UInt8? { take(1)?.first }

  mutating func word16() -> UInt16? { take(2)?.reduce(0) { $0 << 8 | UInt16($1) } }

  mutating func word32() -> UInt32? { take(4)?.reduce(0) { $0 << 8 | UInt32($1) } }

  /// Exactly that many bytes.
  mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
    guard count >= 0, count <= left else { return nil }
    defer { position += count }
    return bytes[position..<position + count]
  }

  /// All that is left.
  mutating func rest() -> ArraySlice<UInt8> {
    defer { position = bytes.endIndex }
    return bytes[position...]
  }
}

/// Writes network-order values.
struct ByteWriter {
  private(set) var bytes: [UInt8] = []

  mutating func byte(_ value: UInt8) { bytes.append(value) }

  mutating func word16(_ value: UInt16) {
    bytes.append(UInt8(truncatingIfNeeded: value >> 8))
    bytes.append(UInt8(truncatingIfNeeded: value))
  }

  mutating func word32(_ value: UInt32) {
    word16(UInt16(truncatingIfNeeded: value >> 16))
    word16(UInt16(truncatingIfNeeded: value))
  }

  mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  /// Overwrites a 16-bit value written before.
  mutating func patch16(_ value: UInt16, at offset: Int) {
    guard offset >= 0, offset + 1 < bytes.count else { return }
    bytes[offset] = UInt8(truncatingIfNeeded: value >> 8)
    bytes[offset + 1] = UInt8(truncatingIfNeeded: value)
  }
}
