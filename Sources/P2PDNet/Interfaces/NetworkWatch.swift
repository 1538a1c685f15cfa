import CNet
import Glibc
import Synchronization

/// Where ``InterfaceMonitor`` learns that something changed and what the tables say then. The kernel's is
/// ``NetlinkWatch``; tests hand in their own. All callbacks may come on any thread.
protocol NetworkWatch: Sendable {
  /// Called once after each ``read(_:)`` at most: something may have changed since.
  func start(changed: @escaping @Sendable () -> Void) throws(NetError)
  /// Reads the tables, and from then on listens for the next change.
  func read(_ done: @escaping @Sendable (Result<NetworkSnapshot, NetError>) -> Void)
  /// No callback but this one follows.
  func stop(_ done: @escaping @Sendable () -> Void)
}

/// rtnetlink's multicast groups, heard by one thread that sleeps in poll(2). What a message says is not looked at: any of
/// them, and the loss of some (ENOBUFS), means only "read the tables again", so nothing can be missed or misread.
final class NetlinkWatch: NetworkWatch {
  private struct State {
    var readers: [@Sendable (Result<NetworkSnapshot, NetError>) -> Void] = []
    var stops: [@Sendable () -> Void] = []
    var isRunning = false
    var isStopping = false
  }

  private let socket: NetlinkSocket
  private let wake: CInt
  private let state = Mutex(State())

  /// Opened in the calling thread's network namespace.
  init() throws(NetError) {
    let wake = cnet_wake_open()
    guard wake >= 0 else { throw NetError(errno: 0 &- wake, "watch the interfaces") }
    do {
      socket = try NetlinkSocket(groups: cnet_netlink_change_groups())
    } catch {
      close(wake)
      throw error
    }
    self.wake = wake
  }

  deinit { close(wake) }

  func start(changed: @escaping @Sendable () -> Void) throws(NetError) {
    state.withLock { $0.isRunning = true }
    do {
      try BlockingThread.run(name: "p2pd-ifs") { self.run(changed) }
    } catch {
      state.withLock { $0.isRunning = false }
      throw error
    }
  }

  func read(_ done: @escaping @Sendable (Result<NetworkSnapshot, NetError>) -> Void) {
    let accepted = state.withLock { state in
      guard state.isRunning, !state.isStopping else { return false }
      state.readers.append(done)
      return true
    }
    if accepted { signal() }
  }

  func stop(_ done: @escaping @Sendable () -> Void) {
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
  private func run(_ changed: @Sendable () -> Void) {
    var isListening = true
    while true {
      // Between telling of a change and the next reading the socket rests: what arrives meanwhile is read then.
      var items = [
        pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
        pollfd(fd: isListening ? socket.descriptor : -1, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&items, 2, -1) > 0 else { continue }
      if items[0].revents != 0 {
        var count: UInt64 = 0
        _ = Glibc.read(wake, &count, MemoryLayout<UInt64>.size)
      }
      let (readers, isStopping) = state.withLock { state in
        defer { state.readers = [] }
        return (state.readers, state.isStopping)
      }
      if isStopping { break }
      if !readers.isEmpty {
        // Emptied first: whatever changes after this line is told as a new change.
        drain()
        let result = Result { () throws(NetError) in try NetworkSnapshot.current() }
        for reader in readers { reader(result) }
        isListening = true
      } else if isListening, items[1].revents != 0 {
        isListening = false
        changed()
      }
    }
    let stops = state.withLock { state in
      state.isRunning = false
      state.readers = []
      defer { state.stops = [] }
      return state.stops
    }
    for stop in stops { stop() }
  }

  private func drain() {
    for _ in 0..<Self.drainLimit {
      switch socket.receive(timeoutMilliseconds: 0) {
      case .nothing, .failed: return
      case .datagram, .lost, .foreign: continue
      }
    }
  }

  /// Datagrams. Many more than a socket's buffer holds; it ends the loop on a host whose routes change without pause.
  private static let drainLimit = 10_000
}
