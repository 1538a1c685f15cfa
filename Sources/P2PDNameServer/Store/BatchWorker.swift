import NIOCore
import NIOPosix

/// Blocking work on a thread of its own, all that waits at a time: while one batch is worked on the next gathers. For the
/// store that means one transaction, and one fsync, for all pushes that came during the last one. Confined to its loop.
final class BatchWorker<Input: Sendable, Output: Sendable> {
  private struct Waiting {
    let input: Input
    let done: (Output) -> Void
  }

  private let loop: any EventLoop
  private let thread: NIOThreadPool
  private let work: @Sendable ([Input]) -> [Output]
  private let capacity: Int
  private let largest: Int
  private var waiting: CircularBuffer<Waiting> = []
  private var isBusy = false
  private var isClosed = false
  private var idle: [EventLoopPromise<Void>] = []

  /// - Parameters:
  ///   - capacity: the most that waits; ``submit(_:_:)`` refuses what is beyond.
  ///   - largest: the most in one batch.
  ///   - work: on the thread; gives an output for each input, in order.
  init(
    on loop: any EventLoop, capacity: Int, largest: Int, work: @escaping @Sendable ([Input]) -> [Output]
  ) {
    self.loop = loop
    self.work = work
    self.capacity = max(1, capacity)
    self.largest = max(1, largest)
    thread = NIOThreadPool(numberOfThreads: 1)
    thread.start()
  }

  var count: Int { waiting.count }

  /// Calls `done` on the loop with what came of it. False: too much waits, or it is closed, and `done` is not called.
  func submit(_ input: Input, _ done: @escaping (Output) -> Void) -> Bool {
    guard !isClosed, waiting.count < capacity else { return false }
    waiting.append(Waiting(input: input, done: done))
    if !isBusy { next() }
    return true
  }

  /// Takes nothing more; done when all that waited is, and the thread has ended.
  func close() -> EventLoopFuture<Void> {
    isClosed = true
    let promise = loop.makePromise(of: Void.self)
    if isBusy { idle.append(promise) } else { promise.succeed() }
    let (thread, loop) = (thread, loop)
    return promise.futureResult.flatMap {
      let ended = loop.makePromise(of: Void.self)
      thread.shutdownGracefully { _ in ended.succeed() }
      return ended.futureResult
    }
  }

  private func next() {
    guard !waiting.isEmpty else {
      isBusy = false
      let promises = idle
      idle = []
      for promise in promises { promise.succeed() }
      return
    }
    isBusy = true
    let count = min(largest, waiting.count)
    let batch = Array(waiting.prefix(count))
    waiting.removeFirst(count)
    let (inputs, work) = (batch.map(\.input), work)
    thread.runIfActive(eventLoop: loop) { work(inputs) }.assumeIsolated().whenComplete { result in
      // It fails only where the thread was ended before its time, which close() does not do.
      let outputs = (try? result.get()) ?? []
      for (item, output) in zip(batch, outputs) { item.done(output) }
      self.next()
    }
  }
}
