/// Makes text from elsewhere fit to be shown: what a peer sends must not move the cursor, change the window's title or
/// answer a terminal query in the user's name.
enum Printable {
  /// The text with control characters as `\xNN`; line breaks too.
  static func line(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var out = ""
    for scalar in text.unicodeScalars { append(scalar, to: &out) }
    return out
  }

  /// A message for the terminal: UTF-8 where it is valid, bytes that are not as `\xNN`; line breaks (also the CR LF of
  /// network protocols) and tabs stay.
  static func message(_ bytes: some Collection<UInt8>) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { return mixed(Array(bytes)) }
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var out = ""
    var scalars = text.unicodeScalars.makeIterator()
    var next = scalars.next()
    while let scalar = next {
      next = scalars.next()
      if scalar == "\r", next == "\n" { continue }
      append(scalar, to: &out, keepingBreaks: true)
    }
    return out
  }

  private static func mixed(_ bytes: [UInt8]) -> String {
    var out = ""
    var index = 0
    while index < bytes.count {
      let length = sequenceLength(bytes[index])
      let end = min(index + length, bytes.count)
      if let text = String(validating: bytes[index..<end], as: UTF8.self), text.unicodeScalars.count == 1 {
        for scalar in text.unicodeScalars { append(scalar, to: &out, keepingBreaks: true) }
        index = end
      } else {
        out += escape(UInt32(bytes[index]))
        index += 1
      }
    }
    return out
  }

  /// How many bytes a UTF-8 sequence has that begins with `byte` (RFC 3629 §3); 1 where none can begin so.
  static func sequenceLength(_ byte: UInt8) -> Int {
    switch byte {
    case 0xc2...0xdf: 2
    case 0xe0...0xef: 3
    case 0xf0...0xf4: 4
    default: 1
    }
  }

  /// How many bytes at the end begin a UTF-8 sequence that is not complete yet.
  static func unfinished(_ bytes: [UInt8]) -> Int {
    for back in 1...3 where back <= bytes.count {
      let byte = bytes[bytes.count - back]
      if byte & 0xc0 == 0x80 { continue }
      return sequenceLength(byte) > back ? back : 0
    }
    return 0
  }

  /// C0, DEL and C1; and the marks that reorder a line (bidirectional overrides), with which a message could pose as
  /// another.
  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f...0x9f, 0x202a...0x202e, 0x2066...0x2069: true
    default: false
    }
  }

  private static func append(_ scalar: Unicode.Scalar, to out: inout String, keepingBreaks: Bool = false) {
    let stays = keepingBreaks && (scalar == "\n" || scalar == "\t")
    if isControl(scalar), !stays { out += escape(scalar.value) } else { out.unicodeScalars.append(scalar) }
  }

  private static func escape(_ value: UInt32) -> String {
    let hex = String(value, radix: 16)
    if value > 0xff { return "\\u{\(hex)}" }
    return "\\x" + (hex.count < 2 ? "0" + hex : hex)
  }
}
