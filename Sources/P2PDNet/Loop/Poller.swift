import CNet
import Glibc
import NIOCore

/// epoll(7) with an eventfd(2) to wake it and a timerfd(2) that rings at a time far enough away: a wait with a timeout of its
/// own costs the kernel a timer each time. The events of one wait are told to ``KernelTransport``s by pointer: there is
/// nothing to look up, and the loop keeps whatever was closed meanwhile until the events of that wait are through.
struct Poller: ~Copyable {
  private let poller: CInt
  private let wakeUp: CInt
  private let alarm: CInt
  private let events: UnsafeMutablePointer<epoll_event>

  init() throws(NetError) {
    let poller = cnet_poll_open()
    guard poller >= 0 else { throw NetError(errno: 0 &- poller, "start an event loop") }
    let wakeUp = cnet_wake_open()
    let alarm = cnet_alarm_open()
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.room)
    var number = min(wakeUp, alarm, 0)
    // Edge-triggered: each write, and each ring, is one event, and nobody needs to read the counters.
    let flags = EPOLLIN.rawValue | EPOLLET.rawValue
    if number == 0 { number = cnet_poll_control(poller, EPOLL_CTL_ADD, wakeUp, flags, nil) }
    if number == 0 { number = cnet_poll_control(poller, EPOLL_CTL_ADD, alarm, flags, events) }
    guard number == 0 else {
      for descriptor in [poller, wakeUp, alarm] where descriptor >= 0 { Glibc.close(descriptor) }
      events.deallocate()
      throw NetError(errno: 0 &- number, "start an event loop")
    }
    self.poller = poller
    self.wakeUp = wakeUp
    self.alarm = alarm
    self.events = events
  }

  deinit {
    Glibc.close(poller)
    Glibc.close(wakeUp)
    Glibc.close(alarm)
    events.deallocate()
  }

  /// Callable from any thread while the poller lives.
  borrowing func wake() {
    var one: UInt64 = 1
    // Fails only when the counter is full, which takes centuries.
    _ = write(wakeUp, &one, MemoryLayout<UInt64>.size)
  }

  /// The next waits end at this time, the latest one set. False where the kernel refuses it.
  borrowing func ring(at time: NIODeadline) -> Bool { cnet_alarm_set(alarm, time.uptimeNanoseconds) == 0 }

  /// Waits, negative for ever, and tells what is ready; streams join `batch` where there is more than one. True: the alarm
  /// rang.
  @inline(__always)
  borrowing func wait(nanoseconds: Int64, _ batch: StreamBatch) -> Bool {
    var hasRung = false
    let count = Int(cnet_poll_wait(poller, events, CInt(Self.room), nanoseconds))
    var index = 0
    while index < count {
      let event = events + index
      index &+= 1
      guard let object = cnet_event_object(event) else { continue }
      if object == UnsafeMutableRawPointer(events) {
        hasRung = true
        continue
      }
      let flags = cnet_event_flags(event)
      // Alive: the loop holds every transport that has been added, until after this wait if it is closed within it.
      Unmanaged<KernelTransport>.fromOpaque(object)._withUnsafeGuaranteedRef { transport in
        guard transport.descriptor >= 0 else { return }
        if count > 1, transport.join(batch, flags) { return }
        batch.handOut()
        transport.ready(flags)
      }
    }
    batch.handOut()
    return hasRung
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
