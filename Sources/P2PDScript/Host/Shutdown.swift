import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

extension ScriptHost {
  /// Ends the scripts in good order: no new pipes, `M.stop`, the open pipes flushed and closed (their `end_cb`s get
  /// `local`), handlers in flight waited for; after the deadline they are cancelled. Then the VM is closed. A second
  /// call only waits for the first.
  public func shutdown(deadline: TimeAmount) async {
    let done = loop.makePromise(of: Void.self)
    loop.execute {
      guard !self.isClosed else { return done.succeed(()) }
      self.shutdownWaiters.append { done.succeed(()) }
      guard !self.isShuttingDown else { return }
      self.isShuttingDown = true
      for call in self.stagedCalls.values { call.kill("the node ends") }
      for hosted in self.hosted { hosted.endProbation() }
      let all = Array(self.generations.values)
      for generation in all where generation.phase == .live {
        if let stop = generation.stopCallback {
          self.startCallback(stop, arguments: [], generation: generation, place: "stop")
        }
      }
      self.wind(down: all, deadline: deadline, reason: "the node ends") {
        self.close()
        let waiters = self.shutdownWaiters
        self.shutdownWaiters = []
        for waiter in waiters { waiter() }
      }
    }
    try? await done.futureResult.get()
  }

  /// Ends timers, tasks, pipes and nodes of some generations, waits for their callbacks, at most until the deadline.
  func wind(down ending: [Generation], deadline: TimeAmount, reason: String, then: @escaping () -> Void) {
    for generation in ending { generation.isEnding = true }
    for generation in ending {
      generation.cancelTimers()
      for face in faces(of: generation) { _ = face.pipe.close(flush: deadline) }
    }
    let nodes = ending.flatMap { $0.openNodes }.map { $0.close(flush: deadline) } + ending.flatMap { $0.closeRelays() }
    var isOver = false
    quietTickets += 1
    let ticket = quietTickets
    let finish = {
      guard !isOver else { return }
      isOver = true
      self.quietChecks[ticket] = nil
      for generation in ending { generation.retire(reason) }
      // Cancelled tasks run their <close> handlers now, then the references go.
      self.loop.assumeIsolated().execute { then() }
    }
    let limit = loop.assumeIsolated().scheduleTask(in: deadline) { finish() }
    var nodesClosed = nodes.isEmpty
    let check = {
      guard nodesClosed, ending.allSatisfy({ $0.runs.isEmpty }), ending.allSatisfy({ self.faces(of: $0).isEmpty })
      else {
        return false
      }
      limit.cancel()
      finish()
      return true
    }
    quietChecks[ticket] = check
    EventLoopFuture.andAllComplete(nodes, on: loop).assumeIsolated().whenComplete { _ in
      nodesClosed = true
      self.checkQuiet()
    }
    // Tasks have no part in an orderly end: they are cancelled now, so that a loop in `start` does not hold it up.
    for generation in ending { generation.cancelTasks(reason) }
    checkQuiet()
  }

  /// The open pipes that end with a generation.
  private func faces(of generation: Generation) -> [PipeFace] {
    let opened = generation.openPipes
    guard let hosted = generation.hosted, hosted.current === generation else { return opened }
    return opened + hosted.slot.pipes.values
  }

  /// A callback or pipe has ended: maybe that was the last one waited for.
  func checkQuiet() {
    guard !quietChecks.isEmpty else { return }
    whenIdle {
      for check in Array(self.quietChecks.values) { _ = check() }
    }
  }
}
