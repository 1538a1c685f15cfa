import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// One loading of one script: its environment and `require` cache, its handlers, and everything it registered. What
/// belongs to a generation ends with it. Confined to the host's event loop.
final class Generation {
  /// Where it stands in its life.
  enum Phase { case loading, live, retired }

  let id: Int64
  /// The protocol's name, or an exec script's file name.
  let name: String
  let path: String
  let host: ScriptHost
  var phase = Phase.loading
  var logger: Logger

  /// The script's globals; its `require` cache hangs on it.
  var environment: LuaRef?
  /// The prelude's function that runs a handler file.
  var runner: LuaRef?
  let handlers: HandlerSet
  var errorCallback: LuaRef?
  var startCallback: LuaRef?
  var stopCallback: LuaRef?

  var messages: UInt64 = 0
  var errors: UInt64 = 0
  private var reporter: ErrorReporter

  // What it registered.
  private(set) var timers: [ObjectIdentifier: TimerObject] = [:]
  private(set) var tasks: [ObjectIdentifier: TaskHandle] = [:]
  private(set) var pipes: [ObjectIdentifier: PipeFace] = [:]
  private(set) var nodes: [ObjectIdentifier: NodeFace] = [:]
  /// What the top level registered before the script is live.
  private var waitingStarts: [() -> Void] = []

  init(id: Int64, name: String, path: String, host: ScriptHost) {
    self.id = id
    self.name = name
    self.path = path
    self.host = host
    handlers = HandlerSet(host)
    logger = host.logger
    logger[metadataKey: "script"] = "\(name)"
    reporter = ErrorReporter(perSecond: host.options.errorsPerSecond)
  }

  /// The node that hosts the script, in `run`.
  var hostingNode: NodeFace?

  func add(_ timer: TimerObject) { timers[ObjectIdentifier(timer)] = timer }
  func remove(_ timer: TimerObject) { timers[ObjectIdentifier(timer)] = nil }
  func add(_ task: TaskHandle) { tasks[ObjectIdentifier(task)] = task }
  func remove(_ task: TaskHandle) { tasks[ObjectIdentifier(task)] = nil }
  func add(_ pipe: PipeFace) { pipes[ObjectIdentifier(pipe)] = pipe }
  func remove(_ pipe: PipeFace) { pipes[ObjectIdentifier(pipe)] = nil }
  func add(_ node: NodeFace) { nodes[ObjectIdentifier(node)] = node }
  func remove(_ node: NodeFace) { nodes[ObjectIdentifier(node)] = nil }

  /// Runs `action` once the generation is live: at once if it is.
  func whenLive(_ action: @escaping () -> Void) {
    switch phase {
    case .loading: waitingStarts.append(action)
    case .live: action()
    case .retired: break
    }
  }

  /// From here on timers run and tasks start.
  func activate() {
    guard phase == .loading else { return }
    phase = .live
    let starts = waitingStarts
    waitingStarts = []
    for start in starts { start() }
  }

  /// Takes no new pipes: the script is about to end.
  var isEnding = false
  var openPipes: [PipeFace] { Array(pipes.values) }
  var pipeCount: Int { pipes.count }
  var openNodes: [NodeFace] { Array(nodes.values) }

  func cancelTimers() { for timer in Array(timers.values) { timer.cancel() } }
  func cancelTasks(_ reason: String) { for task in Array(tasks.values) { task.cancel(reason) } }

  /// From here on nothing of it runs any more, but what is cancelled and cleans up.
  func retire(_ reason: String) {
    guard phase != .retired else { return }
    phase = .retired
    waitingStarts = []
    cancelTimers()
    cancelTasks(reason)
  }

  func releaseReferences() {
    for face in openPipes { _ = face.pipe.close(flush: .zero) }
    (timers, tasks, pipes, nodes) = ([:], [:], [:], [:])
    for ref in [environment, runner, errorCallback, startCallback, stopCallback].compactMap({ $0 }) {
      host.vm.release(ref)
    }
    (environment, runner, errorCallback, startCallback, stopCallback) = (nil, nil, nil, nil, nil)
  }

  // MARK: Failures

  /// A callback or task of the script failed: log, count, tell the script's own `error_cb`.
  func report(_ failure: LuaFailure, pipe: PipeFace?, in place: String) {
    if case .cancelled = failure.kind { return }
    errors &+= 1
    let loop = host.loop
    reporter.report(now: loop.now) { suppressed in
      var metadata: Logger.Metadata = [:]
      if let pipe { metadata["pipe"] = "\(pipe.pipe.id)" }
      var text = "\(place) failed: \(failure.message)"
      if !failure.traceback.isEmpty { text += "\n\(failure.traceback)" }
      if suppressed > 0 { text += "\n(\(suppressed) more errors since the last one shown)" }
      logger.error("\(text)", metadata: metadata)
    }
    guard let errorCallback, place != Self.errorPlace else { return }
    let value = Self.errorValue(failure)
    var arguments = [value]
    if let ref = pipe?.pipeRef { arguments.append(.ref(ref)) }
    host.startCallback(errorCallback, arguments: arguments, generation: self, place: Self.errorPlace)
  }

  /// What `error_cb` gets. The engine's own error values left their metatable behind on the way out of the VM.
  private static func errorValue(_ failure: LuaFailure) -> LuaValue {
    if failure.value.isNil { return .string(failure.message) }
    if case .table = failure.value, let code = failure.value["code"].text {
      return .object(ErrorObject(code: code, message: failure.value["message"].text ?? failure.message))
    }
    return failure.value
  }

  static let errorPlace = "error_cb"
}

/// Which errors are written out: a handler that fails at every message must not fill the disk.
struct ErrorReporter {
  let perSecond: Int
  private var windowStart: NIODeadline?
  private var shown = 0
  private var suppressed = 0

  init(perSecond: Int) { self.perSecond = max(1, perSecond) }

  /// Calls `write` with the number of errors left out since the last one written, if this one is to be written.
  mutating func report(now: NIODeadline, _ write: (Int) -> Void) {
    if let start = windowStart, now - start < .seconds(1) {
      guard shown < perSecond else {
        suppressed += 1
        return
      }
    } else {
      windowStart = now
      shown = 0
    }
    shown += 1
    write(suppressed)
    suppressed = 0
  }
}
