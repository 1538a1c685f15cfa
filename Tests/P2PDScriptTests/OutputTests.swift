import Dispatch
import Glibc
import P2PDNet
import Synchronization
import Testing

@testable import P2PDScript

/// Standard output that is slower than the peer, or gone.
@Suite struct OutputTests {
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

  /// A pipe whose reader takes nothing before it is told to.
  private struct UnreadPipe {
    var ends: [Int32] = [0, 0]
    init() { #expect(pipe(&ends) == 0) }
    func read(_ count: Int) -> [UInt8] {
      var bytes: [UInt8] = []
      var piece = [UInt8](repeating: 0, count: 64 << 10)
      while bytes.count < count {
        let got = Glibc.read(ends[0], &piece, min(piece.count, count - bytes.count))
        guard got > 0 else { break }
        bytes += piece[..<got]
      }
      return bytes
    }
    func close() { for end in ends { Glibc.close(end) } }
  }

  @Test func whatAPipeTakesGoesOutAtOnceAndTheRestInOrder() async {
    let pipe = UnreadPipe()
    defer { pipe.close() }
    let output = StandardOutput(pipe.ends[1])
    output.put(Array("first\n".utf8))
    #expect(pipe.read(6) == Array("first\n".utf8), "before any other thread had a chance")
    // More than a pipe holds (64 KiB) and more than may wait.
    var lines: [[UInt8]] = []
    while !output.isFull {
      lines.append(Array("line \(lines.count) \(String(repeating: "x", count: 1000))\n".utf8))
      if let line = lines.last { output.put(line) }
    }
    #expect(lines.count > 1000 && lines.count < 2000)
    let room = Mutex(false)
    output.whenRoom { room.withLock { $0 = true } }
    #expect(!room.withLock { $0 })
    let all = Array(lines.joined())
    #expect(pipe.read(all.count) == all)
    await withCheckedContinuation { done in output.whenWritten { done.resume() } }
    #expect(room.withLock { $0 } && !output.isFull)
  }

  @Test func aReaderThatIsGoneCostsNothing() async {
    let pipe = UnreadPipe()
    signal(SIGPIPE, SIG_IGN)
    let output = StandardOutput(pipe.ends[1])
    close(pipe.ends[0])
    defer { close(pipe.ends[1]) }
    for _ in 0..<3000 { output.put([UInt8](repeating: 0x61, count: 1000)) }
    await withCheckedContinuation { done in output.whenWritten { done.resume() } }
    #expect(!output.isFull)
  }

  /// The script waits for its reader, and nobody else does.
  @Test func printGoesOnWhereNothingCanWait() async throws {
    let bench = try await Bench { $0.output = SlowReader() }
    try await run(
      {
        let path = try bench.write(
          "script.lua", "table.sort({ 2, 1 }, function(a, b) print('in a sort') return a < b end) return 7")
        #expect(await bench.host.exec(path, arguments: []) == 7)
      }, then: bench.end)
  }

  @Test func printWaitsForItsReaderAndTheLoopDoesNot() async throws {
    let slow = SlowReader()
    let bench = try await Bench { $0.output = slow }
    try await run(
      {
        let path = try bench.write(
          "script.lua",
          """
          print("\\xff\\xfe")
          print("two")
          return 7
          """)
        async let status = bench.host.exec(path, arguments: [])
        await slow.untilWaited()
        // The loop goes on.
        _ = await bench.host.statistics()
        #expect(slow.lines == [[0xff, 0xfe, 0x0a]])
        slow.read()
        #expect(await status == 7)
        #expect(slow.lines.count == 2)
      }, then: bench.end)
  }
}

/// Full from its first line until somebody reads.
private final class SlowReader: ScriptOutput {
  private struct State {
    var lines: [[UInt8]] = []
    var isRead = false
    var waiting: (@Sendable () -> Void)?
  }
  private let state = Mutex(State())
  private let waited = AsyncStream<Void>.makeStream()

  var lines: [[UInt8]] { state.withLock { $0.lines } }
  func put(_ line: [UInt8]) { state.withLock { $0.lines.append(line) } }
  var isFull: Bool { state.withLock { !$0.isRead } }
  func whenRoom(_ done: @escaping @Sendable () -> Void) {
    state.withLock { $0.waiting = done }
    waited.continuation.yield()
  }
  func untilWaited() async {
    var iterator = waited.stream.makeAsyncIterator()
    await iterator.next()
  }
  func read() {
    let waiting = state.withLock { state in
      state.isRead = true
      return state.waiting
    }
    waiting?()
  }
}
