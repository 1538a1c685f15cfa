import LuaVM
import NIOCore
import P2PDNet

/// Whoever starts a task hears of its end. A class and not a protocol: on the road of a message it is found by a tag.
class TaskOwner {
  /// `late` false: the task ended within the call that started it.
  func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {}

  /// The generation whose code the task runs.
  var origin: Generation? { nil }
}

/// A task that waits in one of the engine's functions.
final class Waiter {
  private let wait: LuaWait
  private unowned let host: ScriptHost
  private(set) var isWaiting = true
  /// Takes back what the wait asked for: a timer, a ticket. Called when the wait is broken off.
  var giveUp: (() -> Void)?

  init(_ wait: LuaWait, _ host: ScriptHost) {
    self.wait = wait
    self.host = host
  }

  /// The wait is over; the task goes on with these values. While Lua runs the VM keeps them for a moment.
  func finish(_ values: [LuaValue]) {
    guard end() else { return }
    host.vm.resume(wait, values: values)
    host.afterRun()
  }

  func finish(_ value: LuaArg) {
    guard end() else { return }
    host.vm.resume(wait, value)
    host.afterRun()
  }

  func finish(_ first: LuaArg, _ second: LuaArg) {
    guard end() else { return }
    host.vm.resume(wait, first, second)
    host.afterRun()
  }

  /// The wait ends in an error.
  func fail(_ value: LuaValue) {
    guard end() else { return }
    host.vm.raise(in: wait, value)
    host.afterRun()
  }

  private func end() -> Bool {
    guard isWaiting, !host.isClosed else { return false }
    isWaiting = false
    giveUp = nil
    host.waits[wait] = nil
    return true
  }

  /// The task was cancelled while it waited.
  func abandon() {
    guard isWaiting else { return }
    isWaiting = false
    giveUp?()
    giveUp = nil
  }
}

extension ScriptHost {
  /// Begins the wait of a call, which then returns `.wait`.
  func wait(_ wait: LuaWait) -> Waiter {
    let waiter = Waiter(wait, self)
    waits[wait] = waiter
    return waiter
  }

  /// Runs a callback as a task of its own, whose failure is reported.
  /// - Parameter answer: gets what it returned; nil where it failed.
  func startCallback(
    _ function: LuaRef, arguments: [LuaValue], generation: Generation, pipe: PipeFace? = nil, place: String,
    ended: (() -> Void)? = nil, answer: (([LuaValue]?) -> Void)? = nil
  ) {
    whenIdle {
      guard !self.isClosed else { return }
      let run = CallbackRun(host: self, generation: generation, pipe: pipe, place: place, ended: ended, answer: answer)
      let status = self.vm.start(function, arguments: arguments, tag: run.tag, wantsResults: answer != nil)
      if status == .waiting { run.task = self.vm.lastTask }
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
  private let answer: (([LuaValue]?) -> Void)?
  private(set) var tag: UInt64 = 0
  /// While it waits.
  var task: LuaTask = 0

  init(
    host: ScriptHost, generation: Generation, pipe: PipeFace?, place: String, ended: (() -> Void)?,
    answer: (([LuaValue]?) -> Void)?
  ) {
    self.host = host
    self.generation = generation
    self.pipe = pipe
    self.place = place
    self.ended = ended
    self.answer = answer
    super.init()
    tag = host.register(self)
    generation.add(self)
  }

  override var origin: Generation? { generation }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    guard tag != 0 else { return }
    host.unregister(tag)
    tag = 0
    if case .failure(let failure) = result { generation.report(failure, pipe: pipe, in: place) }
    generation.remove(self)
    if let answer {
      let values = try? result.get()
      answer(values)
      for value in values ?? [] { OptionReader.release(value, host.vm) }
    }
    ended?()
    host.checkQuiet()
  }
}
