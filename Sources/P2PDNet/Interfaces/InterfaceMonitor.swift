import NIOCore

/// Tells when this host's interfaces, addresses or default routes change. The kernel's messages wake a thread of their
/// own; timers and callbacks are on the event loop, which never waits for the kernel.
///
/// Changes come in bursts (a cable plugged in is a dozen messages), so the tables are read once, some time after the
/// first message, and compared with the reading before.
public final class InterfaceMonitor: @unchecked Sendable {  // confined to its event loop
  public typealias Handler = @Sendable (_ events: [InterfaceEvent], _ now: NetworkSnapshot) -> Void

  public let eventLoop: any EventLoop
  /// The latest reading, the one that the latest events led to.
  public private(set) var snapshot: NetworkSnapshot
  /// Readings that failed since the last one that did not; a failed reading is tried again.
  public private(set) var failures = 0

  private let watch: any NetworkWatch
  private let debounce: TimeAmount
  private let handler: Handler
  private var timer: Scheduled<Void>?
  private var isStopped = false
  private let stopped: EventLoopPromise<Void>

  /// Starts watching the network namespace of the calling thread, which may be any; the future has the monitor with
  /// its first reading.
  /// - Parameters:
  ///   - debounce: how long after the first sign of a change the tables are read.
  ///   - handler: called on `loop` with at least one event.
  public static func start(
    on loop: any EventLoop, debounce: TimeAmount = defaultDebounce, handler: @escaping Handler
  ) -> EventLoopFuture<InterfaceMonitor> {
    do {
      return start(on: loop, watch: try NetlinkWatch(), debounce: debounce, handler: handler)
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  static func start(
    on loop: any EventLoop, watch: any NetworkWatch, debounce: TimeAmount, handler: @escaping Handler
  ) -> EventLoopFuture<InterfaceMonitor> {
    let promise = loop.makePromise(of: InterfaceMonitor.self)
    let monitor = InterfaceMonitor(loop, watch, debounce, handler)
    do {
      try watch.start { [weak monitor] in
        guard let monitor else { return }
        loop.execute { monitor.receivedChange() }
      }
    } catch {
      monitor.stopped.succeed()
      promise.fail(error)
      return promise.futureResult
    }
    watch.read { result in
      loop.execute {
        switch result {
        case .success(let snapshot):
          monitor.snapshot = snapshot
          promise.succeed(monitor)
        case .failure(let error):
          monitor.stop().whenComplete { _ in promise.fail(error) }
        }
      }
    }
    return promise.futureResult
  }

  private init(_ loop: any EventLoop, _ watch: any NetworkWatch, _ debounce: TimeAmount, _ handler: @escaping Handler) {
    eventLoop = loop
    self.watch = watch
    self.debounce = debounce
    self.handler = handler
    snapshot = NetworkSnapshot()
    stopped = loop.makePromise()
  }

  deinit {
    // The thread must not outlive the monitor that nobody stopped.
    if !isStopped {
      let stopped = stopped
      watch.stop { stopped.succeed() }
    }
  }

  /// Ends the watching: no event comes after this call. The future completes when the thread is gone.
  @discardableResult
  public func stop() -> EventLoopFuture<Void> {
    eventLoop.assertInEventLoop()
    guard !isStopped else { return stopped.futureResult }
    isStopped = true
    timer?.cancel()
    timer = nil
    let stopped = stopped
    watch.stop { stopped.succeed() }
    return stopped.futureResult
  }

  private func receivedChange() { readLater(debounce) }

  private func readLater(_ delay: TimeAmount) {
    guard !isStopped, timer == nil else { return }
    timer = eventLoop.scheduleTask(in: delay) { [weak self] in
      guard let self, !isStopped else { return }
      timer = nil
      let loop = eventLoop
      watch.read { [weak self] result in
        guard let self else { return }
        loop.execute { self.received(result) }
      }
    }
  }

  private func received(_ result: Result<NetworkSnapshot, NetError>) {
    guard !isStopped else { return }
    switch result {
    case .success(let new):
      failures = 0
      let events = InterfaceChanges.between(snapshot, new)
      snapshot = new
      if !events.isEmpty { handler(events, new) }
    case .failure:
      failures += 1
      readLater(Self.retryDelay)
    }
  }

  /// Long enough for the burst of one change to pass, short enough not to be felt.
  public static let defaultDebounce: TimeAmount = .milliseconds(250)
  /// A reading fails for want of descriptors or memory, which takes a moment to end.
  private static let retryDelay: TimeAmount = .seconds(1)
}
