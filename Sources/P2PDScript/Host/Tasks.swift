import LuaVM
import NIOCore
import P2PDNet

/// Whoever starts a task hears of its end. A class and not a protocol: on the road of a message it is found by a tag.
class TaskOwner {
  func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {}
}

/// A task that waits in one of the engine's functions.
final class Waiter {
  let task: LuaTask
  private(set) var isWaiting = true
  private unowned let host: ScriptHost
  /// Takes back what the wait asked for: a timer, a ticket.
  var giveUp: (() -> Void)?

  init(task: LuaTask, host: ScriptHost) {
    self.task = task
    self.host = host
  }

  /// The wait is over; the task goes on with these values.
  func finish(_ values: [LuaValue]) { finish { $0.resume($1, values: values) } }

  /// The wait ends in an error.
  func fail(_ value: LuaValue) { finish { $0.raise(in: $1, value) } }

  func finish(_ enter: @escaping (LuaVM, LuaTask) -> Void) {
    guard isWaiting else { return }
    isWaiting = false
    giveUp = nil
    let (host, task) = (host, task)
    host.waits[task] = nil
    host.whenIdle {
      guard !host.isClosed else { return }
      enter(host.vm, task)
      host.afterRun()
    }
  }

  /// The task ended or was cancelled while it waited.
  func abandon() {
    guard isWaiting else { return }
    isWaiting = false
    giveUp?()
    giveUp = nil
  }
}

extension ScriptHost {
  /// Parks the calling task. Give the result back as `.wait`.
  func wait(_ task: LuaTask) -> Waiter {
    let waiter = Waiter(task: task, host: self)
    waits[task] = waiter
    return waiter
  }

  /// Ends a task: its current or next wait raises an error that begins with `cancelled`.
  func cancel(_ task: LuaTask, reason: String) {
    waits.removeValue(forKey: task)?.abandon()
    whenIdle {
      guard !self.isClosed else { return }
      self.vm.cancel(task, reason: reason)
      self.afterRun()
    }
  }

  /// Runs a callback as a task of its own, whose failure is reported. Its end may be waited for in ``runningCallbacks``.
  func startCallback(
    _ function: LuaRef, arguments: [LuaValue], generation: Generation, pipe: PipeFace? = nil, place: String,
    ended: (() -> Void)? = nil
  ) {
    whenIdle {
      guard !self.isClosed else { return }
      let run = CallbackRun(host: self, generation: generation, pipe: pipe, place: place, ended: ended)
      let status = self.vm.start(function, arguments: arguments, tag: run.tag, wantsResults: false)
      if case .done = status { run.finish() }
      self.afterRun()
    }
  }
}

/// One run of a callback that is not on the road of messages: timers, `up_cb`, `end_cb`, `start`.
final class CallbackRun: TaskOwner {
  private unowned let host: ScriptHost
  private let generation: Generation
  private let pipe: PipeFace?
  private let place: String
  private let ended: (() -> Void)?
  private(set) var tag: UInt64 = 0

  init(host: ScriptHost, generation: Generation, pipe: PipeFace?, place: String, ended: (() -> Void)?) {
    self.host = host
    self.generation = generation
    self.pipe = pipe
    self.place = place
    self.ended = ended
    super.init()
    tag = host.register(self)
    host.runningCallbacks += 1
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    if case .failure(let failure) = result { generation.report(failure, pipe: pipe, in: place) }
    finish()
  }

  func finish() {
    guard tag != 0 else { return }
    host.unregister(tag)
    tag = 0
    host.runningCallbacks -= 1
    ended?()
  }
}
