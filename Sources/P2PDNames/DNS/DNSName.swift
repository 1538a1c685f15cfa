import P2PDNet

/// A domain name as it is on the wire: labels of 1 to 63 bytes, at most 255 bytes with their lengths and the root's zero
/// (RFC 1035 §2.3.4). Names are equal whatever the case of their ASCII letters (RFC 4343, RFC 6762 §16).
struct DNSName: Hashable, Sendable {
  /// Uncompressed, the zero that ends it included.
  let wire: [UInt8]
  /// The same in lower case. A label's length is below any letter, so that the whole can be folded at once.
  let folded: [UInt8]

  static let root = DNSName(wire: [0])

  /// - Returns: nil where a label is empty or too long, or all of them are.
  init?(labels: [[UInt8]]) {
    var wire: [UInt8] = []
    for label in labels {
      guard !label.isEmpty, label.count <= Self.longestLabel else { return nil }
      wire.append(UInt8(truncatingIfNeeded: label.count))
      wire += label
    }
    wire.append(0)
    guard wire.count <= Self.longest else { return nil }
    self.init(wire: wire)
  }

  /// A name without escapes, with or without a dot at the end: `_p2pd._udp.local`.
  init?(_ text: String) {
    if text == "." {
      self = .root
      return
    }
    let bytes = text.hasSuffix(".") ? Array(text.utf8.dropLast()) : Array(text.utf8)
    let labels = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    self.init(labels: labels.map { Array($0) })
  }

  /// One more label in front.
  init?(_ label: [UInt8], in parent: DNSName) {
    guard !label.isEmpty, label.count <= Self.longestLabel, label.count + 1 + parent.wire.count <= Self.longest else {
      return nil
    }
    self.init(wire: [UInt8(truncatingIfNeeded: label.count)] + label + parent.wire)
  }

  /// What a reader put together and measured.
  fileprivate init(wire: [UInt8]) {
    self.wire = wire
    folded = wire.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }
  }

  static func == (one: DNSName, other: DNSName) -> Bool { one.folded == other.folded }
  func hash(into hasher: inout Hasher) { hasher.combine(folded) }

  /// The labels without their lengths, as they were written.
  var labels: [ArraySlice<UInt8>] {
    var labels: [ArraySlice<UInt8>] = []
    var reader = ByteReader(wire)
    while let length = reader.byte(), length > 0, let label = reader.bytes(Int(length)) { labels.append(label) }
    return labels
  }

  /// The first label where the rest is `parent`; nil where it is not.
  func label(under parent: DNSName) -> ArraySlice<UInt8>? {
    guard let first = labels.first, folded.dropFirst(first.count + 1).elementsEqual(parent.folded) else { return nil }
    return first
  }

  /// Bytes on the wire.
  static let longest = 255
  static let longestLabel = 63
}

extension DNSName: CustomStringConvertible {
  /// Dots between the labels; dots, backslashes and what is no printable ASCII within them as in zone files
  /// (RFC 1035 §5.1), except for UTF-8.
  var description: String {
    let labels = labels
    guard !labels.isEmpty else { return "." }
    return labels.map { label in
      var text = ""
      for scalar in String(decoding: label, as: UTF8.self).unicodeScalars {
        switch scalar {
        case ".", "\\": text += "\\\(scalar)"
        case "\u{0}"..."\u{1f}", "\u{7f}":
          text += "\\" + String(String(1000 + scalar.value).dropFirst())
        default: text.unicodeScalars.append(scalar)
        }
      }
      return text
    }.joined(separator: ".")
  }
}

/// Reads a message: like ``ByteReader``, and names, which may go on at an earlier place of the message (RFC 1035 §4.1.4).
struct DNSReader {
  private let message: [UInt8]
  private let base: Int
  private(set) var bytes: ByteReader

  init(_ message: [UInt8]) {
    self.message = message
    base = 0
    bytes = ByteReader(message)
  }

  private init(_ message: [UInt8], _ part: ArraySlice<UInt8>) {
    self.message = message
    base = part.startIndex
    bytes = ByteReader(part)
  }

  var isAtEnd: Bool { bytes.isAtEnd }
  mutating func byte() -> UInt8? { bytes.byte() }
  mutating func uint16() -> UInt16? { bytes.uint16() }
  mutating func uint32() -> UInt32? { bytes.uint32() }
  mutating func rest() -> ArraySlice<UInt8> { bytes.rest() }
  mutating func take(_ count: Int) -> ArraySlice<UInt8>? { bytes.bytes(count) }

  /// A reader of the next bytes alone, which it passes over.
  mutating func part(_ count: Int) -> DNSReader? { bytes.bytes(count).map { DNSReader(message, $0) } }

  /// A name. Each jump leads to a place before the one that the name, or its part, began at, so none leads in a circle.
  mutating func name() -> DNSName? {
    var wire: [UInt8] = []
    var here = bytes
    var start = base + bytes.offset
    var jumps = 0
    while let length = here.byte() {
      switch length >> 6 {
      case 0:
        guard let label = here.bytes(Int(length)) else { return nil }
        wire.append(length)
        wire += label
        // Of an unfinished name a zero is still to come.
        guard wire.count + (length == 0 ? 0 : 1) <= DNSName.longest else { return nil }
        guard length == 0 else { continue }
        if jumps == 0 { bytes = here }
        return DNSName(wire: wire)
      case 3:
        guard let low = here.byte() else { return nil }
        let target = Int(length & 0x3f) << 8 | Int(low)
        guard target < start, target >= Self.header, jumps < Self.mostJumps else { return nil }
        if jumps == 0 { bytes = here }
        jumps += 1
        start = target
        here = ByteReader(message[target...])
      default: return nil
      }
    }
    return nil
  }

  /// No name is in a message's header.
  private static let header = 12
  /// Programs nest a jump for each label at most, and names have under ten. It keeps a message of nothing but jumps cheap.
  private static let mostJumps = 32
}

/// Writes a message. What a name has in common with an earlier one is written once.
struct DNSWriter {
  private(set) var bytes: [UInt8] = []
  private var known: [ArraySlice<UInt8>: UInt16] = [:]

  mutating func append(_ byte: UInt8) { bytes.append(byte) }
  mutating func append(_ more: some Sequence<UInt8>) { bytes += more }
  mutating func append(uint16 value: UInt16) { bytes.append(uint16: value) }
  mutating func append(uint32 value: UInt32) { bytes.append(uint32: value) }

  /// A field with its length in front.
  mutating func sized(_ body: (inout DNSWriter) -> Void) {
    let place = bytes.count
    bytes.append(uint16: 0)
    body(&self)
    bytes.set(uint16: UInt16(clamping: bytes.count - place - 2), at: place)
  }

  mutating func name(_ name: DNSName) {
    var offset = 0
    while offset < name.wire.count, name.wire[offset] != 0 {
      // The case of letters is the first one's from there on, which no reader minds.
      let rest = name.folded[offset...]
      if let place = known[rest] {
        bytes.append(uint16: 0xc000 | place)
        return
      }
      if bytes.count <= Self.farthest { known[rest] = UInt16(bytes.count) }
      let length = Int(name.wire[offset])
      bytes += name.wire[offset...(offset + length)]
      offset += length + 1
    }
    bytes.append(0)
  }

  /// A jump has 14 bits.
  private static let farthest = 0x3fff
}
