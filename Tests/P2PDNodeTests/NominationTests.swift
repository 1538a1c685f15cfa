import NIOCore
import NIOPosix
import NIOSSL
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// A stream becomes a pipe when the node that connects says so, and not before.
@Suite(.timeLimit(.minutes(1))) struct NominationTests {
  /// Proves `guest`'s key to `host` and says these bytes, in one piece. The channel, open.
  private func prove(
    _ guest: Node, to host: Node, offering names: [String] = ["p2pd1/p"], saying bytes: [UInt8]
  ) async throws -> any Channel {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    configuration.certificateChain = [.certificate(guest.tls.certificate)]
    configuration.privateKey = .privateKey(guest.tls.privateKey)
    configuration.signingSignatureAlgorithms = [.ed25519]
    configuration.verifySignatureAlgorithms = [.ed25519]
    configuration.applicationProtocols = names
    let context = try NIOSSLContext(configuration: configuration)
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelInitializer {
      channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
      }
    }.connect(host: "127.0.0.1", port: Int(host.port)).get()
    try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    return channel
  }

  private static let hello: [UInt8] = [0, 0, 0, 2, 0x68, 0x69]

  @Test("what follows the nomination in the same piece is the pipe's")
  func bytesBehind() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("p", host)
      let channel = try await prove(
        nodes[1], to: nodes[0], saying: Nomination(.use, SessionID()).bytes + Self.hello + Self.hello)
      await host.wait { $0.messages.count == 2 }
      #expect(host.view.messages == ["hi", "hi"])
      try await channel.close()
      await host.wait { $0.ends.count == 1 }
    }
  }

  @Test("a node that proves its key and says no more is no pipe, and is cut in the handshake's time")
  func silent() async throws {
    let host = Recorder()
    let log = LogLines()
    try await withNodes(2, { $1.limits.handshakeTime = .milliseconds(300) }, log: log) { nodes in
      try await nodes[0].hosting("p", host)
      let few = Array(Nomination(.use, SessionID()).bytes.dropLast())
      for bytes in [[], few] { try await prove(nodes[1], to: nodes[0], saying: bytes).closeFuture.get() }
      #expect(host.view.opened.isEmpty)
      #expect(try await nodes[0].onLoop { $0.counter.pipes + $0.counter.handshakes } == 0)
      #expect(log.all.contains { $0.contains("did not say in time that it wants this stream") })
    }
  }

  @Test("a stream nobody asked for, or of a kind unknown, is closed")
  func others() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("p", host)
      var unknown = Nomination(.use, SessionID()).bytes
      unknown[0] = 77
      try await prove(nodes[1], to: nodes[0], saying: unknown + Self.hello).closeFuture.get()
      try await prove(nodes[1], to: nodes[0], saying: Nomination(.move, SessionID()).bytes).closeFuture.get()
      try await prove(nodes[1], to: nodes[0], offering: ["p2pd1<"], saying: []).closeFuture.get()
      #expect(host.view.opened.isEmpty)
      #expect(try await nodes[0].onLoop { $0.counter.pipes + $0.counter.handshakes } == 0)
    }
  }

  @Test("its bytes")
  func codec() throws {
    let id = try #require(SessionID((1...16).map { UInt8($0) }))
    #expect(Nomination(.use, id).bytes == [1] + (1...16).map { UInt8($0) })
    #expect(Nomination([2] + id.bytes) == Nomination(.move, id))
    #expect(Nomination([3] + id.bytes) == nil && Nomination([1]) == nil && Nomination([]) == nil)
    #expect(SessionID() != SessionID())
    #expect(SessionID([1, 2]) == nil)
  }
}
