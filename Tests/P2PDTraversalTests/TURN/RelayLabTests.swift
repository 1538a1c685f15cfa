import Glibc
import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// Between two homes of the laboratory (Tests/Program/lab_relay.py runs it there): the loops' threads are moved into them.
@Suite(
  "Relayed streams between homes of the laboratory",
  .enabled(if: getenv("P2PD_LAB_NEAR") != nil, "runs inside the laboratory only: Tests/Program/test_turn.py"))
struct RelayLabTests {
  private static func variable(_ name: String) throws -> String {
    try #require(getenv(name).map { String(cString: $0) }, "\(name) is not set")
  }

  /// A loop all of whose sockets are in that network namespace.
  private static func loop(in namespace: String) async throws -> KernelLoop {
    let loop = try KernelLoop.start(name: "home")
    let number = try await loop.submit { () -> Int32 in
      let descriptor = open(namespace, O_RDONLY | O_CLOEXEC)
      defer { close(descriptor) }
      // Declared by the C library for programs that ask for GNU's extensions.
      typealias SetNamespace = @convention(c) (Int32, Int32) -> Int32
      guard descriptor >= 0, let symbol = dlsym(nil, "setns") else { return ENOSYS }
      return unsafeBitCast(symbol, to: SetNamespace.self)(descriptor, 0x4000_0000) == 0 ? 0 : errno
    }.get()
    try #require(number == 0, "\(namespace): \(String(cString: strerror(number)))")
    return loop
  }

  @Test("a stream through the relay, in time")
  func stream() async throws {
    let near = try await Self.loop(in: try Self.variable("P2PD_LAB_NEAR"))
    let far = try await Self.loop(in: try Self.variable("P2PD_LAB_FAR"))
    let url = try ServerURL(try Self.variable("P2PD_LAB_TURN"))
    let peer = try #require(IPAddress(try Self.variable("P2PD_LAB_FAR_IP")))
    let holder = Holder()
    let (relayed, opening) = try await near.run { () -> (Endpoint, Int64) in
      let began = near.now
      let path = RelayPath(servers: [url], on: near)
      holder.path = path
      path.permit([peer])
      return (try await path.open().get(), (near.now - began).nanoseconds / 1_000_000)
    }.get()
    let connected = near.makePromise(of: Pipe.self)
    try await near.submit {
      holder.path?.connected = { stream, _ in
        let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: near)
        _ = Array("hello".utf8).withUnsafeBytes { pipe.send($0) }
        connected.succeed(pipe)
      }
    }.get()
    let (tries, connecting) = try await far.run { () -> (Int, Int64) in
      let began = far.now
      let promise = far.makePromise(of: Transport.self)
      let dial = RelayDial(to: relayed, until: began + .seconds(8), on: far) {
        promise.completeWith($0.mapError { $0 as any Error })
      }
      let pipe = Pipe.adopt(try await promise.futureResult.get(), conf: PipeConf(), sink: nil, on: far)
      let after = (far.now - began).nanoseconds / 1_000_000
      #expect(try await pipe.next() == "hello")
      _ = Array("and back".utf8).withUnsafeBytes { pipe.send($0) }
      _ = try await pipe.close().get()
      return (dial.tries, after)
    }.get()
    try await near.run {
      let pipe = try await connected.futureResult.get()
      #expect(try await pipe.next() == "and back")
      _ = try await pipe.close().get()
      try await holder.path?.close().get()
    }.get()
    print("relayed: opened in \(opening) ms, met in \(connecting) ms, \(tries) tries")
    try await near.shutdownGracefully()
    try await far.shutdownGracefully()
  }

  private final class Holder: @unchecked Sendable { var path: RelayPath? }
}
