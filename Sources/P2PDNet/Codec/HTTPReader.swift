/// The first lines of an HTTP answer (RFC 9112 §4, §5), which over UDP are all of SSDP's.
package struct HTTPHead: Hashable, Sendable {
  package var status: Int
  /// Whether the sender keeps the connection for another request (RFC 9112 §9.3; of HTTP 1.0 nothing is hoped).
  package var isPersistent: Bool { isVersion11 && self["connection"]?.lowercased().contains("close") != true }
  private let isVersion11: Bool
  private var fields: [(name: String, value: String)] = []

  /// The field's value; of several the first. Names are compared without regard to case.
  package subscript(_ name: String) -> String? {
    let name = name.lowercased()
    return fields.first { $0.name == name }?.value
  }

  /// Reads the lines in front of the empty one. nil for what is no answer of HTTP 1.
  /// - Parameter bytes: what follows an empty line is not looked at.
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count <= Self.longest else { return nil }
    // LF alone ends a line too (RFC 9112 §2.2).
    let lines = bytes.split(separator: 0x0a, maxSplits: Self.mostFields + 2, omittingEmptySubsequences: false)
      .map { String(decoding: $0.last == 0x0d ? $0.dropLast() : $0, as: UTF8.self) }
    let words = lines.first?.split(separator: " ", maxSplits: 2) ?? []
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), words[1].utf8.count == 3, let status = Int(words[1]),
      (100...599).contains(status)
    else { return nil }
    self.status = status
    isVersion11 = words[0] != "HTTP/1.0"
    for line in lines.dropFirst().prefix(Self.mostFields) {
      if line.isEmpty { break }
      guard let colon = line.firstIndex(of: ":"), line.first?.isWhitespace == false else { continue }
      fields.append((line[..<colon].lowercased(), line[line.index(after: colon)...].trimmed))
    }
  }

  package static func == (a: Self, b: Self) -> Bool {
    a.status == b.status && a.fields.elementsEqual(b.fields) { $0 == $1 }
  }

  package func hash(into hasher: inout Hasher) { hasher.combine(status) }

  package static let longest = 8 << 10
  private static let mostFields = 64
}

extension StringProtocol {
  /// Without blanks and tabs at both ends.
  package var trimmed: String {
    var rest = self[...]
    while let first = rest.first, first == " " || first == "\t" { rest = rest.dropFirst() }
    while let last = rest.last, last == " " || last == "\t" { rest = rest.dropLast() }
    return String(rest)
  }
}

/// A whole answer.
package struct HTTPAnswer: Hashable, Sendable {
  package var head: HTTPHead
  package var body: [UInt8]
}

/// Why an answer was not read to its end.
package enum HTTPError: Error, Hashable, Sendable, CustomStringConvertible {
  case notHTTP
  /// The head, a chunk's head, or the body is longer than it may be.
  case tooLong
  case badChunk
  case cutShort

  package var description: String {
    switch self {
    case .notHTTP: "something that is not HTTP"
    case .tooLong: "an answer that is too long"
    case .badChunk: "an answer in broken pieces"
    case .cutShort: "an answer that is cut short"
    }
  }
}

