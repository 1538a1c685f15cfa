/// Lua's words, as far as a check of names needs them: comments and strings are told apart from code, so that
/// `-- p2pd.foo` is no finding. Reads any bytes without failing: a file that is no Lua was refused by the compiler.
struct LuaToken: Equatable {
  enum Kind: Equatable { case name, string, number, symbol }
  let kind: Kind
  let text: String
  let line: Int
}

struct LuaLexer {
  private let bytes: [UInt8]
  private var at = 0
  private var line = 1

  static func tokens(_ source: [UInt8]) -> [LuaToken] {
    var lexer = LuaLexer(bytes: source)
    var tokens: [LuaToken] = []
    while let token = lexer.next() { tokens.append(token) }
    return tokens
  }

  private init(bytes: [UInt8]) {
    self.bytes = bytes
    if bytes.first == UInt8(ascii: "#") { skipLine() }
  }

  private mutating func next() -> LuaToken? {
    skipBlank()
    guard let first = peek() else { return nil }
    let start = line
    if Self.isNameStart(first) {
      return LuaToken(kind: .name, text: take { Self.isNameStart($0) || Self.isDigit($0) }, line: start)
    }
    if Self.isDigit(first) {
      return LuaToken(
        kind: .number, text: take { Self.isNameStart($0) || Self.isDigit($0) || $0 == UInt8(ascii: ".") }, line: start)
    }
    if first == UInt8(ascii: "\"") || first == UInt8(ascii: "'") {
      return LuaToken(kind: .string, text: quoted(first), line: start)
    }
    if first == UInt8(ascii: "["), let level = longBracket() {
      return LuaToken(kind: .string, text: long(level), line: start)
    }
    at += 1
    return LuaToken(kind: .symbol, text: String(UnicodeScalar(first)), line: start)
  }

  private func peek(_ ahead: Int = 0) -> UInt8? { at + ahead < bytes.count ? bytes[at + ahead] : nil }

  private mutating func advance() {
    if peek() == 0x0a { line += 1 }
    at += 1
  }

  private mutating func take(while wanted: (UInt8) -> Bool) -> String {
    let start = at
    while let byte = peek(), wanted(byte) { at += 1 }
    return String(decoding: bytes[start..<at], as: UTF8.self)
  }

  private mutating func skipLine() { while let byte = peek(), byte != 0x0a { at += 1 } }

  private mutating func skipBlank() {
    while let byte = peek() {
      if byte == 0x20 || (0x09...0x0d).contains(byte) {
        advance()
      } else if byte == UInt8(ascii: "-"), peek(1) == UInt8(ascii: "-") {
        at += 2
        if peek() == UInt8(ascii: "["), let level = longBracket() { _ = long(level) } else { skipLine() }
      } else {
        return
      }
    }
  }

  private mutating func quoted(_ quote: UInt8) -> String {
    at += 1
    let start = at
    while let byte = peek(), byte != quote, byte != 0x0a {
      if byte == UInt8(ascii: "\\") { at += 1 }
      if peek() != nil { advance() }
    }
    let text = String(decoding: bytes[start..<min(at, bytes.count)], as: UTF8.self)
    if peek() == quote { at += 1 }
    return text
  }

  /// The level of a long bracket that opens here (`[[` is 0), or nil.
  private func longBracket() -> Int? {
    var level = 0
    while peek(1 + level) == UInt8(ascii: "=") { level += 1 }
    return peek(1 + level) == UInt8(ascii: "[") ? level : nil
  }

  private mutating func long(_ level: Int) -> String {
    at += level + 2
    let start = at
    while peek() != nil {
      if peek() == UInt8(ascii: "]"), peek(level + 1) == UInt8(ascii: "]"),
        (0..<level).allSatisfy({ peek(1 + $0) == UInt8(ascii: "=") })
      {
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        at += level + 2
        return text
      }
      advance()
    }
    return String(decoding: bytes[min(start, bytes.count)...], as: UTF8.self)
  }

  private static func isNameStart(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
}
