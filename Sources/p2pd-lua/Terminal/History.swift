import Glibc

/// The lines typed before, newest last, as many as ``limit`` allows.
struct History: Sendable {
  private(set) var lines: [String]
  let limit: Int

  init(lines: [String] = [], limit: Int = Self.usualLimit) {
    self.limit = max(0, limit)
    self.lines = Array(lines.suffix(self.limit))
  }

  /// Takes the line, unless it is empty, the same as the last one, or begins with a space (a shell's way to say that it
  /// is not to be kept).
  mutating func add(_ line: String) {
    guard let first = line.first, first != " ", lines.last != line, limit > 0 else { return }
    lines.append(line)
    if lines.count > limit { lines.removeFirst(lines.count - limit) }
  }

  /// The line that many back from the newest, which is 0.
  func entry(_ back: Int) -> String? {
    back >= 0 && back < lines.count ? lines[lines.count - 1 - back] : nil
  }

  /// Reads the file; an absent or unreadable one is an empty history.
  init(file: String, limit: Int = Self.usualLimit) {
    let bytes = Files.read(file, atMost: Self.largestFile) ?? []
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    self.init(lines: lines, limit: limit)
  }

  /// Writes the file anew, for its owner's eyes only. False where that failed: a history is not worth an error.
  @discardableResult
  func save(to file: String) -> Bool {
    let text = lines.map { $0.replacing("\n", with: " ") + "\n" }.joined()
    return Files.replace(file, with: Array(text.utf8), mode: 0o600)
  }

  static let usualLimit = 1000
  private static let largestFile = 1 << 20
}
