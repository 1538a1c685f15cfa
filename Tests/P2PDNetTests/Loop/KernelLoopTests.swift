import Foundation
import NIOCore
import Synchronization
import Testing

@testable import P2PDNet

@Suite(.timeLimit(.minutes(1))) struct KernelLoopTests {
  private func withLoop(_ body: (KernelLoop) async throws -> Void) async throws {
    let loop = try KernelLoop.start(name: "under test")
    do {
      try await body(loop)
    } catch {
      try? await loop.shutdownGracefully()
      throw error
    }
    try await loop.shutdownGracefully()
  }

  @Test("a loop knows its own thread")
  func thread() async throws {
    try await withLoop { loop in
      #expect(!loop.inEventLoop)
      #expect(try await loop.submit { loop.inEventLoop }.get())
      try await withLoop { other in
        let isThere = try await other.submit { !loop.inEventLoop && other.inEventLoop }.get()
        #expect(isThere)
      }
    }
  }

  @Test("tasks of many threads all run, each thread's in its order")
  func tasksFromThreads() async throws {
    try await withLoop { loop in
      let (threads, each) = (8, 5000)
      let log = Log()
      await withTaskGroup(of: Void.self) { group in
        for thread in 0..<threads {
          group.addTask { for number in 0..<each { loop.execute { log.add(thread, number) } } }
        }
      }
      let got = try await loop.submit { log.entries }.get()
      #expect(got.count == threads * each)
      for thread in 0..<threads {
        #expect(got.filter { $0.0 == thread }.map(\.1) == Array(0..<each))
      }
    }
  }

  /// Confined to the loop it is used on.
  private final class Log: @unchecked Sendable {
    var entries: [(Int, Int)] = []
    func add(_ first: Int, _ second: Int) { entries.append((first, second)) }
  }

  @Test("timers fire in order, none before its time, whatever thread set them")
  func timers() async throws {
    try await withLoop { loop in
      let log = Log()
      let start = loop.now
      let delays = [30, 10, 20, 10, 0]
      let timers = delays.enumerated().map { index, delay in
        loop.scheduleTask(in: .milliseconds(Int64(delay))) {
          log.add(index, Int((loop.now - start).nanoseconds))
        }
      }
      for timer in timers { try await timer.futureResult.get() }
      let got = try await loop.submit { log.entries }.get()
      #expect(got.map(\.0) == [4, 1, 3, 2, 0])
      #expect(got.allSatisfy { $0.1 >= delays[$0.0] * 1_000_000 })
    }
  }

  @Test("timers fire in their time on both sides of the alarm's threshold, whatever came and went before them")
  func alarm() async throws {
    try await withLoop { loop in
      for round in 0..<20 {
        // The alarm is set for a timer that is cancelled, rings for nobody, and is set anew for what is left.
        let gone = loop.scheduleTask(in: .milliseconds(4)) {}
        let start = loop.now
        let short = loop.scheduleTask(in: .microseconds(500)) { loop.now - start }
        let long = loop.scheduleTask(in: .milliseconds(9)) { loop.now - start }
        if round % 2 == 0 { gone.cancel() }
        let taken = try await (short.futureResult.get(), long.futureResult.get())
        #expect(taken.0 >= .microseconds(500))
        #expect(taken.1 >= .milliseconds(9) && taken.1 > taken.0)
      }
    }
  }

  @Test("an alarm rings for a loop that is never out of work")
  func alarmUnderWork() async throws {
    try await withLoop { loop in
      let isOver = Atomic(false)
      @Sendable func again() { if !isOver.load(ordering: .relaxed) { loop.execute(again) } }
      loop.execute(again)
      for delay: Int64 in [1, 3, 10] {
        try await loop.scheduleTask(in: .milliseconds(delay)) {}.futureResult.get()
      }
      isOver.store(true, ordering: .relaxed)
    }
  }

  @Test("an earlier timer wakes a loop that sleeps for a later one")
  func earlierTimer() async throws {
    try await withLoop { loop in
      let late = loop.scheduleTask(in: .hours(1)) {}
      try await loop.scheduleTask(in: .milliseconds(5)) {}.futureResult.get()
      late.cancel()
    }
  }

  @Test("a cancelled timer does not fire, also when it is due in the same turn or cancelled from another thread")
  func cancelling() async throws {
    try await withLoop { loop in
      let fired = Atomic(0)
      let elsewhere = loop.scheduleTask(in: .milliseconds(20)) { fired.add(1, ordering: .relaxed) }
      elsewhere.cancel()
      await #expect(throws: EventLoopError.self) { try await elsewhere.futureResult.get() }
      try await loop.flatSubmit { () -> EventLoopFuture<Void> in
        let deadline = loop.now
        let victim = loop.scheduleTask(deadline: deadline + .nanoseconds(1)) { fired.add(1, ordering: .relaxed) }
        loop.scheduleTask(deadline: deadline) { victim.cancel() }
        return loop.scheduleTask(in: .milliseconds(30)) {}.futureResult
      }.get()
      #expect(fired.load(ordering: .relaxed) == 0)
      #expect(try await loop.submit { loop.timerCount }.get() == 0, "cancelled timers take no room")
    }
  }

  @Test("a hundred thousand timers, half of them cancelled")
  func manyTimers() async throws {
    try await withLoop { loop in
      let fired = Log()
      try await loop.submit {
        for number in 0..<100_000 {
          let timer = loop.scheduleTask(in: .microseconds(Int64(number % 1000))) { fired.add(number, 0) }
          if number % 2 == 0 { timer.cancel() }
        }
      }.get()
      while try await loop.submit({ loop.timerCount }).get() > 0 { await Task.yield() }
      let got = try await loop.submit { fired.entries.map(\.0) }.get()
      #expect(got.count == 50_000 && got.allSatisfy { $0 % 2 == 1 })
    }
  }

  @Test("endless tasks and timers starve neither each other nor the sockets")
  func fairness() async throws {
    try await withLoop { loop in
      let isOver = Flag()
      let server = try await PipeOpener.open(
        .tcp, bind: Endpoint(ip: .loopback(.v4), port: 0), sink: EchoSink(), on: loop
      ).get()
      let client = try await PipeOpener.open(.tcp, to: .endpoint(try #require(server.localEndpoint)), on: loop).get()
      try await loop.submit {
        @Sendable func again() { if !isOver.value { loop.execute { again() } } }
        @Sendable func tick() { if !isOver.value { loop.scheduleTask(in: .nanoseconds(0)) { tick() } } }
        for _ in 0..<10 {
          again()
          tick()
        }
      }.get()
      for round in 0..<50 {
        let promise = loop.makePromise(of: String.self)
        loop.execute {
          _ = Array("round \(round)".utf8).withUnsafeBytes { client.send($0) }
          client.receive(timeout: .seconds(20)) {
            promise.completeWith($0.map { String(buffer: $0.bytes) }.mapError { $0 as any Error })
          }
        }
        #expect(try await promise.futureResult.get() == "round \(round)")
      }
      try await loop.submit { isOver.value = true }.get()
    }
  }

  private final class Flag: @unchecked Sendable { var value = false }

  @Test("async code of an actor runs on the loop it names")
  func executor() async throws {
    try await withLoop { loop in
      let confined = Confined(loop)
      #expect(await confined.isAtHome())
      #expect(await confined.isAtHomeAfterWaiting())
    }
  }

  private actor Confined {
    private let loop: KernelLoop
    init(_ loop: KernelLoop) { self.loop = loop }
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    func isAtHome() -> Bool { loop.inEventLoop }
    func isAtHomeAfterWaiting() async -> Bool {
      try? await Task.sleep(for: .milliseconds(1))
      return loop.inEventLoop
    }
  }

  /// What callbacks on the loop wrote, read when it has ended.
  private final class Ends: Sendable {
    private let words = Mutex<[String]>([])
    func add(_ word: String) { words.withLock { $0.append(word) } }
    var all: [String] { words.withLock { $0.sorted() } }
  }

  @Test("the end: what was queued runs, timers fail, pipes end, nothing runs later, and it can be asked for twice")
  func shutdown() async throws {
    let loop = try KernelLoop.start(name: "short-lived")
    let server = try await PipeOpener.open(
      .tcp, bind: Endpoint(ip: .loopback(.v4), port: 0), sink: EchoSink(), on: loop
    ).get()
    let client = try await PipeOpener.open(.tcp, to: .endpoint(try #require(server.localEndpoint)), on: loop).get()
    let ends = Ends()
    // Futures of a loop are told on it, so they must be asked before its end.
    server.ended.whenSuccess { ends.add("server \($0.code)") }
    client.ended.whenSuccess { ends.add("client \($0.code)") }
    loop.scheduleTask(in: .hours(1)) {}.futureResult.whenFailure { _ in ends.add("timer") }
    loop.execute { ends.add("queued") }
    async let first: Void = loop.shutdownGracefully()
    async let second: Void = loop.shutdownGracefully()
    _ = try await (first, second)
    #expect(ends.all == ["client local", "queued", "server local", "timer"])
    loop.execute { Issue.record("the loop is over") }
    try await loop.shutdownGracefully()
  }
}
