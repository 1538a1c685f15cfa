import NIOCore

extension EventLoop {
  /// Runs async code on the loop: what it does between two waits is as confined as any callback of the loop.
  public func run<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) -> EventLoopFuture<T> {
    let promise = makePromise(of: T.self)
    Task(executorPreference: LoopTaskExecutor(self)) {
      do { promise.succeed(try await body()) } catch { promise.fail(error) }
    }
    return promise.futureResult
  }

  /// Runs what may block on another thread and waits for it. In virtual time it runs at once, as time stands still.
  public func offload<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    if self is VirtualLoop { return try body() }
    return try await Blocking.run(body)
  }
}

/// Lets Swift tasks run on an event loop.
private final class LoopTaskExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) { self.loop = loop }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
