import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// One loading of one script: its environment and `require` cache, its handlers, and everything it registered. What
/// belongs to a generation ends with it. Confined to the host's event loop.
final class Generation {
  /// Where it stands in its life.
  enum Phase {
    /// Staged: what it registers is only recorded.
    case loading
    case live
    /// Another one serves. It stands by for a rollback, or its last tasks and pipes are finishing.
    case leaving
    /// Nothing of it runs any more.
    case retired
  }

  let id: Int64
  /// The protocol's name, or an exec script's file name.
  let name: String
  let path: String
  let host: ScriptHost
  /// The files it was made of.
  let sources: SourceReader
  let madeAt: NIODeadline
  var phase = Phase.loading
  var logger: Logger

  /// The protocol it serves or served; nil for an exec script.
  weak var hosted: HostedProtocol?
  var version = 1
  /// `M.drain`: pipes that were open before it came finish on the generation they have.
  var drains = false

  /// The script's globals; its `require` cache hangs on it.
  var environment: LuaRef?
  /// Where `p2pd.state` looks: its field `cell` is the table that holds the state, shared by the generations that
  /// understand it.
  var stateHolder: LuaRef?
  var cell: LuaRef?
  var errorCallback: LuaRef?
  var startCallback: LuaRef?
  var stopCallback: LuaRef?
  var checkCallback: LuaRef?
  var migrateCallback: LuaRef?
  var adoptCallback: LuaRef?

  var counters = Counters()
  var reporter: ErrorReporter

  struct Counters {
    var messages: UInt64 = 0
    var errors: UInt64 = 0
    /// Message callbacks and sessions among the errors.
    var failedMessages: UInt64 = 0
    /// Tasks stopped by the time limit.
    var kills: UInt64 = 0
  }

  /// The change to its successor, until nothing of this one is left.
  var succession: Succession?

  // What it registered.
  private(set) var timers: [ObjectIdentifier: TimerObject] = [:]
  private(set) var timersArePaused = false
  private(set) var tasks: [ObjectIdentifier: TaskHandle] = [:]
  private(set) var runs: [ObjectIdentifier: CallbackRun] = [:]
  private(set) var sessions: [ObjectIdentifier: SessionRun] = [:]
  /// Pipes it opened itself, their clients and those of its other protocols.
  private(set) var pipes: [ObjectIdentifier: PipeFace] = [:]
  private(set) var nodes: [ObjectIdentifier: NodeFace] = [:]
  private(set) var relays: [ObjectIdentifier: TurnObject] = [:]
  private var sets: [ObjectIdentifier: WeakHandlers] = [:]
  var listeners: [Listener] = []
  /// Servers the top level asked for.
  var listenRequests: [ListenRequest] = []
  /// Slots some of whose pipes finish on it.
  var drainingSlots: [HandlerSlot] = []
  /// `M.start` was called, and `M.stop` was not.
  var isStarted = false
  /// Pipes with a message callback of this generation that waits.
  var inFlight = 0
  /// What the top level registered before the script is live.
  private var waitingStarts: [() -> Void] = []

  init(id: Int64, name: String, path: String, host: ScriptHost, sources: SourceReader) {
    self.id = id
    self.name = name
    self.path = path
    self.host = host
    self.sources = sources
    madeAt = host.loop.now
    logger = host.logger
    logger[metadataKey: "script"] = "\(name)"
    reporter = ErrorReporter(perSecond: host.options.errorsPerSecond)
  }

  /// The protocol's callbacks. Made at first use, gone with ``releaseReferences()``.
  var handlers: HandlerSet {
    if let made = ownHandlers { return made }
    let made = HandlerSet(self)
    ownHandlers = made
    return made
  }
  private var ownHandlers: HandlerSet?

  /// The node that hosts the script, in `run`.
  var hostingNode: NodeFace?

