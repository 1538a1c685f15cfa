import CNet
import Glibc

/// epoll(7) with an eventfd(2) to wake it. The events of one wait are told to ``KernelTransport``s by pointer: there is
/// nothing to look up, and the loop keeps whatever was closed meanwhile until the events of that wait are through.
struct Poller: ~Copyable {
  private let poller: CInt
  private let wakeUp: CInt
  private let events: UnsafeMutablePointer<epoll_event>

  init() throws(NetError) {
    let poller = cnet_poll_open()
    guard poller >= 0 else { throw NetError(errno: 0 &- poller, "start an event loop") }
    let wakeUp = cnet_wake_open()
    guard wakeUp >= 0 else {
      Glibc.close(poller)
      throw NetError(errno: 0 &- wakeUp, "start an event loop")
    }
    // Edge-triggered: each write is one event, and nobody needs to read the counter.
    let number = cnet_poll_control(poller, EPOLL_CTL_ADD, wakeUp, EPOLLIN.rawValue | EPOLLET.rawValue, nil)
    guard number == 0 else {
      Glibc.close(poller)
      Glibc.close(wakeUp)
      throw NetError(errno: 0 &- number, "start an event loop")
    }
    self.poller = poller
    self.wakeUp = wakeUp
    events = .allocate(capacity: Self.room)
  }

  deinit {
    Glibc.close(poller)
    Glibc.close(wakeUp)
    events.deallocate()
  }

  /// Callable from any thread while the poller lives.
  borrowing func wake() {
    var one: UInt64 = 1
    // Fails only when the counter is full, which takes centuries.
    _ = write(wakeUp, &one, MemoryLayout<UInt64>.size)
  }

  /// Waits, negative for ever, and tells what is ready.
  @inline(__always)
  borrowing func wait(nanoseconds: Int64) {
    let count = Int(cnet_poll_wait(poller, events, CInt(Self.room), nanoseconds))
    var index = 0
    while index < count {
      let event = events + index
      index &+= 1
      guard let object = cnet_event_object(event) else { continue }
      let flags = cnet_event_flags(event)
      // Alive: the loop holds every transport that has been added, until after this wait if it is closed within it.
      Unmanaged<KernelTransport>.fromOpaque(object)._withUnsafeGuaranteedRef { transport in
        if transport.descriptor >= 0 { transport.ready(flags) }
      }
    }
  }

  borrowing func add(_ transport: KernelTransport, _ flags: UInt32) -> CInt {
    control(EPOLL_CTL_ADD, transport, flags)
  }

  borrowing func change(_ transport: KernelTransport, _ flags: UInt32) -> CInt {
    control(EPOLL_CTL_MOD, transport, flags)
  }

  borrowing func remove(_ transport: KernelTransport) { _ = control(EPOLL_CTL_DEL, transport, 0) }

  private borrowing func control(_ how: CInt, _ transport: KernelTransport, _ flags: UInt32) -> CInt {
    0
      &- cnet_poll_control(
        poller, how, transport.descriptor, flags, Unmanaged.passUnretained(transport).toOpaque())
  }

  /// Events taken at a time; tasks and timers get their turn between.
  private static let room = 128
}
