import CNet
import Glibc
import Synchronization

/// A thread that sleeps in poll(2) until a descriptor of the kernel has something to tell or work is handed to it: for
/// what no event loop reads (rtnetlink, inotify), and for the blocking calls that belong to it.
package final class DescriptorThread: Sendable {
  private struct State {
    var work: [@Sendable () -> Void] = []
    var stops: [@Sendable () -> Void] = []
    var isRunning = false
    var isStopping = false
  }

  private let wake: CInt
  private let state = Mutex(State())

  package init() throws(NetError) {
    wake = cnet_wake_open()
    guard wake >= 0 else { throw NetError(errno: 0 &- wake, "open an eventfd") }
  }

  deinit { close(wake) }

  /// Starts the thread.
  /// - Parameters:
  ///   - name: at most 15 bytes are kept.
  ///   - descriptor: open until the thread has stopped; -1 where there is only work to do.
  ///   - readable: called on the thread when the descriptor can be read. False: the descriptor rests until some work was done.
  package func start(
    name: String, descriptor: CInt, readable: @escaping @Sendable () -> Bool
  ) throws(NetError) {
    state.withLock { $0.isRunning = true }
    do {
      try BlockingThread.run(name: name) { self.run(descriptor, readable) }
    } catch {
      state.withLock { $0.isRunning = false }
      throw error
    }
  }

  /// Has the thread call `work`; where it does not run or shall stop, nothing is called. Whoever hands out work bounds it.
  package func perform(_ work: @escaping @Sendable () -> Void) {
    let accepted = state.withLock { state in
      guard state.isRunning, !state.isStopping else { return false }
      state.work.append(work)
      return true
    }
    if accepted { signal() }
  }

  /// Ends the thread after what it does now; work that has not begun is dropped. `done` is its last call, or comes at once
  /// where it does not run.
  package func stop(_ done: @escaping @Sendable () -> Void) {
    let isRunning = state.withLock { state in
      guard state.isRunning else { return false }
      state.isStopping = true
      state.stops.append(done)
      return true
    }
    if isRunning { signal() } else { done() }
  }

  private func signal() {
    var one: UInt64 = 1
    // Fails only when the counter is full, and then the thread is awake anyway.
    _ = write(wake, &one, MemoryLayout<UInt64>.size)
  }

  /// The thread's whole life.
  private func run(_ descriptor: CInt, _ readable: @Sendable () -> Bool) {
    var isListening = true
    while true {
      var items = [
        pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
        pollfd(fd: isListening ? descriptor : -1, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&items, 2, -1) > 0 else { continue }
      if items[0].revents != 0 {
        var count: UInt64 = 0
        _ = read(wake, &count, MemoryLayout<UInt64>.size)
      }
      let (work, isStopping) = state.withLock { state in
        defer { state.work = [] }
        return (state.work, state.isStopping)
      }
      if isStopping { break }
      if !work.isEmpty {
        for item in work { item() }
        isListening = true
      } else if isListening, items[1].revents != 0 {
        isListening = readable()
      }
    }
    let stops = state.withLock { state in
      state.isRunning = false
      state.work = []
      defer { state.stops = [] }
      return state.stops
    }
    for stop in stops { stop() }
  }
}
