import Dispatch
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import P2PDNameServer

@Suite struct BatchWorkerTests {
  @Test("what comes while a batch is worked on is the next batch, in order and bounded")
  func batches() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    let gate = DispatchSemaphore(value: 0)
    let sizes = Sizes()
    let outputs: [Int] = try await loop.flatSubmit {
      let worker = BatchWorker<Int, Int>(on: loop, capacity: 25, largest: 10) { batch in
        sizes.all.withLock { $0.append(batch.count) }
        gate.wait()
        return batch.map { $0 * 2 }
      }
      var results: [Int] = []
      let taken = (0..<40).map { number in worker.submit(number) { results.append($0) } }
      // One is worked on, and as many wait as may.
      #expect(taken.filter { $0 }.count == 26)
      #expect(worker.count == 25)
      for _ in 0..<10 { gate.signal() }
      return worker.close().assumeIsolated().map {
        #expect(!worker.submit(99) { _ in })
        return results
      }.nonisolated()
    }.get()
    #expect(outputs == (0..<26).map { $0 * 2 })
    #expect(sizes.all.withLock { $0 } == [1, 10, 10, 5])
    try await group.shutdownGracefully()
  }
}

private final class Sizes: Sendable {
  let all = Mutex<[Int]>([])
}
