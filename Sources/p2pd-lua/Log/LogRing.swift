import Synchronization

/// The last log lines of the process, for those who come later (`p2pd-lua logs`), and a way to see the next ones. Safe
/// from any thread. Bounded by lines and bytes; the oldest go first.
final class LogRing: Sendable {
  private struct State {
    var lines: [LogLine] = []
    var start = 0
    var bytes = 0
    var lastFollower = 0
    var followers: [Int: @Sendable (LogLine) -> Void] = [:]
    var lastError: LogLine?
  }

  private let state = Mutex(State())
  private let mostLines: Int
  private let mostBytes: Int

  init(mostLines: Int = 2000, mostBytes: Int = 2 << 20) {
    self.mostLines = max(1, mostLines)
    self.mostBytes = mostBytes
  }

  func add(_ line: LogLine) {
    let line = line.shortened(to: Self.longestMessage)
    let followers = state.withLock { state in
      state.lines.append(line)
      state.bytes += line.message.utf8.count
      while state.lines.count - state.start > mostLines || state.bytes > mostBytes, state.start + 1 < state.lines.count
      {
        state.bytes -= state.lines[state.start].message.utf8.count
        state.start += 1
      }
      if state.start > mostLines {
        state.lines.removeFirst(state.start)
        state.start = 0
      }
      if line.level >= .error { state.lastError = line }
      return Array(state.followers.values)
    }
    for follower in followers { follower(line) }
  }

  /// The newest error.
  var lastError: LogLine? { state.withLock { $0.lastError } }

  /// The newest lines, oldest first.
  func last(_ count: Int) -> [LogLine] {
    state.withLock { Array($0.lines[$0.start...].suffix(max(0, count))) }
  }

  /// The newest lines, and from then on each one that is logged, none missing, none twice, and in order.
  /// - Parameters:
  ///   - first: gets the lines there are, before this returns.
  ///   - see: called on whatever thread logs; it must not log.
  func follow(
    last count: Int, first: ([LogLine]) -> Void, _ see: @escaping @Sendable (LogLine) -> Void
  ) -> Int {
    state.withLock {
      first(Array($0.lines[$0.start...].suffix(max(0, count))))
      $0.lastFollower += 1
      $0.followers[$0.lastFollower] = see
      return $0.lastFollower
    }
  }

  func stopFollowing(_ number: Int) {
    _ = state.withLock { $0.followers.removeValue(forKey: number) }
  }

  private static let longestMessage = 16 << 10
}

extension LogLine {
  /// The same with a message of at most that many bytes.
  func shortened(to limit: Int) -> LogLine {
    guard message.utf8.count > limit else { return self }
    var line = self
    line.message = String(decoding: message.utf8.prefix(limit), as: UTF8.self) + " ... (cut)"
    return line
  }
}
