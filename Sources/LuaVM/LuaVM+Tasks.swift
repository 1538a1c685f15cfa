internal import CLua

public enum LuaStatus: Sendable {
  case done
  /// Parked, or interrupted with its next slice to come.
  case waiting
  case failed
}

// Tasks: Lua functions running as pooled coroutines.
extension LuaVM {
  // MARK: starting; the hot path has no allocation of Swift's

  @discardableResult
  public func start(_ f: LuaRef, tag: UInt64 = 0, wantsResults: Bool = false) -> LuaStatus {
    start(f, nil, 0, tag, wantsResults)
  }

  @discardableResult
  public func start(_ f: LuaRef, _ a: LuaArg, tag: UInt64 = 0, wantsResults: Bool = false) -> LuaStatus {
    var a = a.raw
    return start(f, &a, 1, tag, wantsResults)
  }

  @discardableResult
  public func start(_ f: LuaRef, _ a: LuaArg, _ b: LuaArg, tag: UInt64 = 0, wantsResults: Bool = false) -> LuaStatus {
    withArguments((a.raw, b.raw)) { start(f, $0, 2, tag, wantsResults) }
  }

  @discardableResult
  public func start(_ f: LuaRef, _ a: LuaArg, _ b: LuaArg, _ c: LuaArg, tag: UInt64 = 0, wantsResults: Bool = false)
    -> LuaStatus
  {
    withArguments((a.raw, b.raw, c.raw)) { start(f, $0, 3, tag, wantsResults) }
  }

  /// For the road of a message: like ``start(_:_:_:_:tag:wantsResults:)``, but a task that ends well before this returns is
  /// told by `.done` alone, not to the delegate.
  public func startQuietly(_ f: LuaRef, _ a: LuaArg, _ b: LuaArg, _ c: LuaArg, tag: UInt64) -> LuaStatus {
    assert(!isRunning, "the VM is never re-entered: queue the start")  // C refuses it as well
    return withArguments((a.raw, b.raw, c.raw)) {
      var values = clua_values(nodes: $0, count: 3, bytes: nil)
      let status = clua_start(raw, f.id, &values, tag, 0)
      guard status == CLUA_DONE else { return finish(status) }
      return .done
    }
  }

  @discardableResult
  public func start(
    _ f: LuaRef, _ a: LuaArg, _ b: LuaArg, _ c: LuaArg, _ d: LuaArg, tag: UInt64 = 0, wantsResults: Bool = false
  ) -> LuaStatus {
    withArguments((a.raw, b.raw, c.raw, d.raw)) { start(f, $0, 4, tag, wantsResults) }
  }

  /// Runs `f` until it ends, waits or its slice is over. Not while Lua runs. A value that cannot cross makes it `.failed`.
  @discardableResult
  public func start(
    _ f: LuaRef, arguments: [LuaValue], tag: UInt64 = 0, wantsResults: Bool = false, tablesAsRefs: Bool = false
  ) -> LuaStatus {
    precondition(!isRunning, "the VM is never re-entered: queue the start")
    let flags = (wantsResults ? CLUA_WANTS_RESULTS : 0) | (tablesAsRefs ? CLUA_TABLES_AS_REFS : 0)
    do {
      return finish(try withEncoded(arguments) { clua_start(raw, f.id, $0, tag, flags) })
    } catch {
      bridge.delegate?.luaTaskEnded(self, task: 0, tag: tag, result: .failure(error), late: false)
      return .failed
    }
  }

  private func start(
    _ f: LuaRef, _ nodes: UnsafePointer<clua_value>?, _ count: Int, _ tag: UInt64, _ wantsResults: Bool
  ) -> LuaStatus {
    precondition(!isRunning, "the VM is never re-entered: queue the start")
    var values = clua_values(nodes: nodes, count: count, bytes: nil)
    return finish(clua_start(raw, f.id, &values, tag, wantsResults ? CLUA_WANTS_RESULTS : 0))
  }

