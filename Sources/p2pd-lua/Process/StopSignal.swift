import Synchronization

/// The first signal, for whoever awaits it.
final class StopSignal: Sendable {
  private struct State {
    var signal: Int32?
    var waiter: CheckedContinuation<Int32, Never>?
  }
  private let state = Mutex(State())

  func signalled(_ number: Int32) {
    let waiter = state.withLock { state -> CheckedContinuation<Int32, Never>? in
      guard state.signal == nil else { return nil }
      state.signal = number
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(returning: number)
  }

  var received: Int32? { state.withLock { $0.signal } }

  /// One waiter at a time.
  func wait() async -> Int32 {
    await withCheckedContinuation { continuation in
      let number = state.withLock { state -> Int32? in
        if state.signal == nil { state.waiter = continuation }
        return state.signal
      }
      if let number { continuation.resume(returning: number) }
    }
  }
}
