/// What scripts of one VM may use.
public struct LuaLimits: Sendable {
  /// Bytes of Lua memory scripts may reach; an allocation beyond it is a Lua error ("not enough memory").
  public var memory: Int
  /// Bytes beyond `memory` for the engine itself: delivering a message, reporting an error.
  public var reserve: Int
  /// Seconds a task may run without a wait, its slices added up, before it is stopped. `pcall` cannot catch that.
  public var runTime: Double
  /// Seconds a task runs before the others get their turn.
  public var slice: Double
  /// Seconds for the `<close>` handlers of a stopped task, and for a `__tostring` while an error is reported.
  public var closeTime: Double
  /// Steps of one `find`, `match`, `gmatch` step or `gsub`; 8 per byte of the subject come on top. Beyond it: error "too_complex".
  public var patternSteps: Int

  public init(
    memory: Int = 64 << 20, reserve: Int = 1 << 20, runTime: Double = 1.0, slice: Double = 0.010,
    closeTime: Double = 0.020,
    patternSteps: Int = 10_000_000
  ) {
    self.memory = memory
    self.reserve = reserve
    self.runTime = runTime
    self.slice = slice
    self.closeTime = closeTime
    self.patternSteps = patternSteps
  }
}

/// Counters of one VM.
public struct LuaStats: Sendable {
  public var memoryUsed = 0
  public var memoryPeak = 0
  /// Tasks started since the VM was opened, small internal ones included.
  public var tasksStarted = 0
  public var tasksLive = 0
  public var tasksReady = 0
  /// Coroutines made for tasks; far fewer than tasks, as they are reused.
  public var coroutinesMade = 0
  public var coroutinesIdle = 0
  /// Times a running task was interrupted for others.
  public var slices = 0
  /// Tasks stopped for running too long, or by `os.exit`.
  public var kills = 0
  public var errors = 0
  public var refusedAllocations = 0
  /// Slots of the registry in use at once so far. They are reused: a number that keeps growing is a leak of references.
  public var references = 0
}
