import LuaVM
import NIOCore
import P2PDNet

/// The Swift side of a `p2pd.task`: whether it runs, how it ended, and who waits for it. Its results stay in Lua.
final class TaskHandle: TaskOwner {
  enum State { case new, running, done, failed(LuaFailure) }

  let generation: Generation
  private let host: ScriptHost
  /// Somebody waits for it, so a failure is theirs and not the log's.
  private let isQuiet: Bool
  /// It belongs to the protocol's service, and not to a message: `start` or the top level began it. Such tasks end as
  /// soon as another generation serves.
  let isService: Bool
  private(set) var state = State.new
  private var tag: UInt64 = 0
  private var task: LuaTask = 0
  /// Until it starts.
  private var function: LuaRef?
  private var cancelled: (code: String, reason: String)?
  private var endings: [() -> Void] = []

  private let place: String

  init(_ generation: Generation, isQuiet: Bool, isService: Bool = false, place: String = "spawned task") {
    self.generation = generation
    self.isQuiet = isQuiet
    self.isService = isService
    self.place = place
    host = generation.host
  }

  override var origin: Generation? { generation }

  var isOver: Bool {
    switch state {
    case .new, .running: false
    case .done, .failed: true
    }
  }

  /// Starts when Lua is off the stack and the script is live. Takes the function over.
  func run(_ function: LuaRef) {
    state = .running
    self.function = function
    generation.add(self)
    tag = host.register(self)
    generation.whenLive { self.start() }
  }

  private func start() {
    guard !host.isClosed, let function else { return }
    self.function = nil
    defer { host.vm.release(function) }
    if let cancelled { return end(.failed(.cancelled(cancelled.reason))) }
    do {
      task = try host.vm.spawn(function, tag: tag)
    } catch {
      taskEnded(0, result: .failure(error), late: false)
    }
  }

  func cancel(code: String = "cancelled", reason: String) {
    guard case .running = state else { return }
    cancelled = (code, reason)
    if task != 0 {
      host.vm.cancel(task, code: code, reason: reason)
    } else if case .loading = generation.phase {
      // It never began, and its generation may never be live.
      end(.failed(.cancelled(reason)))
    }
  }

  /// Ends it whatever it does.
  func kill(_ reason: String) {
    if case .running = state, task != 0 { host.vm.kill(task, reason: reason) }
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    switch result {
    case .success: end(.done)
    case .failure(let failure):
      if !isQuiet, !hasJoiners { generation.report(failure, pipe: nil, in: place) }
      end(.failed(failure))
    }
  }

  private func end(_ state: State) {
    guard !isOver else { return }
    self.state = state
    host.unregister(tag)
    tag = 0
    task = 0
    if let function { host.vm.release(function) }
    function = nil
    generation.remove(self)
    let waiting = endings
    endings = []
    for ending in waiting { ending() }
  }

  private var joiners = 0
  private var hasJoiners: Bool { joiners > 0 }

  /// Calls back at its end, at once if it has ended.
  func whenOver(isJoin: Bool, _ action: @escaping () -> Void) {
    if isJoin { joiners += 1 }
    if isOver { action() } else { endings.append(action) }
  }

  func leave() { joiners -= 1 }

  /// How a failed task looks to who waits for it.
  var failure: LuaFailure? {
    if case .failed(let failure) = state { return failure }
    return nil
  }

  var word: String {
    switch state {
    case .new, .running: "running"
    case .done: "done"
    case .failed: "failed"
    }
  }
}

/// Parks tasks until somebody wakes them: what queues are made of.
final class GateObject {
  var waiters = CircularBuffer<Waiter>()
}

/// The host functions under `spawn`, `join`, `gather`, `with_timeout` and `queue` (``Prelude/tasks``).
extension ScriptHost {
  var taskFunctions: [(String, HostFunction)] {
    [
      (
        "task",
        bound { [unowned self] call in
          .object(TaskHandle(try owner(call), isQuiet: call.bool(1) ?? false, isService: isService(call)))
        }
      ),
      (
        "run",
        bound { [unowned self] call in
          try handle(call, 0).run(try call.needFunction(1, 2, "run"))
          return .none
        }
      ),
      (
        "cancel",
        bound { [unowned self] call in
          let reason = call.isNone(1) ? "cancelled" : try call.string(1, 1, "cancel")
          try handle(call, 0).cancel(reason: reason)
          return .none
        }
      ),
      ("task_state", bound { [unowned self] call in .string(try handle(call, 0).word) }),
      ("join", bound { [unowned self] call in try join(call) }),
      ("join_all", bound { [unowned self] call in try joinAll(call) }),
      ("wait_end", bound { [unowned self] call in try waitEnd(call) }),
      ("gate", bound { _ in .object(GateObject()) }),
      ("gate_wait", bound { [unowned self] call in try gateWait(call) }),
      ("gate_wake", bound { [unowned self] call in try gateWake(call) }),
    ]
  }

