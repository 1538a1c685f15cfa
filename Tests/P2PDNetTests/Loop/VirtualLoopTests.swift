import NIOCore
import Synchronization
import Testing

@testable import P2PDNet

@Suite struct VirtualLoopTests {
  @Test("hours pass in no time, and by exactly as much as was asked for", .timeLimit(.minutes(1)))
  func jumps() async throws {
    let world = try World()
    defer { world.time.stop() }
    let before = world.time.now
    try await world.a.loop.scheduleTask(in: .hours(10)) {}.futureResult.get()
    #expect(world.time.now - before == .hours(10))
  }

  @Test("what is ready runs before time passes; timers run by time, then in the order they were set")
  func order() async throws {
    let world = try World()
    let notes = Notes<String>()
    try await world.run { world in
      let loop = world.a.loop
      loop.scheduleTask(in: .seconds(2)) { notes.add("2 s") }
      loop.scheduleTask(in: .seconds(1)) {
        notes.add("1 s, first")
        loop.execute { notes.add("after the first") }
      }
      // The loops of a world share its thread and its order.
      world.b.loop.scheduleTask(in: .seconds(1)) { notes.add("1 s, second") }
      loop.execute { notes.add("now") }
      try await world.sleep(.seconds(3))
    }
    #expect(notes.all == ["now", "1 s, first", "after the first", "1 s, second", "2 s"])
  }

  @Test("a cancelled timer neither runs nor moves the clock")
  func cancel() async throws {
    let world = try World()
    let notes = Notes<String>()
    try await world.run { world in
      let began = world.time.now
      let late = world.a.loop.scheduleTask(in: .hours(1)) { notes.add("late") }
      late.cancel()
      try await world.sleep(.seconds(1))
      #expect(world.time.now - began == .seconds(1))
      await #expect(throws: EventLoopError.self) { try await late.futureResult.get() }
    }
    #expect(notes.all.isEmpty)
  }

  @Test("the clock stands still while somebody holds it", .timeLimit(.minutes(1)))
  func hold() async throws {
    let world = try World()
    defer { world.time.stop() }
    let loop = world.a.loop
    let notes = Notes<String>()
    world.time.holdClock()
    let timer = loop.scheduleTask(in: .seconds(1)) { notes.add("timer") }
    // The loop runs meanwhile, but no timer does.
    for _ in 0..<100 { try await loop.submit {}.get() }
    #expect(notes.all.isEmpty)
    world.time.releaseClock()
    try await timer.futureResult.get()
    #expect(notes.all == ["timer"])
  }

  @Test("async code of the loop stays on it, whatever it waits for")
  func confinement() async throws {
    let world = try World()
    try await world.run { world in
      let loop = world.a.loop
      #expect(loop.inEventLoop)
      await Task.yield()
      #expect(loop.inEventLoop)
      try await loop.scheduleTask(in: .seconds(1)) {}.futureResult.get()
      #expect(loop.inEventLoop && world.b.loop.inEventLoop)
      let answer = try await loop.offload { 42 }
      #expect(answer == 42 && loop.inEventLoop)
    }
    #expect(!world.a.loop.inEventLoop)
  }

  @Test("ending a world fails its timers; nothing runs afterwards", .timeLimit(.minutes(1)))
  func end() async throws {
    let world = try World()
    let loop = world.a.loop
    world.time.holdClock()
    // Futures of a loop are told on it, so this one is asked before its end.
    let failures = Mutex<[any Error]>([])
    let timer = loop.scheduleTask(in: .seconds(1)) {}
    timer.futureResult.whenFailure { error in failures.withLock { $0.append(error) } }
    world.time.stop()
    while failures.withLock({ $0.isEmpty }) { await Task.yield() }
    #expect(failures.withLock { $0.first is EventLoopError })
    loop.scheduleTask(in: .zero) { Issue.record("the world has ended") }
  }
}
