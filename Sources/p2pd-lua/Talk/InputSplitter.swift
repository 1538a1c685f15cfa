/// Cuts a piped input into what is sent: lines, each without its line end, or pieces of a fixed size.
struct InputSplitter: Sendable {
  enum Mode: Equatable, Sendable {
    /// One message a line.
    case lines
    /// Bytes as they come, at most that many at once.
    case pieces(Int)
  }

  /// A line longer than what a message may be.
  struct TooLong: Error, Equatable { let limit: Int }

  let mode: Mode
  let limit: Int
  private var rest: [UInt8] = []
  /// How far `rest` is known to hold no line end.
  private var scanned = 0

  /// - Parameter limit: most bytes of a line.
  init(mode: Mode, limit: Int) {
    self.mode = mode
    self.limit = limit
  }

  /// Takes bytes and gives what is complete.
  mutating func add(_ bytes: [UInt8]) throws -> [[UInt8]] {
    if case .pieces(let size) = mode {
      guard bytes.count > size else { return bytes.isEmpty ? [] : [bytes] }
      return stride(from: 0, to: bytes.count, by: size).map { Array(bytes[$0..<min($0 + size, bytes.count)]) }
    }
    rest += bytes
    var lines: [[UInt8]] = []
    var start = 0
    while let end = rest[max(scanned, start)...].firstIndex(of: UInt8(ascii: "\n")) {
      lines.append(Array(rest[start..<end]))
      start = end + 1
      scanned = start
    }
    rest.removeFirst(start)
    scanned = rest.count
    if rest.count > limit || lines.contains(where: { $0.count > limit }) { throw TooLong(limit: limit) }
    return lines
  }

  /// At the end of the input: a last line that had no line end.
  mutating func finish() -> [UInt8]? {
    defer { rest = [] }
    return rest.isEmpty ? nil : rest
  }
}
