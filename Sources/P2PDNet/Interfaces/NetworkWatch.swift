import CNet

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
  private let socket: NetlinkSocket
  private let thread: DescriptorThread

  /// Opened in the calling thread's network namespace.
  init() throws(NetError) {
    thread = try DescriptorThread()
    socket = try NetlinkSocket(groups: cnet_netlink_change_groups())
  }

  func start(changed: @escaping @Sendable () -> Void) throws(NetError) {
    // Held by the thread, and with it the socket, until it stops.
    let watch = self
    try thread.start(name: "p2pd-ifs", descriptor: socket.descriptor) {
      withExtendedLifetime(watch) { changed() }
      // Until the next reading the socket rests: what arrives meanwhile is read then.
      return false
    }
  }

  func read(_ done: @escaping @Sendable (Result<NetworkSnapshot, NetError>) -> Void) {
    thread.perform { [self] in
      // Emptied first: whatever changes after this line is told as a new change.
      drain()
      done(Result { () throws(NetError) in try NetworkSnapshot.current() })
    }
  }

  func stop(_ done: @escaping @Sendable () -> Void) { thread.stop(done) }

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