  /// Calls `f` here and now, as a task that cannot wait: for the top level of files, checks, `tostring`. Stopped like any other
  /// when it runs too long. `tablesAsRefs`: tables among the results come as references.
  public func callNow(_ f: LuaRef, _ arguments: [LuaValue] = [], tablesAsRefs: Bool = false) throws(LuaFailure)
    -> [LuaValue]
  {
    precondition(!isRunning, "the VM is never re-entered")
    let flags = CLUA_WANTS_RESULTS | CLUA_NO_WAIT | (tablesAsRefs ? CLUA_TABLES_AS_REFS : 0)
    let status = try withEncoded(arguments) { clua_start(raw, f.id, $0, 0, flags) }
    if status == CLUA_WAITING { throw LuaFailure(message: "cannot wait here") }
    return try takeEnd().result.get()
  }

  /// A new task that runs in `runReady`; may be called while Lua runs.
  /// - Parameter noWait: makes it a task that takes turns with the others and is stopped like them, but cannot wait: each
  ///   wait, and a bare `coroutine.yield()`, raises this text with the script's `file:line:` in front.
  @discardableResult
  public func spawn(
    _ f: LuaRef, _ arguments: [LuaValue] = [], tag: UInt64 = 0, wantsResults: Bool = false, tablesAsRefs: Bool = false,
    noWait: String? = nil
  ) throws(LuaFailure) -> LuaTask {
    var id: LuaTask = 0
    let flags = (wantsResults ? CLUA_WANTS_RESULTS : 0) | (tablesAsRefs ? CLUA_TABLES_AS_REFS : 0)
    let kind = try withEncoded(arguments) { values in
      guard let noWait else { return clua_spawn(raw, f.id, values, tag, flags, nil, 0, &id) }
      return withCharacters(noWait) { clua_spawn(raw, f.id, values, tag, flags, $0, $1, &id) }
    }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return id
  }

  // MARK: going on

  /// Ends a wait with these values. False: nobody waits there any more (it went on, was cancelled, or ended) and the values were not taken.
  /// While Lua runs they are kept and the task goes on in `runReady`.
  @discardableResult
  public func resume(_ wait: LuaWait) -> Bool { resume(wait.task, wait.serial, nil, 0) }
  @discardableResult
  public func resume(_ wait: LuaWait, _ a: LuaArg) -> Bool {
    var a = a.raw
    return resume(wait.task, wait.serial, &a, 1)
  }
  @discardableResult
  public func resume(_ wait: LuaWait, _ a: LuaArg, _ b: LuaArg) -> Bool {
    withArguments((a.raw, b.raw)) { resume(wait.task, wait.serial, $0, 2) }
  }
  @discardableResult
  public func resume(_ wait: LuaWait, values: [LuaValue]) -> Bool {
    resume(wait.task, wait.serial, values, raising: false)
  }

  /// The same for whatever the task waits for now.
  @discardableResult
  public func resume(_ task: LuaTask) -> Bool { resume(task, 0, nil, 0) }
  @discardableResult
  public func resume(_ task: LuaTask, _ a: LuaArg) -> Bool {
    var a = a.raw
    return resume(task, 0, &a, 1)
  }
  @discardableResult
  public func resume(_ task: LuaTask, _ a: LuaArg, _ b: LuaArg) -> Bool {
    withArguments((a.raw, b.raw)) { resume(task, 0, $0, 2) }
  }
  @discardableResult
  public func resume(_ task: LuaTask, values: [LuaValue]) -> Bool { resume(task, 0, values, raising: false) }

  /// Ends a wait with an error.
  @discardableResult
  public func raise(in task: LuaTask, _ value: LuaValue) -> Bool { resume(task, 0, [value], raising: true) }
  @discardableResult
  public func raise(in wait: LuaWait, _ value: LuaValue) -> Bool {
    resume(wait.task, wait.serial, [value], raising: true)
  }

  /// The task's present wait, or its next one, raises an error value with the fields `code` and `reason` that prints as
  /// "code: reason"; so does every later one. Host functions that do not wait still work, for `<close>` handlers. The task
  /// goes on in `runReady`; if it ends by that error its failure is of kind `.cancelled`. The first cancel of a task holds.
  /// False: no such task.
  @discardableResult
  public func cancel(_ task: LuaTask, code: String = "cancelled", reason: String) -> Bool {
    withCharacters(code) { code, codeLength in
      withCharacters(reason) { clua_cancel(raw, task, code, codeLength, $0, $1) }
    }
  }

