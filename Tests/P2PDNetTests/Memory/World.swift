import NIOCore
import Synchronization
import Testing

@testable import P2PDNet

/// Two simulated hosts, and the few verbs that keep a test's text short.
final class World: @unchecked Sendable {
  let time: VirtualTime
  let net: MemoryNetwork
  let a: MemoryHost
  let b: MemoryHost

  init(seed: UInt64 = 1) throws {
    time = try VirtualTime()
    net = MemoryNetwork(time, seed: seed)
    a = net.addHost("a")
    b = net.addHost("b")
  }

  /// Runs a whole test on the world's thread, so that no time passes but where it waits.
  func run(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    defer { time.stop() }
    try await a.loop.run {
      try await body(self)
      self.net.reset(seed: 0)
    }.get()
  }

  var seconds: Double { Double(time.now.uptimeNanoseconds) / 1e9 }

  func server(
    _ proto: PipeProto = .tcp, _ sink: any PipeSink, family: AddressFamily = .v4, conf: PipeConf = PipeConf()
  ) async throws -> Pipe {
    try await PipeOpener.open(
      proto, bind: Endpoint(ip: .wildcard(family), port: 0), conf: conf, sink: sink, on: b.loop
    ).get()
  }

  /// From `a` to a server on `b`.
  func client(to server: Pipe, conf: PipeConf? = nil, sink: (any PipeSink)? = nil) async throws -> Pipe {
    let local = try #require(server.localEndpoint)
    let ip = try #require(b.address(local.ip.family))
    return try await PipeOpener.open(
      server.proto, to: .endpoint(Endpoint(ip: ip, port: local.port)), conf: conf ?? server.conf, sink: sink, on: a.loop
    ).get()
  }

  @discardableResult
  func send(_ text: String, on pipe: Pipe) -> String {
    outcomeName(
      text.utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast()), to: pipe.peer) })
  }

  func receive(_ pipe: Pipe, timeout: TimeAmount = .hours(1)) async throws -> String {
    let promise = a.loop.makePromise(of: Message.self)
    _ = pipe.receive(from: nil, timeout: timeout) { promise.completeWith($0.mapError { $0 as any Error }) }
    return String(buffer: try await promise.futureResult.get().bytes)
  }

  func sleep(_ amount: TimeAmount) async throws {
    try await a.loop.scheduleTask(in: amount) {}.futureResult.get()
  }
}

/// Keeps what it is told, in order.
final class Notes<T: Sendable>: Sendable {
  private let kept = Mutex<[T]>([])
  var all: [T] { kept.withLock { $0 } }
  func add(_ item: T) { kept.withLock { $0.append(item) } }
}