  /// Whether who calls belongs to the protocol's service.
  func isService(_ call: borrowing LuaCall) -> Bool {
    switch owner(of: call.tag) {
    case is StagedCall: true
    case let handle as TaskHandle: handle.isService
    default: false
    }
  }

  private func handle(_ call: borrowing LuaCall, _ index: Int) throws -> TaskHandle {
    guard let handle = call.object(index, as: TaskHandle.self) else {
      throw call.need(index, index + 1, "join", "p2pd.task")
    }
    return handle
  }

  /// true; nil and a timeout; false and the message of a failure, which the prelude raises.
  private func join(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("join", call)
    let handle = try handle(call, 0)
    let timeout = try call.seconds(1, 2, "join")
    if let failure = handle.failure { return .values([.bool(false), .string(failure.message)]) }
    if handle.isOver { return .one(.bool(true)) }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    let timer = timeout.map { time in
      loop.assumeIsolated().scheduleTask(in: time) {
        handle.leave()
        self.finish(waiter, failing: NetError(.timeout, "join", cause: "not done in \(time.inSeconds) s"))
      }
    }
    waiter.giveUp = {
      timer?.cancel()
      handle.leave()
    }
    handle.whenOver(isJoin: true) {
      timer?.cancel()
      waiter.finish(handle.failure.map { [.bool(false), .string($0.message)] } ?? [.bool(true)])
    }
    return .wait
  }

  /// Nothing when all have ended well; the place and the message of the first failure, at once.
  private func joinAll(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("gather", call)
    var handles: [TaskHandle] = []
    for index in 0..<call.count { handles.append(try handle(call, index)) }
    if let index = handles.firstIndex(where: { $0.failure != nil }) { return .values(failed(handles, index)) }
    var missing = handles.filter { !$0.isOver }.count
    if missing == 0 { return .none }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    for (index, handle) in handles.enumerated() where !handle.isOver {
      handle.whenOver(isJoin: true) {
        missing -= 1
        if handle.failure != nil {
          waiter.finish(self.failed(handles, index))
        } else if missing == 0 {
          waiter.finish([])
        }
      }
    }
    return .wait
  }

  private func failed(_ handles: [TaskHandle], _ index: Int) -> [LuaValue] {
    [.int(Int64(index + 1)), .string(handles[index].failure?.message ?? "")]
  }

  /// Waits for a cancelled task to be through with its `<close>` variables.
  private func waitEnd(_ call: borrowing LuaCall) throws -> LuaReturn {
    let handle = try handle(call, 0)
    if handle.isOver || !call.canWait { return .none }
    let waiter = wait(call.wait)
    handle.whenOver(isJoin: false) { waiter.finish([]) }
    return .wait
  }

  /// true when woken, false at the time limit.
  private func gateWait(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let gate = call.object(0, as: GateObject.self) else { throw call.need(0, 1, "gate_wait", "gate") }
    let timeout = call.isNone(1) ? nil : TimeAmount(seconds: max(0, call.number(1) ?? 0))
    if timeout == .zero { return .one(.bool(false)) }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    gate.waiters.append(waiter)
    if let timeout {
      let timer = loop.assumeIsolated().scheduleTask(in: timeout) { waiter.finish([.bool(false)]) }
      waiter.giveUp = { timer.cancel() }
    }
    return .wait
  }

  private func gateWake(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let gate = call.object(0, as: GateObject.self) else { throw call.need(0, 1, "gate_wake", "gate") }
    var left = call.number(1) ?? 1
    while left > 0, let waiter = gate.waiters.popFirst() {
      guard waiter.isWaiting else { continue }
      left -= 1
      waiter.finish([.bool(true)])
    }
    return .none
  }
}

extension LuaFailure {
  static func cancelled(_ reason: String) -> LuaFailure {
    LuaFailure(kind: .cancelled, message: "cancelled: \(reason)", traceback: "", value: .nil)
  }

  static var noMemory: LuaFailure {
    LuaFailure(kind: .memory, message: "not enough memory", traceback: "", value: .nil)
  }
}
