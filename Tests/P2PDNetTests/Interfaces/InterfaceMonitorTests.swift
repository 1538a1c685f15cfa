import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import P2PDNet

/// Stands in for the kernel: tells of a change and answers readings when the test says so.
private final class FakeWatch: NetworkWatch {
  private struct State {
    var changed: (@Sendable () -> Void)?
    var tables: Result<NetworkSnapshot, NetError> = .success(NetworkSnapshot())
    var readings = 0
    var stops = 0
    var startFailure: NetError?
  }
  private let state = Mutex(State())

  var readings: Int { state.withLock { $0.readings } }
  var stops: Int { state.withLock { $0.stops } }
  func set(_ tables: Result<NetworkSnapshot, NetError>) { state.withLock { $0.tables = tables } }
  func failStart(_ error: NetError) { state.withLock { $0.startFailure = error } }
  func change() { state.withLock { $0.changed }?() }

  func start(changed: @escaping @Sendable () -> Void) throws(NetError) {
    let failure = state.withLock { state in
      state.changed = changed
      return state.startFailure
    }
    if let failure { throw failure }
  }
  func read(_ done: @escaping @Sendable (Result<NetworkSnapshot, NetError>) -> Void) {
    done(
      state.withLock { state in
        state.readings += 1
        return state.tables
      })
  }
  func stop(_ done: @escaping @Sendable () -> Void) {
    state.withLock { $0.stops += 1 }
    done()
  }
}

@Suite("The interface monitor")
struct InterfaceMonitorTests {
  private let loop = EmbeddedEventLoop()
  private let watch = FakeWatch()
  private let heard = Heard()
  private let nic = NetworkInterface(name: "eth0", index: 2)

  private final class Heard: Sendable {
    private let list = Mutex<[[InterfaceEvent]]>([])
    var calls: [[InterfaceEvent]] { list.withLock { $0 } }
    func add(_ events: [InterfaceEvent]) { list.withLock { $0.append(events) } }
  }

  private func start() throws -> InterfaceMonitor {
    let heard = heard
    let future = InterfaceMonitor.start(on: loop, watch: watch, debounce: .milliseconds(250)) { events, _ in
      heard.add(events)
    }
    loop.run()
    return try future.wait()
  }

  @Test("a burst of changes is one reading, 250 ms after the first of them")
  func debounce() throws {
    let monitor = try start()
    watch.set(.success(NetworkSnapshot(interfaces: [nic])))
    watch.change()
    loop.advanceTime(by: .milliseconds(200))
    watch.change()
    loop.advanceTime(by: .milliseconds(49))
    #expect(watch.readings == 1, "only the one at the start")
    loop.advanceTime(by: .milliseconds(1))
    #expect(watch.readings == 2)
    #expect(heard.calls == [[.added(nic)]])
    #expect(monitor.snapshot.interfaces == [nic])
    watch.change()
    loop.advanceTime(by: .milliseconds(250))
    #expect(watch.readings == 3)
    #expect(heard.calls.count == 1, "the same tables are no event")
    _ = monitor.stop()
  }

  @Test("after stop nothing is called, also with a reading due")
  func stop() throws {
    let monitor = try start()
    watch.set(.success(NetworkSnapshot(interfaces: [nic])))
    watch.change()
    try monitor.stop().wait()
    try monitor.stop().wait()
    loop.advanceTime(by: .seconds(5))
    #expect(heard.calls.isEmpty)
    #expect(watch.readings == 1)
    #expect(watch.stops == 1)
  }

  @Test("a reading that fails is tried again, and what changed meanwhile is told then")
  func failedReading() throws {
    let monitor = try start()
    watch.set(.failure(NetError(.limit, "read")))
    watch.change()
    loop.advanceTime(by: .milliseconds(250))
    #expect(monitor.failures == 1)
    watch.set(.success(NetworkSnapshot(interfaces: [nic])))
    loop.advanceTime(by: .seconds(1))
    #expect(monitor.failures == 0)
    #expect(heard.calls == [[.added(nic)]])
    _ = monitor.stop()
  }

  @Test("a monitor that cannot start says why and leaves no thread")
  func failedStart() throws {
    watch.set(.failure(NetError(.permission, "read")))
    let error = #expect(throws: NetError.self) { try start() }
    #expect(error?.code == .permission)
    #expect(watch.stops == 1)
    watch.failStart(NetError(.limit, "start"))
    #expect(#expect(throws: NetError.self) { try start() }?.code == .limit)
  }

  @Test("a monitor that is dropped stops watching")
  func dropped() throws {
    do { _ = try start() }
    #expect(watch.stops == 1)
    watch.change()
    loop.advanceTime(by: .seconds(1))
    #expect(watch.readings == 1)
  }
}
