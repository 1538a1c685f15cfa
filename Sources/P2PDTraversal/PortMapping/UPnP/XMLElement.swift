import P2PDNet

/// Why a document was not read.
public enum XMLError: Error, Hashable, Sendable, CustomStringConvertible {
  case malformed, tooDeep, tooLong
  /// A document type: nothing here needs entities, and their expansion is a known attack.
  case documentType

  public var description: String {
    switch self {
    case .malformed: "XML that cannot be read"
    case .tooDeep, .tooLong: "XML that is too large"
    case .documentType: "XML with a document type, which is not read"
    }
  }
}

/// An element of a small XML document: what UPnP's descriptions and answers need of XML and no more. Attributes are passed
/// over, prefixes of names are cut off, and of the references only the five of XML itself and characters by number are
/// known; the others stay as they are written, since routers write "AT&T" without thinking.
public struct XMLElement: Hashable, Sendable {
  public let name: String
  /// Its own text, without blanks at both ends.
  public internal(set) var text = ""
  public internal(set) var children: [XMLElement] = []

  /// The first child of that name.
  public func child(_ name: String) -> XMLElement? { children.first { $0.name == name } }

  /// The document's root.
  public static func parse(_ bytes: [UInt8]) throws(XMLError) -> XMLElement {
    guard bytes.count <= longest else { throw .tooLong }
    var parser = XMLParser(bytes)
    return try parser.document()
  }

  static let longest = 256 << 10
}

private struct XMLParser {
  private let bytes: [UInt8]
  private var position = 0
  private var open: [XMLElement] = []
  private var texts: [[UInt8]] = []
  private var count = 0

  init(_ bytes: [UInt8]) {
    // A byte order mark may stand before everything.
    self.bytes = bytes
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { position = 3 }
  }

  mutating func document() throws(XMLError) -> XMLElement {
    while position < bytes.count {
      guard bytes[position] == UInt8(ascii: "<") else {
        text()
        continue
      }
      if follows("<!--") {
        try skip(past: "-->")
      } else if follows("<![CDATA[") {
        try literal()
      } else if follows("<?") {
        try skip(past: "?>")
      } else if follows("<!") {
        throw .documentType
      } else if follows("</") {
        if let root = try endTag() { return root }
      } else if let root = try startTag() {
        return root
      }
    }
    throw .malformed
  }

  private func follows(_ text: StaticString) -> Bool {
    bytes.count - position >= text.utf8CodeUnitCount
      && text.withUTF8Buffer { bytes[position..<position + $0.count].elementsEqual($0) }
  }

  /// The place behind the next such text.
  private func end(of text: StaticString) throws(XMLError) -> Int {
    text.withUTF8Buffer { wanted in
      var at = position
      while bytes.count - at >= wanted.count {
        if bytes[at..<at + wanted.count].elementsEqual(wanted) { return at + wanted.count }
        at += 1
      }
      return -1
    }
  }

  private mutating func skip(past text: StaticString) throws(XMLError) {
    let end = try end(of: text)
    guard end >= 0 else { throw .malformed }
    position = end
  }

  private mutating func literal() throws(XMLError) {
    let start = position + 9
    try skip(past: "]]>")
    guard !open.isEmpty, start <= position - 3 else { throw .malformed }
    texts[texts.count - 1] += bytes[start..<position - 3]
  }

  private mutating func text() {
    let piece = bytes[position...].prefix { $0 != UInt8(ascii: "<") }
    position += piece.count
    if !texts.isEmpty { texts[texts.count - 1] += Self.resolved(piece) }
  }

  private mutating func name() throws(XMLError) -> String {
    let raw = bytes[position...].prefix { !Self.endsName.contains($0) }
    position += raw.count
    guard !raw.isEmpty, raw.count <= Self.longestName else { throw .malformed }
    let colon = raw.lastIndex(of: UInt8(ascii: ":"))
    return String(decoding: colon.map { raw[($0 + 1)...] } ?? raw, as: UTF8.self)
  }

  private mutating func startTag() throws(XMLError) -> XMLElement? {
    position += 1
    count += 1
    guard count <= Self.mostElements else { throw .tooLong }
    guard open.count < Self.deepest else { throw .tooDeep }
    open.append(XMLElement(name: try name()))
    texts.append([])
    // The attributes: a ">" in quotes does not end the tag.
    var quote: UInt8?
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if let mark = quote {
        if byte == mark { quote = nil }
      } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
        quote = byte
      } else if byte == UInt8(ascii: "<") {
        throw .malformed
      } else if byte == UInt8(ascii: ">") {
        return bytes[position - 2] == UInt8(ascii: "/") ? close() : nil
      }
    }
    throw .malformed
  }

  private mutating func endTag() throws(XMLError) -> XMLElement? {
    position += 2
    let name = try name()
    try skip(past: ">")
    guard open.last?.name == name else { throw .malformed }
    return close()
  }

  /// The element that is whole now joins its parent; the root is the answer.
  private mutating func close() -> XMLElement? {
    guard var element = open.popLast(), let raw = texts.popLast() else { return nil }
    element.text = String(decoding: raw, as: UTF8.self).trimmedLines
    guard !open.isEmpty else { return element }
    open[open.count - 1].children.append(element)
    return nil
  }

  /// With the references replaced.
  private static func resolved(_ piece: ArraySlice<UInt8>) -> [UInt8] {
    guard piece.contains(UInt8(ascii: "&")) else { return Array(piece) }
    var out: [UInt8] = []
    var rest = piece
    while let byte = rest.first {
      if byte == UInt8(ascii: "&"), let end = rest.prefix(longestReference).firstIndex(of: UInt8(ascii: ";")),
        let character = character(String(decoding: rest[(rest.startIndex + 1)..<end], as: UTF8.self))
      {
        out += Array(String(character).utf8)
        rest = rest[(end + 1)...]
      } else {
        out.append(byte)
        rest = rest.dropFirst()
      }
    }
    return out
  }

  private static func character(_ name: String) -> Character? {
    switch name {
    case "lt": return "<"
    case "gt": return ">"
    case "amp": return "&"
    case "quot": return "\""
    case "apos": return "'"
    default:
      guard name.hasPrefix("#") else { return nil }
      let digits = name.dropFirst()
      let number = digits.hasPrefix("x") ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits)
      return number.flatMap { Unicode.Scalar($0) }.map { Character($0) }
    }
  }

  private static let endsName = Set("/> \t\r\n=<\"'".utf8)
  private static let deepest = 24
  /// A gateway's description has a hundred or two.
  private static let mostElements = 2048
  private static let longestName = 128
  private static let longestReference = 12
}

extension String {
  /// Without blanks and line ends at both ends.
  fileprivate var trimmedLines: String {
    let scalars = unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.isBlank }), let last = scalars.lastIndex(where: { !$0.isBlank })
    else { return "" }
    return String(scalars[first...last])
  }
}

extension Unicode.Scalar {
  fileprivate var isBlank: Bool { self == " " || self == "\t" || self == "\r" || self == "\n" }
}
