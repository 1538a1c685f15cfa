import Dispatch
import Glibc
import Synchronization

/// Writes on a thread of its own: a reader that is slow, or a terminal stopped with Control-S, must not stop the event loop
/// and with it every pipe's keep-alive. Over ``limit`` it says so, and whoever puts waits.
package final class OutputQueue: Sendable {
  private struct State {
    var bytes = 0
    var somebodyWaits = false
    var failure: Int32 = 0
  }

  private let state = Mutex(State())
  private let queue = DispatchQueue(label: "p2pd.output")
  private let write: @Sendable ([UInt8]) -> Bool
  private let drained: @Sendable () -> Void
  private let failed: @Sendable (Int32) -> Void

  /// - Parameters:
  ///   - write: puts out all bytes; false with errno set when that failed.
  ///   - drained: called, on this queue's thread, when there is room again after ``isFull`` was true.
  ///   - failed: called once with the error number of the first write that failed.
  package init(
    write: @escaping @Sendable ([UInt8]) -> Bool, drained: @escaping @Sendable () -> Void,
    failed: @escaping @Sendable (Int32) -> Void
  ) {
    self.write = write
    self.drained = drained
    self.failed = failed
  }

  /// Everything put before is out.
  package var isEmpty: Bool { state.withLock { $0.bytes == 0 } }

  /// More is queued than should be. Whoever sees true gets ``drained`` later.
  package var isFull: Bool {
    state.withLock {
      guard $0.bytes > Self.limit else { return false }
      $0.somebodyWaits = true
      return true
    }
  }

  package func put(_ bytes: [UInt8]) {
    state.withLock { $0.bytes += bytes.count }
    queue.async { self.write(bytes) }
  }

  /// Calls back when everything put before is out, or cannot get out.
  package func whenEmpty(_ done: @escaping @Sendable () -> Void) {
    queue.async(execute: done)
  }

  private func write(_ bytes: [UInt8]) {
    let isBroken = state.withLock { $0.failure != 0 }
    let failure = isBroken || write(bytes) ? 0 : errno
    let (isFirstFailure, wakes) = state.withLock {
      $0.bytes -= bytes.count
      if failure != 0 { $0.failure = failure }
      let wakes = $0.somebodyWaits && $0.bytes <= Self.limit / 2
      if wakes { $0.somebodyWaits = false }
      return (failure != 0, wakes)
    }
    if isFirstFailure { failed(failure) }
    if wakes { drained() }
  }

  private static let limit = 1 << 20
}
