import Dispatch
import NIOCore
import Synchronization

/// Lines on their way to standard error, written one after the other by a thread of their own: a pipe that nobody reads, or
/// a terminal that was stopped, holds up that thread and nothing else. Safe from any thread.
///
/// Bounded: over the limit the oldest lines go, since what happened last explains more, and a line in their place says how
/// many. `p2pd-lua logs` has the last ones all the same.
final class LogQueue: Sendable {
  /// That of this process.
  static let shared = LogQueue { Console.shared.note($0) }

  private struct State {
    var lines: CircularBuffer<String> = []
    var bytes = 0
    var lost = 0
    var lostLine: (@Sendable (Int) -> String)?
    var isWriting = false
    var waiters: [DispatchSemaphore] = []
  }

  private let state = Mutex(State())
  private let limit: Int
  private let write: @Sendable (String) -> Void
  private let queue = DispatchQueue(label: "p2pd.log")

  /// - Parameters:
  ///   - limit: bytes that may wait.
  ///   - write: may block.
  init(limit: Int = 1 << 20, write: @escaping @Sendable (String) -> Void) {
    self.limit = limit
    self.write = write
  }

  /// Takes a line, with its end, and comes back at once.
  /// - Parameter lost: makes the line that stands for so many lost ones.
  func add(_ line: String, lost: (@Sendable (Int) -> String)? = nil) {
    let begins = state.withLock { state in
      state.lines.append(line)
      state.bytes += line.utf8.count
      if let lost { state.lostLine = lost }
      while state.bytes > limit, state.lines.count > 1, let oldest = state.lines.popFirst() {
        state.bytes -= oldest.utf8.count
        state.lost += 1
      }
      defer { state.isWriting = true }
      return !state.isWriting
    }
    if begins { queue.async { self.drain() } }
  }

  /// Waits until everything is written, but no longer than the deadline: whoever ends does not wait for a reader.
  /// - Returns: whether everything is.
  @discardableResult
  func flush(within time: DispatchTimeInterval) -> Bool {
    let done = DispatchSemaphore(value: 0)
    let waits = state.withLock { state in
      if state.isWriting { state.waiters.append(done) }
      return state.isWriting
    }
    return !waits || done.wait(timeout: .now() + time) == .success
  }

  private func drain() {
    while let text = next() { write(text) }
  }

  /// Several lines in one go; nil at the end.
  private func next() -> String? {
    let (text, waiters) = state.withLock { state -> (String?, [DispatchSemaphore]) in
      guard !state.lines.isEmpty else {
        state.isWriting = false
        defer { state.waiters = [] }
        return (nil, state.waiters)
      }
      var text = ""
      if state.lost > 0 {
        text = state.lostLine?(state.lost) ?? "(\(state.lost) lines lost)\n"
        state.lost = 0
      }
      while let line = state.lines.first, text.isEmpty || text.utf8.count + line.utf8.count <= Self.longestWrite {
        state.lines.removeFirst()
        state.bytes -= line.utf8.count
        text += line
      }
      return (text, [])
    }
    for waiter in waiters { waiter.signal() }
    return text
  }

  /// What a pipe mostly takes at once.
  private static let longestWrite = 16 << 10
}
