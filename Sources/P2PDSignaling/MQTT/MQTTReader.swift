/// Cuts a broker's stream into packets. Holds one unfinished packet of at most `limit` bytes: a longer PUBLISH, which any
/// stranger can cause, is passed over without keeping it; a longer packet of another kind ends the connection.
struct MQTTReader {
  /// The longest body read.
  let limit: Int
  /// Packets passed over because they were too long.
  private(set) var skipped = 0
  private var kept: [UInt8] = []
  /// Bytes of a packet that is being passed over.
  private var toSkip = 0

  init(limit: Int) { self.limit = limit }

  /// Takes the next bytes of the stream and hands out each packet that is whole, with its size.
  mutating func feed(_ bytes: UnsafeRawBufferPointer, _ take: (MQTTPacket, Int) -> Void) throws(MQTTError) {
    var fresh = bytes[...]
    if toSkip > 0 {
      let count = min(toSkip, fresh.count)
      toSkip -= count
      fresh = fresh.dropFirst(count)
    }
    kept.append(contentsOf: fresh)
    var rest = kept[...]
    defer { kept = rest.isEmpty ? [] : Array(rest) }
    while let (first, length, size) = try MQTTCodec.header(rest) {
      guard length <= limit else {
        guard first >> 4 == 3 else { throw .tooLong(length) }
        skipped &+= 1
        let there = min(size + length, rest.count)
        toSkip = size + length - there
        rest = rest.dropFirst(there)
        continue
      }
      guard rest.count - size >= length else { return }
      let body = rest.dropFirst(size).prefix(length)
      rest = rest.dropFirst(size + length)
      take(try MQTTCodec.decode(first, body), size + length)
    }
  }
}
