import NIOCore
import Synchronization
import Testing

@testable import P2PDNet

@Suite("The roots of servers' certificates")
struct ServerTLSTests {
  @Test("are read once, and not on the loop; again only where that failed")
  func once() async throws {
    let loop = try KernelLoop.start(name: "tls")
    let reads = Atomic(0)
    let onLoop = Atomic(0)
    let tls = ServerTLS(on: loop) {
      if loop.inEventLoop { onLoop.add(1, ordering: .relaxed) }
      guard reads.add(1, ordering: .relaxed).newValue > 1 else {
        throw NetError(.tls, "set up TLS", cause: "no file")
      }
      return try TLSSetup.client(verify: false)
    }
    let (first, second) = try await loop.submit { (tls.setup(), tls.setup()) }.get()
    await #expect(throws: NetError.self) { try await first.get() }
    await #expect(throws: NetError.self) { try await second.get() }
    #expect(reads.load(ordering: .relaxed) == 1)
    let (third, fourth) = try await loop.submit { (tls.setup(), tls.setup()) }.get()
    let contexts = try await [third.get().context, fourth.get().context]
    #expect(contexts[0] === contexts[1] && reads.load(ordering: .relaxed) == 2)
    #expect(onLoop.load(ordering: .relaxed) == 0)
    try await loop.shutdownGracefully()
  }
}
