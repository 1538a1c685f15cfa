import LuaVM
import NIOCore
import P2PDNet

/// `M.session` for one pipe: a task that asks the pipe for its messages. When another generation serves it is unwound
/// where it waits in `recv` on that pipe, and begins anew on the other code; what it has not read stays in the pipe.
final class SessionRun: TaskOwner {
  private let face: PipeFace
  private let host: ScriptHost
  private let generation: Generation
  private(set) var tag: UInt64 = 0
  private var task: LuaTask = 0
  /// Its wait in `recv` on its own pipe.
  var receiving: Waiter?
  private var isUnwinding = false
  private var killing: Scheduled<Void>?
  private var isOver = false

  init(_ face: PipeFace) {
    self.face = face
    host = face.host
    generation = face.generation
  }

  override var origin: Generation? { generation }

  /// Begins in the next turn of the loop: what the pipe was about to hand out is in its inbox then.
  func start() {
    generation.add(self)
    host.loop.assumeIsolated().execute { self.host.whenIdle { self.begin() } }
  }

  private func begin() {
    guard !isOver, !host.isClosed, let function = face.handlers.session, let ref = face.pipeRef,
      let door = host.doors?.session, face.generation === generation, generation.phase != .retired
    else { return end(restart: true) }
    tag = host.register(self)
    if host.vm.start(door, .ref(function), .ref(ref), tag: tag) == .waiting, !isOver { task = host.vm.lastTask }
    host.afterRun()
  }

  /// Other code serves the pipe: a session that waits in `recv` ends now, one that does something else when it next
  /// asks for a message.
  func makeWay() {
    if receiving != nil, face.isStale { unwind() }
  }

  /// Asked by `recv` before it looks for a message. True: the task's wait fails, since other code serves.
  func mustMakeWay(_ running: LuaTask) -> Bool {
    guard face.isStale else { return false }
    task = running
    unwind()
    return true
  }

  /// A message came for its `recv`; true: it was given back to the pipe for the other code.
  func gives(back message: Message) -> Bool {
    guard face.isStale else { return false }
    face.pipe.putBack(message)
    unwind()
    return true
  }

  /// Its waits fail with the code `reloaded`; if it does not end then, it is ended.
  func unwind() {
    guard !isUnwinding, !isOver, task != 0 else { return }
    isUnwinding = true
    host.vm.cancel(task, code: ReloadOptions.code, reason: ReloadOptions.reason)
    let host = host, task = task
    killing = host.loop.assumeIsolated().scheduleTask(in: host.options.reload.grace) {
      if !host.isClosed { host.vm.kill(task, reason: ReloadOptions.reason) }
    }
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    host.unregister(tag)
    tag = 0
    self.task = 0
    var isCancelled = false
    if case .failure(let failure) = result {
      if case .cancelled = failure.kind { isCancelled = true }
      generation.report(failure, pipe: face, in: "session", isMessage: true)
    }
    if !isUnwinding, !isCancelled, face.endReason == nil {
      let (pipe, host) = (face.pipe, host)
      host.whenIdle { pipe.close() }
    }
    end(restart: isUnwinding)
  }

  private func end(restart: Bool) {
    guard !isOver else { return }
    isOver = true
    receiving = nil
    killing?.cancel()
    face.sessionEnded(restart: restart && generation.phase != .retired)
    generation.remove(self)
  }
}
