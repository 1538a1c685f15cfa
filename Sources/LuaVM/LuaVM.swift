internal import CLua

/// What a VM tells its host. Called on the VM's thread.
public protocol LuaVMDelegate: AnyObject {
  /// A task ended: exactly once for each task. `late`: it had waited or been interrupted; otherwise this comes before `start` returns.
  /// `result` holds values only if they were wanted. A spawned task another one joins hands its failure there and succeeds here.
  func luaTaskEnded(_ vm: LuaVM, task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool)
  /// Tasks wait for `runReady`: call it soon, from the event loop. May be called while Lua runs.
  func luaHasReadyTasks(_ vm: LuaVM)
  /// A wait was broken off (cancelled, or it could not begin): whatever the host had set up for it can be undone. May be called while Lua runs.
  func luaWaitAbandoned(_ vm: LuaVM, wait: LuaWait)
}

extension LuaVMDelegate {
  public func luaWaitAbandoned(_ vm: LuaVM, wait: LuaWait) {}
}

/// One Lua VM. Confined to one thread at a time: the one that made it or last called `attachToCurrentThread`.
///
/// Objects given to Lua are released by its collector, at any allocation: their `deinit` may call `release`, not start tasks.
/// What the limits do not reach: blocking calls (`os.execute`, `io.read`), and C modules that run Lua code on coroutines of
/// their own making.
///
/// Never re-entered: while Lua runs (`isRunning`) tasks can be resumed, cancelled and spawned (they run in `runReady`), not started.
public final class LuaVM: @unchecked Sendable {
  let raw: OpaquePointer
  let bridge = LuaBridge()
  public let limits: LuaLimits
  public private(set) var isOpen = true

  public init(limits: LuaLimits = LuaLimits(), sandbox: Bool = false) throws(LuaFailure) {
    self.limits = limits
    var bounds = clua_limits(
      memory: max(0, limits.memory), reserve: max(0, limits.reserve), run_us: microseconds(limits.runTime),
      slice_us: microseconds(limits.slice), close_us: microseconds(limits.closeTime),
      pattern_steps: Int64(limits.patternSteps))
    var callbacks = bridge.callbacks()
    guard let raw = clua_open(&bounds, &callbacks, sandbox) else {
      throw LuaFailure(kind: .memory, message: "a Lua VM does not fit into \(limits.memory) bytes")
    }
    self.raw = raw
    guard clua_attach(raw) else {
      clua_close(raw)
      throw LuaFailure(message: "no watchdog for the Lua VM: too many VMs, or no thread")
    }
    bridge.vm = self
  }

  deinit { close() }

  /// Ends every task without a word to the delegate and releases every object.
  public func close() {
    guard isOpen else { return }
    precondition(!isRunning, "a Lua VM cannot be closed from inside")
    isOpen = false
    bridge.delegate = nil
    clua_close(raw)
    bridge.removeFunctions()
  }

  /// The calling thread runs the VM from now on. It must not be running anywhere else.
  public func attachToCurrentThread() throws(LuaFailure) {
    if !clua_attach(raw) { throw LuaFailure(message: "no watchdog for the Lua VM: too many VMs, or no thread") }
  }

  /// Held until ``close()``.
  public var delegate: (any LuaVMDelegate)? {
    get { bridge.delegate }
    set { bridge.delegate = newValue }
  }
  /// `print` of scripts: the environment's tag and the line, without a newline; the bytes are Lua's and go with the call.
  public var onPrint: ((_ tag: String, _ line: UnsafeRawBufferPointer) -> Void)? {
    get { bridge.onPrint }
    set { bridge.onPrint = newValue }
  }
  /// `os.exit(code)`; the task that called it is stopped afterwards, the process goes on.
  public var onExit: ((_ code: Int) -> Void)? {
    get { bridge.onExit }
    set { bridge.onExit = newValue }
  }

  /// Where `require`, `loadfile` and `dofile` get Lua text from: the asking environment's print tag, and the path; nil is "no
  /// such file". Asked for every candidate in order, so it also learns which absent files would matter. What it throws
  /// becomes the error of the call. Without it files are read from the disk. C modules do not come this way.
  public var readModule: ((_ tag: String, _ path: String) throws -> [UInt8]?)? {
    didSet { clua_set_reader(raw, readModule == nil ? -1 : reader()) }
  }

  private func reader() -> Int32 {
    if let id = readerFunction { return id }
    let id = bridge.add { [unowned self] call in
      guard let path = call.string(0), let read = readModule else { return .none }
      do {
        guard let text = try read(call.string(1) ?? "", path) else { return .one(.nil) }
        return text.withUnsafeBytes { call.copy($0) }.map { .one($0) } ?? .raise("not enough memory to read \(path)")
      } catch {
        return .raise("\(error)")
      }
    }
    readerFunction = id
    return id
  }
  private var readerFunction: Int32?

  /// Lua is on the stack now.
  public var isRunning: Bool { clua_is_running(raw) }
  public var memoryUsed: Int { stats.memoryUsed }

  public var stats: LuaStats {
    var s = clua_stats()
    clua_get_stats(raw, &s)
    return LuaStats(
      memoryUsed: s.memory_used, memoryPeak: s.memory_peak, tasksStarted: Int(s.tasks_started),
      tasksLive: Int(s.tasks_live),
      tasksReady: Int(s.tasks_ready), coroutinesMade: Int(s.coroutines_made), coroutinesIdle: Int(s.coroutines_idle),
      slices: Int(s.slices), kills: Int(s.kills), errors: Int(s.errors), refusedAllocations: Int(s.refused_allocations),
      references: Int(s.references))
  }

  /// A bounded piece of garbage collection, for idle moments.
  public func collectSome() { clua_gc_step(raw) }
  /// A whole collection: at shutdown and in tests, not on a busy loop.
  public func collectAll() { clua_gc_cycle(raw) }

  /// For tests: refuse every allocation after `n` more; nil stops refusing.
  func failAllocations(after n: Int?) { clua_fail_allocations(raw, n.map { Int64($0) } ?? -1) }

  /// Whether a Lua pattern matches anywhere in `subject`. Throws for a malformed pattern and when `steps` do not suffice.
  public static func patternMatches(_ pattern: [UInt8], _ subject: UnsafeRawBufferPointer, steps: Int)
    throws(LuaFailure) -> Bool
  {
    let code = pattern.withUnsafeBytes { p in
      clua_match(
        p.baseAddress?.assumingMemoryBound(to: CChar.self), p.count,
        subject.baseAddress?.assumingMemoryBound(to: CChar.self),
        subject.count, Int64(steps))
    }
    switch code {
    case CLUA_MATCH_YES: return true
    case CLUA_MATCH_NO: return false
    case CLUA_MATCH_MALFORMED: throw LuaFailure(kind: .syntax, message: "malformed pattern")
    default: throw LuaFailure(message: "pattern too complex for this subject")
    }
  }

  func lastFailure(_ kind: Int32) -> LuaFailure {
    var length = 0, traceLength = 0
    let text = clua_message(raw, &length)
    let message = LuaDecoder.text(text, length)
    let trace = clua_traceback(raw, &traceLength)
    return LuaFailure(kind: LuaFailure.Kind(kind), message: message, traceback: LuaDecoder.text(trace, traceLength))
  }
}

private func microseconds(_ seconds: Double) -> UInt32 {
  UInt32(exactly: (min(max(seconds, 0.000_1), 4000) * 1e6).rounded()) ?? 1_000_000
}
