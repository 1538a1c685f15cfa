import Glibc
import NIOCore
import Synchronization

/// A world's time, which only passes when nobody has anything to do: one thread runs what is ready, in order, and when
/// nothing is, the clock jumps to the next timer. Half a minute of protocol takes milliseconds, and takes the same way
/// each time. The loops of a world (``makeLoop(network:)``) share it, and with it their thread.
///
/// Work that leaves the thread must hold the clock meanwhile (``holdClock()``), or time passes without it.
public final class VirtualTime: @unchecked Sendable {
  private let clock: Atomic<UInt64>
  private let signal = Signal()

  // Guarded by the signal's lock.
  private var ready = CircularBuffer<() -> Void>()
  private var timers = TimerHeap()
  private var holds = 0
  private var isStopped = false
  /// Written by the thread itself before anybody else sees the world.
  private var thread: pthread_t?

  /// Starts the thread. The clock begins at 1000 s, so that there is a time before.
  /// - Throws: ``NetError`` where the system gives no thread.
  public init() throws {
    clock = Atomic(Self.beginning)
    try BlockingThread.run(name: "p2pd-virtual", stackSize: Self.stackSize) { [self] in run() }
    signal.locked { while thread == nil { signal.wait() } }
  }

  /// The time now.
  public var now: NIODeadline { .uptimeNanoseconds(clock.load(ordering: .relaxed)) }

  /// Whether the caller is this world's thread.
  public var isCurrent: Bool { thread == pthread_self() }

  /// Something that is not on the thread is under way and will come back to it: the clock stands still meanwhile.
  public func holdClock() { signal.locked { holds += 1 } }

  /// Takes back one ``holdClock()``.
  public func releaseClock() {
    signal.locked {
      holds -= 1
      signal.wake()
    }
  }

  /// Timers that are set.
  public var timerCount: Int { signal.locked { timers.count } }

  /// Ends the thread after what is ready. Timers that are left fail with `EventLoopError.shutdown`.
  public func stop() {
    signal.locked {
      isStopped = true
      signal.wake()
    }
  }

  // MARK: For the loops

  func execute(_ task: @escaping () -> Void) {
    signal.locked {
      ready.append(task)
      signal.wake()
    }
  }

  /// False when the world has ended.
  func set(_ timer: LoopTimer) -> Bool {
    signal.locked {
      guard !isStopped else { return false }
      timers.insert(timer)
      signal.wake()
      return true
    }
  }

  func cancel(_ timer: LoopTimer) {
    // What it held goes after the lock: its end may want to cancel others.
    let fire = signal.locked {
      timers.remove(timer)
      return timer.fire
    }
    if isCurrent { timer.fire = nil }
    withExtendedLifetime(fire) {}
  }

  /// On the thread: runs `body` at that time; the answer cancels it.
  @discardableResult
  func after(_ delay: TimeAmount, _ body: @escaping () -> Void) -> LoopTimer {
    let timer = LoopTimer(now + delay) { error in if error == nil { body() } }
    _ = set(timer)
    return timer
  }

  // MARK: The thread

  private func run() {
    signal.locked {
      thread = pthread_self()
      signal.wake()
    }
    while let task = next() { task() }
    while let timer = signal.locked({ timers.popFirst() }) { Self.fire(timer, EventLoopError.shutdown) }
    while let task = signal.locked({ ready.popFirst() }) { task() }
  }

  /// What is to run now; waits for it. nil at the end.
  private func next() -> (() -> Void)? {
    signal.locked {
      while true {
        if let task = ready.popFirst() { return task }
        if isStopped { return nil }
        if let due = timers.first, due <= now || holds == 0 {
          if due > now { clock.store(due.uptimeNanoseconds, ordering: .relaxed) }
          if let timer = timers.popFirst() { return { Self.fire(timer, nil) } }
        }
        signal.wait()
      }
    }
  }

  private static func fire(_ timer: LoopTimer, _ error: (any Error)?) {
    let fire = timer.fire
    timer.fire = nil
    fire?(error)
  }

  /// Bytes. Scripts and TLS run on this thread.
  private static let stackSize = 8 << 20
  private static let beginning: UInt64 = 1_000_000_000_000
}

/// A lock, and a way to wait for what it guards.
private final class Signal: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  func locked<T>(_ body: () throws -> T) rethrows -> T {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Under the lock: lets it go until somebody wakes.
  func wait() { pthread_cond_wait(condition, mutex) }
  func wake() { pthread_cond_broadcast(condition) }
}