/// Reads one HTTP answer as its bytes arrive, in pieces of any size. It never holds more than its limit and a head.
package struct HTTPReader: Sendable {
  private enum State {
    case head, length(Int), untilEnd, chunkSize, chunk(Int), chunkEnd, trailer, done
  }

  private let limit: Int
  private var state = State.head
  private var line: [UInt8] = []
  private var head: HTTPHead?
  private var body: [UInt8] = []
  private var overhead = 0
  private var hasMore = false
  private var isDelimited = true

  /// Nothing came so far.
  package var isUntouched: Bool { head == nil && overhead == 0 }
  /// The answer is whole, its end was marked, nothing came behind it, and the sender waits for the next request.
  package var leavesOpen: Bool { isDelimited && !hasMore && answer?.head.isPersistent == true }

  /// - Parameter limit: bytes the body may have.
  package init(limit: Int) { self.limit = limit }

  /// Takes what came; the answer when it is whole. What comes after it is dropped.
  package mutating func take(_ bytes: UnsafeRawBufferPointer) throws(HTTPError) -> HTTPAnswer? {
    var rest = bytes[...]
    while let byte = rest.first {
      switch state {
      case .done:
        hasMore = true
        return answer
      case .length(let left):
        let piece = rest.prefix(left)
        body.append(contentsOf: piece)
        rest = rest.dropFirst(piece.count)
        state = left == piece.count ? .done : .length(left - piece.count)
      case .untilEnd:
        guard rest.count <= limit - body.count else { throw .tooLong }
        body.append(contentsOf: rest)
        rest = rest.suffix(0)
      case .chunk(let left):
        let piece = rest.prefix(left)
        body.append(contentsOf: piece)
        rest = rest.dropFirst(piece.count)
        state = left == piece.count ? .chunkEnd : .chunk(left - piece.count)
      default:
        rest = rest.dropFirst()
        try take(byte)
      }
    }
    return answer
  }

  /// The stream has ended.
  package mutating func end() throws(HTTPError) -> HTTPAnswer {
    if case .untilEnd = state { state = .done }
    guard let answer else { throw head == nil && line.isEmpty ? .notHTTP : .cutShort }
    return answer
  }

  private var answer: HTTPAnswer? {
    guard case .done = state, let head else { return nil }
    return HTTPAnswer(head: head, body: body)
  }

  /// A byte of a line.
  private mutating func take(_ byte: UInt8) throws(HTTPError) {
    overhead += 1
    guard overhead <= Self.mostOverhead, line.count < HTTPHead.longest else { throw .tooLong }
    line.append(byte)
    switch state {
    case .head:
      // Whatever it is, it is not HTTP: no need to wait for a line's end.
      guard line.count > 5 || "HTTP/".utf8.starts(with: line) else { throw .notHTTP }
      guard byte == 0x0a, line.suffix(2) == [0x0a, 0x0a] || line.suffix(3) == [0x0a, 0x0d, 0x0a] else { return }
      try begin()
    case .chunkSize where byte == 0x0a: try beginChunk()
    case .chunkEnd:
      guard byte == 0x0a || line == [0x0d] else { throw .badChunk }
      if byte == 0x0a { next(.chunkSize) }
    case .trailer where byte == 0x0a: next(line.count <= 2 ? .done : .trailer)
    default: break
    }
  }

  private mutating func next(_ state: State) {
    self.state = state
    line = []
  }

  private mutating func begin() throws(HTTPError) {
    guard let head = HTTPHead(line) else { throw .notHTTP }
    // "Go on" comes before the answer (RFC 9110 §15.2).
    if head.status < 200 { return next(.head) }
    self.head = head
    if head.status == 204 || head.status == 304 { return next(.done) }
    if head["transfer-encoding"]?.lowercased().hasSuffix("chunked") == true { return next(.chunkSize) }
    guard let text = head["content-length"] else {
      isDelimited = false
      return next(.untilEnd)
    }
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { throw .notHTTP }
    guard let length = Int(text), length <= limit else { throw .tooLong }
    next(length == 0 ? .done : .length(length))
  }

  private mutating func beginChunk() throws(HTTPError) {
    let digits = line.prefix { $0 != 0x3b && $0 != 0x0d && $0 != 0x0a && $0 != 0x20 }
    guard !digits.isEmpty, digits.count <= 8, let size = Int(String(decoding: digits, as: UTF8.self), radix: 16),
      size >= 0
    else { throw .badChunk }
    guard size <= limit - body.count else { throw .tooLong }
    next(size == 0 ? .trailer : .chunk(size))
  }

  /// Bytes of heads and chunks' heads: chunks of a byte each for 64 KiB are no way to answer.
  private static let mostOverhead = 64 << 10
}
