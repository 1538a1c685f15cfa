import LuaVM
import NIOCore
import P2PDNet

/// Making way for another generation.
extension Generation {
  /// What `start` and the top level began, and nodes of its own: they end as soon as another generation serves.
  func endService() {
    let service = tasks.values.filter(\.isService)
    for task in service { task.cancel(code: ReloadOptions.code, reason: ReloadOptions.reason) }
    for node in openNodes { node.close(flush: Self.flush) }
    guard !service.isEmpty else { return }
    host.loop.assumeIsolated().scheduleTask(in: host.options.reload.grace) {
      if !self.host.isClosed { for task in service { task.kill(ReloadOptions.reason) } }
    }
  }

  /// The waits of whatever still runs fail with the code `reloaded`.
  func cancelInFlight() {
    for task in Array(tasks.values) { task.cancel(code: ReloadOptions.code, reason: ReloadOptions.reason) }
    for session in Array(sessions.values) { session.unwind() }
    for task in callbacksInFlight { host.vm.cancel(task, code: ReloadOptions.code, reason: ReloadOptions.reason) }
  }

  /// It had its time.
  func killInFlight() {
    for task in Array(tasks.values) { task.kill(ReloadOptions.reason) }
    for task in callbacksInFlight { host.vm.kill(task, reason: ReloadOptions.reason) }
  }

  private var callbacksInFlight: [LuaTask] {
    var found = runs.values.map(\.task).filter { $0 != 0 }
    if inFlight > 0 {
      let faces = Array(pipes.values) + (hosted.map { Array($0.slot.pipes.values) } ?? [])
      for face in faces where face.waiting === self { found += host.vm.tasks(tag: face.tag) }
    }
    return found
  }

  /// What is queued on pipes and nodes that end with it gets this time to leave.
  static let flush = TimeAmount.seconds(2)
}
