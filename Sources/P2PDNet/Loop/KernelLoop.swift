import CNet
import Dispatch
import Glibc
import NIOCore

/// An event loop on the kernel's sockets: one thread that waits in epoll(7), reads and writes what is ready, and runs
/// timers and tasks.
///
/// swift-nio's futures, promises and timers work on it as on swift-nio's own loops, and async code can run on it as on an
/// executor. What it leaves out is swift-nio's channels: a channel's pipeline costs more per small message than all
/// of the rest of this program.
///
/// Each turn does a bounded share of each kind of work: the sockets that were ready when it asked, one read each; the
/// tasks that were queued when it began; a number of due timers.
public final class KernelLoop: NetworkLoop, NIOSerialEventLoopExecutor, @unchecked Sendable {
  /// Shown by tools like top(1), which cut it to 15 bytes.
  public let name: String
  private let thread = ThreadNumber()
  private let poller: Poller
  private let remote = RemoteWork()

  // Confined to the loop.
  private var local = CircularBuffer<LoopWork>(initialCapacity: 64)
  private var timers = TimerHeap()
  /// When the poller's alarm will ring: no timer from then on needs a look at the clock before it does.
  private var alarm = NIODeadline.distantFuture
  private var transports: ContiguousArray<KernelTransport> = []
  /// Closed or let go in this turn: the events in hand may still point at them, and callers up the stack be in them.
  private var leaving: ContiguousArray<AnyObject> = []
  private var phase = Phase.running
  /// Where all bytes arrive; valid until the next read.
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: readSize, alignment: 4096)
  /// Streams that are ready together.
  let batch: StreamBatch
  /// The datagrams of the socket that is being read.
  let datagrams: DatagramBatch

  private enum Phase { case running, stopping, over }
  /// Who is to be told of the end.
  private var stopWaiters: [@Sendable () -> Void] = []

  public var network: any Network { self }

  /// Starts a loop on a thread of its own, in the network namespace of the calling thread. It runs until
  /// ``shutdownGracefully(queue:_:)``.
  public static func start(name: String) throws(NetError) -> KernelLoop {
    let loop = try KernelLoop(name)
    let started = DispatchSemaphore(value: 0)
    try BlockingThread.run(name: String(name.utf8.prefix(15)) ?? "p2pd-loop", stackSize: stackSize) {
      loop.thread.number = pthread_self()
      started.signal()
      loop.run()
    }
    started.wait()
    return loop
  }

  private init(_ name: String) throws(NetError) {
    self.name = name
    poller = try Poller()
    batch = StreamBatch(reading: readBuffer)
    datagrams = DatagramBatch(reading: readBuffer)
  }

  deinit {
    readBuffer.deallocate()
    datagrams.free()
  }

  // MARK: Turns

  private func run() {
    while true {
      runTimers()
      remote.take { local.append($0) }
      runTasks()
      forget()
      if poller.wait(nanoseconds: patience(), batch) { alarm = .distantFuture }
      forget()
      if phase == .stopping { return end() }
    }
  }

  /// Nothing points at what has left any more.
  @inline(__always)
  private func forget() {
    while !leaving.isEmpty {
      // Taken out first, since what is freed may let go of more.
      let gone = leaving
      leaving = []
      withExtendedLifetime(gone) {}
    }
  }

  /// How long the loop may sleep, in nanoseconds; negative until something comes or the alarm rings.
  private func patience() -> Int64 {
    if !local.isEmpty || remote.hasWork || phase == .stopping { return 0 }
    guard let first = timers.first, first < alarm else { return -1 }
    let left = (first - now).nanoseconds
    guard left > Self.alarmFrom, poller.ring(at: first) else { return max(0, left) }
    alarm = first
    return -1
  }

  private func runTimers() {
    guard let first = timers.first, first < alarm else { return }
    let time = now
    for _ in 0..<Self.timersPerTurn {
      guard let timer = timers.popDue(time) else { return }
      let fire = timer.fire
      timer.fire = nil
      fire?(nil)
    }
  }

  private func runTasks() {
    // Those that are queued meanwhile wait for the next turn.
    for _ in 0..<min(local.count, Self.tasksPerTurn) {
      guard let work = local.popFirst() else { return }
      run(work)
    }
  }

  private func run(_ work: LoopWork) {
    switch work {
    case .task(let body): body()
    case .job(let job): job.runSynchronously(on: asUnownedSerialExecutor())
    }
  }

  // MARK: Tasks and timers

  @inline(__always)
  public var inEventLoop: Bool { thread.isCurrent }

  /// Not cached: a handler may take long, and what it starts must not be late from the beginning.
  public var now: NIODeadline { .now() }  // clock: this is where every other part gets its time from

  public func execute(_ task: @escaping @Sendable () -> Void) { _ = push(.task(task)) }

  public func enqueue(_ job: consuming ExecutorJob) { _ = push(.job(UnownedJob(job))) }

  /// False after the loop's end.
  private func push(_ work: LoopWork) -> Bool {
    if inEventLoop {
      if phase == .over { return false }
      local.append(work)
      return true
    }
    switch remote.push(work) {
    case .queued: return true
    case .wake:
      poller.wake()
      return true
    case .closed: return false
    }
  }

  public func submit<T>(_ task: @escaping @Sendable () throws -> T) -> EventLoopFuture<T> {
    let promise = makePromise(of: T.self)
    let isTaken = push(
      .task {
        do { promise.assumeIsolated().succeed(try task()) } catch { promise.fail(error) }
      })
    if !isTaken { promise.fail(EventLoopError.shutdown) }
    return promise.futureResult
  }

  @discardableResult
  public func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
    scheduleTask(deadline: now + delay, task)
  }

  @discardableResult
  public func scheduleTask<T>(
    deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T
  ) -> Scheduled<T> {
    let promise = makePromise(of: T.self)
    let timer = LoopTimer(deadline) { error in
      if let error { return promise.fail(error) }
      do { promise.assumeIsolated().succeed(try task()) } catch { promise.fail(error) }
    }
    let isTaken = inEventLoop ? set(timer) : push(.task { _ = self.set(timer) })
    if !isTaken {
      timer.fire = nil
      promise.fail(EventLoopError.shutdown)
    }
    return Scheduled(promise: promise, cancellationTask: { [weak self] in self?.cancel(timer) })
  }

  /// A timer without a future; on the loop only.
  func after(_ delay: TimeAmount, _ body: @escaping () -> Void) -> LoopTimer {
    let timer = LoopTimer(now + delay) { error in if error == nil { body() } }
    _ = set(timer)
    return timer
  }

  func cancel(_ timer: LoopTimer) {
    guard inEventLoop else {
      _ = push(.task { self.cancel(timer) })
      return
    }
    timers.remove(timer)
    timer.fire = nil
  }

  private func set(_ timer: LoopTimer) -> Bool {
    if phase == .over {
      timer.fire?(EventLoopError.shutdown)
      timer.fire = nil
      return true
    }
    timers.insert(timer)
    return true
  }

  // MARK: Transports

  /// Holds the transport until ``release(_:)``.
  func adopt(_ transport: KernelTransport) {
    transport.place = transports.count
    transports.append(transport)
  }

  /// Lets the transport go and closes its descriptor.
  func release(_ transport: KernelTransport) {
    let place = transport.place
    guard transports.indices.contains(place), transports[place] === transport else { return }
    keep(transport)
    let last = transports.removeLast()
    if last !== transport {
      transports[place] = last
      last.place = place
    }
    transport.place = -1
    // By hand: a child process between fork and exec holds a copy, and then close(2) alone leaves it in the poller.
    if transport.isWatched { poller.remove(transport) }
    Glibc.close(transport.descriptor)
    transport.descriptor = -1
  }

  /// Keeps an object until nothing on the stack can be in it.
  func keep(_ object: AnyObject) { leaving.append(object) }

  /// Asks for these events from now on. False where the kernel has no memory for it.
  func watch(_ transport: KernelTransport, _ flags: UInt32) -> Bool {
    if transport.isWatched { return poller.change(transport, flags) == 0 }
    guard poller.add(transport, flags) == 0 else { return false }
    transport.isWatched = true
    return true
  }

  /// No events any more, not even those of errors.
  func unwatch(_ transport: KernelTransport) {
    guard transport.isWatched else { return }
    poller.remove(transport)
    transport.isWatched = false
  }

  /// What the loop holds at this moment.
  var transportCount: Int { transports.count }
  var timerCount: Int { timers.count }

  // MARK: The end

  /// Ends the loop after its present turn: open transports end with `local`, timers fail, queued tasks run. Nothing runs on it
  /// afterwards, the callbacks of its futures included.
  public func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
    let isTaken = push(
      .task {
        self.stopWaiters.append { queue.async { callback(nil) } }
        if self.phase == .running { self.phase = .stopping }
      })
    if !isTaken { queue.async { callback(nil) } }
  }

  /// Ends what is left: open transports, timers, tasks.
  private func end() {
    for transport in Array(transports) { transport.loopEnds() }
    while let timer = timers.popFirst() {
      let fire = timer.fire
      timer.fire = nil
      fire?(EventLoopError.cancelled)
    }
    // What the ends above caused, and what that causes, within reason.
    for _ in 0..<Self.lastTurns {
      remote.take { local.append($0) }
      if local.isEmpty { break }
      runTasks()
    }
    phase = .over
    for work in remote.close() { run(work) }
    while let work = local.popFirst() { run(work) }
    while let timer = timers.popFirst() { timer.fire?(EventLoopError.shutdown) }
    forget()
    for waiter in stopWaiters { waiter() }
    stopWaiters = []
  }

  /// Bytes one read takes at most: enough to make the system call cheap, small enough for the processor's cache.
  private static let readSize = 256 << 10
  private static let timersPerTurn = 512
  /// Nanoseconds. Setting the alarm costs as much as a few waits that watch the clock themselves.
  private static let alarmFrom: Int64 = 2_000_000
  private static let tasksPerTurn = 4096
  private static let lastTurns = 1000
  /// Bytes. Scripts and TLS run on this thread.
  private static let stackSize = 8 << 20
}

/// Written by the thread itself before anybody else sees the loop.
private final class ThreadNumber: @unchecked Sendable {
  var number = pthread_t()
  @inline(__always) var isCurrent: Bool { number == pthread_self() }
}