  func add(_ timer: TimerObject) { timers[ObjectIdentifier(timer)] = timer }
  func remove(_ timer: TimerObject) { timers[ObjectIdentifier(timer)] = nil }
  func add(_ task: TaskHandle) { tasks[ObjectIdentifier(task)] = task }
  func remove(_ task: TaskHandle) {
    tasks[ObjectIdentifier(task)] = nil
    checkOver()
  }
  func add(_ run: CallbackRun) { runs[ObjectIdentifier(run)] = run }
  func remove(_ run: CallbackRun) {
    runs[ObjectIdentifier(run)] = nil
    checkOver()
  }
  func add(_ session: SessionRun) { sessions[ObjectIdentifier(session)] = session }
  func remove(_ session: SessionRun) {
    sessions[ObjectIdentifier(session)] = nil
    checkOver()
  }
  func add(_ pipe: PipeFace) { pipes[ObjectIdentifier(pipe)] = pipe }
  func remove(_ pipe: PipeFace) { pipes[ObjectIdentifier(pipe)] = nil }
  func add(_ node: NodeFace) { nodes[ObjectIdentifier(node)] = node }
  func remove(_ node: NodeFace) { nodes[ObjectIdentifier(node)] = nil }
  func add(_ relay: TurnObject) { relays[ObjectIdentifier(relay)] = relay }
  func remove(_ relay: TurnObject) { relays[ObjectIdentifier(relay)] = nil }
  func add(_ set: HandlerSet) { sets[ObjectIdentifier(set)] = WeakHandlers(set: set) }
  func remove(_ set: ObjectIdentifier) { sets[set] = nil }

  private struct WeakHandlers { weak var set: HandlerSet? }

  // MARK: Life

  /// Runs `action` once the generation is live: at once if it is.
  func whenLive(_ action: @escaping () -> Void) {
    switch phase {
    case .loading: waitingStarts.append(action)
    case .live, .leaving: action()
    case .retired: break
    }
  }

  /// From here on timers run and tasks start.
  func activate() {
    guard phase != .retired else { return }
    phase = .live
    let starts = waitingStarts
    waitingStarts = []
    for start in starts { start() }
  }

  /// Takes no new pipes: the script is about to end.
  var isEnding = false
  var takesPipes: Bool { phase != .retired && !isEnding }
  var openPipes: [PipeFace] { Array(pipes.values) }
  var pipeCount: Int { pipes.count }
  var openNodes: [NodeFace] { Array(nodes.values) }

  /// Called when its last task ends while it leaves.
  var whenIdle: (() -> Void)?
  /// None of its code runs or waits.
  var isIdle: Bool { inFlight == 0 && runs.isEmpty && tasks.isEmpty && sessions.isEmpty }

  /// A task of it has ended: maybe the last one somebody waits for.
  func checkOver() {
    guard isIdle, let action = whenIdle else { return }
    whenIdle = nil
    action()
  }

  /// - Returns: when their servers have them back.
  @discardableResult
  func closeRelays() -> [EventLoopFuture<Void>] { Array(relays.values).map { $0.close() } }

  func cancelTimers() { for timer in Array(timers.values) { timer.cancel() } }
  func cancelTasks(_ reason: String) { for task in Array(tasks.values) { task.cancel(reason: reason) } }

  func pauseTimers() {
    timersArePaused = true
    for timer in timers.values { timer.pause() }
  }

  func resumeTimers() {
    timersArePaused = false
    for timer in timers.values { timer.resume() }
  }

  /// From here on nothing of it runs any more, but what is cancelled and cleans up.
  func retire(_ reason: String) {
    guard phase != .retired else { return }
    phase = .retired
    waitingStarts = []
    cancelTimers()
    cancelTasks(reason)
    closeRelays()
  }

  func releaseReferences() {
    for face in openPipes { _ = face.pipe.close(flush: .zero) }
    for box in sets.values { box.set?.empty() }
    (timers, tasks, pipes, nodes, runs, sessions) = ([:], [:], [:], [:], [:], [:])
    (listeners, listenRequests, hostingNode, whenIdle, drainingSlots, succession) = ([], [], nil, nil, [], nil)
    let callbacks = [
      environment, stateHolder, cell, errorCallback, startCallback, stopCallback, checkCallback, migrateCallback,
      adoptCallback,
    ]
    for ref in callbacks.compactMap({ $0 }) { host.vm.release(ref) }
    (environment, stateHolder, cell, errorCallback) = (nil, nil, nil, nil)
    (startCallback, stopCallback, checkCallback, migrateCallback, adoptCallback) = (nil, nil, nil, nil, nil)
    ownHandlers = nil
  }
}