  /// Ends a task by force: no more code of it runs but its `<close>` handlers, which get `LuaLimits.closeTime` and cannot
  /// wait, also those of the script's coroutines it waits in. `pcall` does not catch it. It happens in `runReady`, to the
  /// running task at its next instruction. Its failure is of kind `.cancelled`, "file:line: ended: reason". False: no such task.
  @discardableResult
  public func kill(_ task: LuaTask, reason: String) -> Bool {
    withCharacters(reason) { clua_kill(raw, task, $0, $1) }
  }

  /// The live tasks whose tag has these bits under the mask. A task that Lua code spawns has the tag of the spawning one.
  public func tasks(tag: UInt64, mask: UInt64 = .max) -> [LuaTask] {
    let count = Int(clua_tasks(raw, tag, mask, nil, 0))
    return [LuaTask](unsafeUninitializedCapacity: count) { buffer, used in
      used = min(count, Int(clua_tasks(raw, tag, mask, buffer.baseAddress, UInt32(count))))
    }
  }

  /// The task the last `start` made: after `.waiting`, the one to cancel.
  public var lastTask: LuaTask { clua_last_started(raw) }

  public func exists(_ task: LuaTask) -> Bool { clua_task_exists(raw, task) }

  /// Runs up to `max` tasks that are ready, each for one slice. True: more are ready (`luaHasReadyTasks` was called again).
  @discardableResult
  public func runReady(max: Int = 64) -> Bool {
    precondition(!isRunning, "the VM is never re-entered")
    clua_run_ready_begin(raw)
    for _ in 0..<max {
      let status = clua_run_one(raw)
      if status == CLUA_NO_TASK { break }
      finish(status)
      if !isOpen { return false }
    }
    return clua_run_ready_end(raw)
  }

  // MARK: inside

  private func resume(_ task: LuaTask, _ serial: UInt64, _ nodes: UnsafePointer<clua_value>?, _ count: Int) -> Bool {
    var values = clua_values(nodes: nodes, count: count, bytes: nil)
    return resumed(clua_resume(raw, task, serial, &values, false))
  }

  private func resume(_ task: LuaTask, _ serial: UInt64, _ values: [LuaValue], raising: Bool) -> Bool {
    do {
      return resumed(try withEncoded(values) { clua_resume(raw, task, serial, $0, raising) })
    } catch {
      let text = LuaValue.string(error.message)
      return (try? withEncoded([text]) { clua_resume(raw, task, serial, $0, true) }).map(resumed) ?? false
    }
  }

  private func resumed(_ status: Int32) -> Bool {
    if status == CLUA_IGNORED { return false }
    if status != CLUA_QUEUED { finish(status) }
    return true
  }

  @discardableResult
  private func finish(_ status: Int32) -> LuaStatus {
    if status == CLUA_WAITING { return .waiting }
    let end = takeEnd()
    bridge.delegate?.luaTaskEnded(self, task: end.task, tag: end.tag, result: end.result, late: end.late)
    return status == CLUA_DONE ? .done : .failed
  }

  /// Copies how the last task ended, then gives its coroutine back.
  private func takeEnd() -> (task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    guard let end = clua_last_end(raw) else { return (0, 0, .success([]), false) }
    let task = end.pointee.task, tag = end.pointee.tag, late = end.pointee.late
    let kind = end.pointee.kind
    if kind == CLUA_OK && end.pointee.values.count == 0 {
      clua_end_taken(raw)
      return (task, tag, .success([]), late)
    }
    let values = LuaDecoder.decode(end.pointee.values)
    var result = Result<[LuaValue], LuaFailure>.success(kind == CLUA_OK ? values : [])
    if kind != CLUA_OK && !end.pointee.joined {
      result = .failure(
        LuaFailure(
          kind: LuaFailure.Kind(kind), message: LuaDecoder.text(end.pointee.message, end.pointee.message_length),
          traceback: LuaDecoder.text(end.pointee.traceback, end.pointee.traceback_length), value: values.first ?? .nil))
    }
    clua_end_taken(raw)
    return (task, tag, result, late)
  }

  private func withArguments<T, R>(_ arguments: T, _ body: (UnsafePointer<clua_value>?) -> R) -> R {
    withUnsafeBytes(of: arguments) { body($0.baseAddress?.assumingMemoryBound(to: clua_value.self)) }
  }
}
