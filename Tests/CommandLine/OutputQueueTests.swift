import Dispatch
import Glibc
import Synchronization
import Testing

@testable import p2pd_lua

/// Standard output that is slower than the peer, or gone.
@Suite struct OutputQueueTests {
  @Test func saysWhenItIsFullAndWhenThereIsRoomAgain() async {
    let gate = DispatchSemaphore(value: 0)
    let (drained, drain) = AsyncStream<Void>.makeStream()
    let queue = OutputQueue(
      write: { _ in
        gate.wait()
        return true
      }, drained: { drain.yield() }, failed: { _ in })
    #expect(!queue.isFull)
    for _ in 0..<17 { queue.put([UInt8](repeating: 0, count: 64 << 10)) }
    #expect(queue.isFull)
    for _ in 0..<17 { gate.signal() }
    var iterator = drained.makeAsyncIterator()
    await iterator.next()
    #expect(!queue.isFull)
  }

  @Test func aFailedWriteIsToldOnceAndTheRestIsDropped() async {
    let failures = Mutex<[Int32]>([])
    let writes = Mutex(0)
    let queue = OutputQueue(
      write: { _ in
        writes.withLock { $0 += 1 }
        errno = EPIPE
        return false
      }, drained: {}, failed: { number in failures.withLock { $0.append(number) } })
    for _ in 0..<3 { queue.put([1]) }
    await withCheckedContinuation { done in queue.whenEmpty { done.resume() } }
    #expect(failures.withLock { $0 } == [EPIPE])
    #expect(writes.withLock { $0 } == 1)
  }
}
