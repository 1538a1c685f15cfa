import Dispatch
import NIOCore

/// An event loop in virtual time (``VirtualTime``), whose pipes live in a network of memory. All loops of one world
/// run on its thread, one thing after another, so objects of one may be used from the others.
public final class VirtualLoop: NetworkLoop, NIOSerialEventLoopExecutor, @unchecked Sendable {
  public let time: VirtualTime
  public let network: any Network

  init(_ time: VirtualTime, _ network: any Network) {
    self.time = time
    self.network = network
  }

  public var now: NIODeadline { time.now }
  public var inEventLoop: Bool { time.isCurrent }

  public func execute(_ task: @escaping @Sendable () -> Void) { time.execute(task) }

  @discardableResult
  public func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
    let promise = makePromise(of: T.self)
    let timer = LoopTimer(deadline) { error in
      if let error { return promise.fail(error) }
      promise.assumeIsolated().completeWith(Result(catching: task))
    }
    if !time.set(timer) { promise.fail(EventLoopError.shutdown) }
    return Scheduled(promise: promise) { [time] in time.cancel(timer) }
  }

  @discardableResult
  public func scheduleTask<T>(in amount: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
    scheduleTask(deadline: now + amount, task)
  }

  /// The default counts from the clock on the wall.
  @discardableResult
  public func scheduleCallback(in amount: TimeAmount, handler: some (NIOScheduledCallbackHandler & Sendable)) throws
    -> NIOScheduledCallback
  {
    scheduleCallback(at: now + amount, handler: handler)
  }

  public func preconditionInEventLoop(file: StaticString, line: UInt) {
    precondition(inEventLoop, "not on the virtual loop's thread", file: file, line: line)
  }

  public func preconditionNotInEventLoop(file: StaticString, line: UInt) {
    precondition(!inEventLoop, "on the virtual loop's thread", file: file, line: line)
  }

  // MARK: As a group of one

  public func next() -> any EventLoop { self }
  public func makeIterator() -> EventLoopIterator { EventLoopIterator([self]) }

  /// Ends the whole world.
  public func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
    time.stop()
    queue.async { callback(nil) }
  }
}

extension VirtualTime {
  /// A loop of this world whose pipes live in `network`.
  public func makeLoop(network: any Network) -> VirtualLoop { VirtualLoop(self, network) }
}
