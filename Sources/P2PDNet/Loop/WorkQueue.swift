import Synchronization

/// What a loop is asked to run. Whoever hands it over has seen to it that it may cross to the loop's thread.
enum LoopWork: @unchecked Sendable {
  case task(() -> Void)
  /// A piece of an async function.
  case job(UnownedJob)
}

/// Work that other threads hand to a loop.
final class RemoteWork: Sendable {
  private struct State {
    var work: [LoopWork] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  /// Something waits, and the loop was woken for it or looks anyway.
  private let isPending = Atomic(false)

  enum Pushed { case queued, wake, closed }

  /// `wake`: the loop has to be woken, since nobody else has done so.
  func push(_ work: LoopWork) -> Pushed {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.work.append(work) }
      return state.isClosed
    }
    if isClosed { return .closed }
    // After the append: a loop that has cleared the mark before takes the work, or is woken for it.
    return isPending.exchange(true, ordering: .sequentiallyConsistent) ? .queued : .wake
  }

  /// What came since the last time; costs one load when nothing did.
  @inline(__always)
  func take(_ body: (LoopWork) -> Void) {
    guard hasWork else { return }
    isPending.store(false, ordering: .sequentiallyConsistent)
    for item in taken() { body(item) }
  }

  @inline(__always)
  var hasWork: Bool { isPending.load(ordering: .sequentiallyConsistent) }

  /// Nothing is taken any more; answers what was left.
  func close() -> [LoopWork] {
    state.withLock { $0.isClosed = true }
    return taken()
  }

  private func taken() -> [LoopWork] {
    state.withLock { state in
      defer { state.work = [] }
      return state.work
    }
  }
}
