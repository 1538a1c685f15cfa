import Logging
import NIOCore
import P2PDNet
import Synchronization

/// What is logged during a test, kept for the case that it fails.
final class TestLog: Sendable {
  private struct State {
    var lines: [String] = []
    var left = 0
    var started = NIODeadline.uptimeNanoseconds(0)
  }
  private let state = Mutex(State())
  private let clock = Mutex<VirtualTime?>(nil)

  /// A new test: its lines tell the time since now.
  func start(_ now: NIODeadline) { state.withLock { $0 = State(started: now) } }

  func take() -> [String] {
    state.withLock { state in
      defer { (state.lines, state.left) = ([], 0) }
      return state.left == 0 ? state.lines : state.lines + ["(\(state.left) more lines)"]
    }
  }

  var lines: [String] { state.withLock { $0.lines } }

  func add(_ line: String) {
    let now = clock.withLock { $0?.now }
    state.withLock { state in
      guard state.lines.count < Self.most else { return state.left += 1 }
      let time = now.map { Int(($0 - state.started).nanoseconds / 1_000_000) } ?? 0
      let milliseconds = String(time % 1000)
      let padding = String(repeating: "0", count: max(0, 3 - milliseconds.count))
      state.lines.append("\(time / 1000).\(padding)\(milliseconds) \(line)")
    }
  }

  /// A logger whose lines carry the node's name.
  func logger(_ node: String, _ time: VirtualTime) -> Logger {
    clock.withLock { $0 = time }
    return Logger(label: node) { _ in Handler(log: self, node: node) }
  }

  private struct Handler: LogHandler {
    let log: TestLog
    let node: String
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let script = metadata["script"].map { "\($0): " } ?? ""
      log.add("\(event.level) \(node.isEmpty ? "" : node + " ")\(script)\(event.message)")
    }
  }

  /// Lines of one test that are kept.
  private static let most = 500
}
