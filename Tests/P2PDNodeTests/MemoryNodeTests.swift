import Logging
import NIOCore
import P2PDNet
import Testing

@testable import P2PDNode

/// Nodes as they are, on simulated hosts: keys, TLS, framing and limits are the real ones.
@Suite struct MemoryNodeTests {
  private static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private static func node(on host: MemoryHost) async throws -> Node {
    var configuration = NodeConfiguration()
    (configuration.ephemeral, configuration.offline, configuration.port) = (true, true, 0)
    return try await Node.start(configuration, on: host.loop, logger: quiet)
  }

  @Test("two nodes connect, prove their keys and speak, over a slow line that loses packets")
  func connect() async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 1)
    let (a, b) = (net.addHost("a"), net.addHost("b"))
    net.change(a, b) { ($0.latency, $0.loss) = (.milliseconds(80), 0.1) }
    try await a.loop.run {
      let (one, two) = (try await Self.node(on: a), try await Self.node(on: b))
      let pipe = try await one.connect(two.address, timeout: .seconds(60))
      let promise = a.loop.makePromise(of: Message.self)
      _ = "ECHO hello".utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast())) }
      _ = pipe.receive(from: nil, timeout: .seconds(60)) { promise.completeWith($0.mapError { $0 as any Error }) }
      #expect(String(buffer: try await promise.futureResult.get().bytes) == "hello")
      await one.close(flush: .seconds(1))
      await two.close(flush: .seconds(1))
      net.reset(seed: 0)
    }.get()
  }

  @Test("a node that cannot be reached is a timeout in the time that was given")
  func vanished() async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 1)
    let (a, b) = (net.addHost("a"), net.addHost("b"))
    try await a.loop.run {
      let (one, two) = (try await Self.node(on: a), try await Self.node(on: b))
      b.hasVanished = true
      let began = time.now
      do {
        _ = try await one.connect(two.address, timeout: .seconds(20))
        Issue.record("it connected")
      } catch {
        #expect((error as? NetError)?.code == .timeout)
      }
      #expect(time.now - began == .seconds(20))
      await one.close(flush: .zero)
      await two.close(flush: .zero)
      net.reset(seed: 0)
    }.get()
  }
}
