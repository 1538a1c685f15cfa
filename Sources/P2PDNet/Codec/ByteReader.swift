/// Reads bytes that came from outside without ever trapping: whatever is not there is nil, and a read that fails takes
/// nothing. Numbers are in network order, big end first.
package struct ByteReader {
  private let all: ArraySlice<UInt8>
  private var position: Int

  package init(_ bytes: ArraySlice<UInt8>) {
    all = bytes
    position = bytes.startIndex
  }

  package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  package var isAtEnd: Bool { position == all.endIndex }
  /// Bytes not read yet.
  package var remaining: Int { all.endIndex - position }
  /// Bytes read so far.
  package var offset: Int { position - all.startIndex }

  package mutating func byte() -> UInt8? {
    guard position < all.endIndex else { return nil }
    defer { position += 1 }
    return all[position]
  }

  package mutating func uint16() -> UInt16? { number(2).map { UInt16(truncatingIfNeeded: $0) } }
  package mutating func uint24() -> UInt32? { number(3).map { UInt32(truncatingIfNeeded: $0) } }
  package mutating func uint32() -> UInt32? { number(4).map { UInt32(truncatingIfNeeded: $0) } }
  package mutating func uint64() -> UInt64? { number(8) }

  private mutating func number(_ size: Int) -> UInt64? { bytes(size)?.reduce(0) { $0 << 8 | UInt64($1) } }

  /// Exactly that many bytes.
  package mutating func bytes(_ count: Int) -> ArraySlice<UInt8>? {
    guard count >= 0, count <= remaining else { return nil }
    defer { position += count }
    return all[position..<position + count]
  }

  /// All that is left, which may be nothing.
  package mutating func rest() -> ArraySlice<UInt8> {
    defer { position = all.endIndex }
    return all[position...]
  }

  /// Passes over that many bytes: padding, fields of no meaning. False where there are fewer.
  package mutating func skip(_ count: Int) -> Bool { bytes(count) != nil }
}

/// Writing what ``ByteReader`` reads.
extension [UInt8] {
  package mutating func append(uint16 value: UInt16) { append(value, size: 2) }
  /// The lower three bytes.
  package mutating func append(uint24 value: UInt32) { append(value, size: 3) }
  package mutating func append(uint32 value: UInt32) { append(value, size: 4) }
  package mutating func append(uint64 value: UInt64) { append(value, size: 8) }

  private mutating func append(_ value: some FixedWidthInteger, size: Int) {
    for index in (0..<size).reversed() { append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
  }

  /// Overwrites a number written before, a length say. Nothing happens where there is no room for it.
  package mutating func set(uint16 value: UInt16, at offset: Int) {
    guard offset >= 0, count - offset >= 2 else { return }
    self[offset] = UInt8(truncatingIfNeeded: value >> 8)
    self[offset + 1] = UInt8(truncatingIfNeeded: value)
  }
}
