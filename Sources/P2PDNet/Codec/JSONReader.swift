/// Reads JSON (RFC 8259) that others wrote. Never traps, whatever the bytes are: each read is checked, nesting and
/// size are bounded.
package struct JSONReader {
  /// What is wrong, and at which byte.
  package struct Problem: Error, Equatable, CustomStringConvertible {
    package let what: String
    package let offset: Int
    package var description: String { "\(what) at byte \(offset)" }
  }

  private let bytes: [UInt8]
  private var index = 0

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// One value and nothing after it but white space.
  package static func read(_ bytes: [UInt8]) throws(Problem) -> JSONText {
    var reader = JSONReader(bytes)
    let value = try reader.value(depth: 0)
    reader.skipSpace()
    guard reader.peek == nil else { throw reader.problem("something after the value") }
    return value
  }

  private var peek: UInt8? { index < bytes.count ? bytes[index] : nil }

  private func problem(_ what: String) -> Problem { Problem(what: what, offset: index) }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d { index += 1 }
  }

  private mutating func value(depth: Int) throws(Problem) -> JSONText {
    guard depth <= Self.deepest else { throw problem("more than \(Self.deepest) levels") }
    skipSpace()
    switch peek {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case nil: throw problem("unexpected end")
    default: return try number()
    }
  }

  private mutating func word(_ text: StaticString, _ value: JSONText) throws(Problem) -> JSONText {
    for offset in 0..<text.utf8CodeUnitCount {
      guard peek == text.utf8Start[offset] else { throw problem("unexpected character") }
      index += 1
    }
    return value
  }

  private mutating func array(depth: Int) throws(Problem) -> JSONText {
    index += 1
    var items: [JSONText] = []
    skipSpace()
    if take("]") { return .array([]) }
    while true {
      items.append(try value(depth: depth + 1))
      skipSpace()
      if take("]") { return .array(items) }
      guard take(",") else { throw problem("',' or ']' expected") }
    }
  }

  private mutating func object(depth: Int) throws(Problem) -> JSONText {
    index += 1
    var members: [(String, JSONText)] = []
    skipSpace()
    if take("}") { return .object([]) }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw problem("a key expected") }
      let key = try string()
      skipSpace()
      guard take(":") else { throw problem("':' expected") }
      members.append((key, try value(depth: depth + 1)))
      skipSpace()
      if take("}") { return .object(members) }
      guard take(",") else { throw problem("',' or '}' expected") }
    }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard let byte = peek, UInt32(byte) == character.value else { return false }
    index += 1
    return true
  }

  // MARK: Numbers

  private mutating func digits() -> Int {
    let start = index
    while let byte = peek, (0x30...0x39).contains(byte) { index += 1 }
    return index - start
  }

  /// §6: no leading zeros, no plus, digits on both sides of the point.
  private mutating func number() throws(Problem) -> JSONText {
    let start = index
    _ = take("-")
    let first = peek
    let whole = digits()
    guard whole > 0 else { throw problem("unexpected character") }
    guard first != UInt8(ascii: "0") || whole == 1 else { throw problem("a number with a leading zero") }
    var isWhole = true
    if take(".") {
      isWhole = false
      guard digits() > 0 else { throw problem("a digit expected") }
    }
    if take("e") || take("E") {
      isWhole = false
      if !take("+") { _ = take("-") }
      guard digits() > 0 else { throw problem("a digit expected") }
    }
    guard index - start <= Self.longestNumber else { throw problem("a number of too many digits") }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if isWhole, let value = Int(text) { return .int(value) }
    guard let value = Double(text), value.isFinite else { throw problem("a number too large") }
    return .number(value)
  }

  // MARK: Strings

  private mutating func string() throws(Problem) -> String {
    index += 1
    var out: [UInt8] = []
    while let byte = peek {
      index += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: out, as: UTF8.self) else { throw problem("bytes that are no UTF-8") }
        return text
      case UInt8(ascii: "\\"): out.append(contentsOf: String(try escaped()).utf8)
      case 0..<0x20: throw problem("a control character in a string")
      default: out.append(byte)
      }
    }
    throw problem("unexpected end")
  }

  private mutating func escaped() throws(Problem) -> Unicode.Scalar {
    guard let byte = peek else { throw problem("unexpected end") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let unit = try hex()
      if let scalar = Unicode.Scalar(unit) { return scalar }
      // §7: beyond U+FFFF two units, high before low.
      guard unit < 0xdc00, take("\\"), take("u") else { throw problem("half a surrogate pair") }
      let low = try hex()
      guard (0xdc00...0xdfff).contains(low),
        let scalar = Unicode.Scalar(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
      else { throw problem("half a surrogate pair") }
      return scalar
    default: throw problem("an unknown escape")
    }
  }

  private mutating func hex() throws(Problem) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
        throw problem("four hexadecimal digits expected")
      }
      value = value << 4 | UInt32(digit)
      index += 1
    }
    return value
  }

  /// Deeper than anything the program writes.
  private static let deepest = 32
  private static let longestNumber = 64
}

/// Reading what was read.
extension JSONText {
  /// The member of an object; of several with one name the last.
  package subscript(key: String) -> JSONText? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.0 == key }?.1
  }

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var items: [JSONText] { if case .array(let items) = self { items } else { [] } }
  package var members: [(String, JSONText)] { if case .object(let members) = self { members } else { [] } }

  /// A whole number.
  package var int: Int? {
    switch self {
    case .int(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }

  package var number: Double? {
    switch self {
    case .int(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}
