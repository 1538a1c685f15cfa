import Glibc
import NIOCore
import NIOPosix
import NIOSSL
import P2PDNet
import Testing

@testable import P2PDNode

/// Peers that are no nodes, or bad ones: each gets its answer, and the node serves on.
@Suite(.timeLimit(.minutes(1))) struct HostilePeerTests {
  private func stillServes(_ node: Node, _ guest: Node, sourceLocation: SourceLocation = #_sourceLocation) async throws
  {
    let pipe = try await guest.connect(node.address)
    try await pipe.say("ECHO still there")
    #expect(try await pipe.hear() == "still there", sourceLocation: sourceLocation)
    await pipe.end()
  }

  /// Connects in plain TCP, sends the bytes, and waits until the node has hung up. Returns what it said.
  private func knock(_ node: Node, _ bytes: [UInt8], half: Bool = false) async throws -> [UInt8] {
    let heard = Listener()
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelOption(
      .allowRemoteHalfClosure, value: true
    )
    .channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(heard) }
    }
    .connect(host: "127.0.0.1", port: Int(node.port)).get()
    try? await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    if half { try? await channel.close(mode: .output).get() }
    try await channel.closeFuture.get()
    return heard.bytes
  }

  private final class Listener: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    private(set) var bytes: [UInt8] = []
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      bytes += Array(buffer: Self.unwrapInboundIn(data))
    }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case ChannelEvent.inputClosed = event { context.close(promise: nil) }
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  @Test func garbage() async throws {
    try await withNodes { nodes in
      var random = SplitMix64(11)
      _ = try await knock(nodes[0], Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
      _ = try await knock(nodes[0], Array("SSH-2.0-OpenSSH_9\r\n".utf8))
      _ = try await knock(nodes[0], [], half: true)
      _ = try await knock(nodes[0], [0x16], half: true)
      _ = try await knock(nodes[0], [0x16, 3, 1, 0xff, 0xff] + [UInt8](repeating: 0, count: 70_000))
      for _ in 0..<20 {
        _ = try await knock(nodes[0], (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }, half: true)
      }
      // A hello that begins as one, and then does not.
      for _ in 0..<20 {
        var hello: [UInt8] = [0x16, 3, 1, 0, 120, 1, 0, 0, 116, 3, 3]
        hello += (0..<114).map { _ in UInt8.random(in: 0...255, using: &random) }
        _ = try await knock(nodes[0], hello, half: true)
      }
      try await stillServes(nodes[0], nodes[1])
      let left = try await nodes[0].onLoop { ($0.counter.handshakes, $0.counter.tableSizes.sources) }
      #expect(left.0 == 0)
    }
  }

  @Test func slowHandshakesAreCut() async throws {
    let change: (Int, inout NodeConfiguration) -> Void = { $1.limits.handshakeTime = .milliseconds(200) }
    let log = LogLines()
    try await withNodes(2, change, log: log) { nodes in
      // One says nothing, one a little.
      async let silent = knock(nodes[0], [])
      async let slow = knock(nodes[0], [0x16, 3, 1, 0, 200, 1])
      _ = try await (silent, slow)
      #expect(try await nodes[0].onLoop { $0.counter.handshakes } == 0)
      try await stillServes(nodes[0], nodes[1])
      #expect(log.all.contains { $0.contains("no TLS handshake within 0.2 s") })
    }
  }

  @Test func unfinishedHandshakesAreLimited() async throws {
    let log = LogLines()
    let change: (Int, inout NodeConfiguration) -> Void = { $1.limits.handshakesPerSource = 3 }
    try await withNodes(2, change, log: log) { nodes in
      var open: [any Channel] = []
      for _ in 0..<3 {
        open.append(
          try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connect(
            host: "127.0.0.1", port: Int(nodes[0].port)
          ).get())
      }
      // The fourth is told, in TLS's own words.
      #expect(try await knock(nodes[0], []) == [21, 3, 3, 0, 2, 2, 49])
      let error = try await failure { try await nodes[1].connect(nodes[0].address) }
      #expect(error.code == .limit || error.code == .closed || error.code == .reset, "\(error)")
      let lines = log.all.filter { $0.contains("refused a connection") }
      #expect(lines.count == 1)
      #expect(lines.first?.contains("unfinished handshakes per source address") == true)
      for channel in open { try await channel.close() }
      try await stillServes(nodes[0], nodes[1])
    }
  }

  @Test func pipesPerKeyAreLimited() async throws {
    let guest = Recorder()
    let change: (Int, inout NodeConfiguration) -> Void = { $1.limits.perKey = 2 }
    try await withNodes(3, change) { nodes in
      let first = try await nodes[1].connect(nodes[0].address)
      let second = try await nodes[1].connect(nodes[0].address)
      for pipe in [first, second] {
        try await pipe.say("ECHO in")
        #expect(try await pipe.hear() == "in")
      }
      // TLS lets a client in before the server has read its key: the third is shown out with words.
      _ = try await nodes[1].connect(nodes[0].address, sink: guest)
      await guest.wait { $0.ends.count == 1 }
      #expect(guest.view.ends.first?.contains("limit") == true, "\(guest.view.ends)")
      #expect(guest.view.ends.first?.contains("no more pipes of one key") == true)
      try await stillServes(nodes[0], nodes[2])
      await first.end()
      try await stillServes(nodes[0], nodes[1])
    }
  }

  @Test func pipesInAllAreLimited() async throws {
    try await withNodes(2, { $1.limits.pipes = 1 }) { nodes in
      let pipe = try await nodes[1].connect(nodes[0].address)
      try await pipe.say("ECHO 1")
      #expect(try await pipe.hear() == "1")
      let error = try await failure { try await nodes[1].connect(nodes[0].address) }
      #expect([.limit, .closed, .reset].contains(error.code), "\(error)")
    }
  }

  // MARK: Servers that are no nodes

  private func connect(_ node: Node, toPort port: Int) async throws -> NetError {
    let address = try NodeAddress.make(
      by: .ephemeral(), issued: 1, routes: [NodeRoute(interface: 0, nic: .loopback(.v4), port: UInt16(port))])
    return try await failure { try await node.connect(address, timeout: .seconds(5)) }
  }

  private func withServer(
    _ initializer: @escaping @Sendable (any Channel) throws -> Void, _ body: (Int) async throws -> Void
  ) async throws {
    let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in channel.eventLoop.makeCompletedFuture { try initializer(channel) } }
      .bind(host: "127.0.0.1", port: 0).get()
    defer { server.close(promise: nil) }
    try await body(try #require(server.localAddress?.port))
  }

  private final class Babbler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    let text: String
    init(_ text: String) { self.text = text }
    func channelActive(context: ChannelHandlerContext) {
      context.writeAndFlush(NIOAny(ByteBuffer(string: text)), promise: nil)
    }
  }

  @Test(arguments: [
    "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0\0\0\0\0", "220 mail ESMTP\r\n",
  ])
  func plainServers(_ text: String) async throws {
    try await withNodes(1) { nodes in
      try await withServer({ try $0.pipeline.syncOperations.addHandler(Babbler(text)) }) { port in
        let error = try await connect(nodes[0], toPort: port)
        #expect(error.code == .notP2PD)
        #expect(error.attempts.first?.code == .notP2PD)
      }
    }
  }

  @Test func aServerThatHangsUp() async throws {
    try await withNodes(1) { nodes in
      try await withServer({ channel in channel.eventLoop.execute { channel.close(promise: nil) } }) { port in
        let error = try await connect(nodes[0], toPort: port)
        #expect([.closed, .reset].contains(error.code), "\(error)")
      }
    }
  }

  @Test func otherTLSServers() async throws {
    try await withNodes(1) { nodes in
      // Its key is a node's, and the right one, but it agrees on no protocol: not a node.
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: [.certificate(nodes[0].tls.certificate)], privateKey: .privateKey(nodes[0].tls.privateKey))
      configuration.signingSignatureAlgorithms = [.ed25519]
      let context = try NIOSSLContext(configuration: configuration)
      try await withServer({ try $0.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) }) {
        port in
        let itself = try NodeAddress.make(
          by: nodes[0].identity, issued: 1, routes: [NodeRoute(interface: 0, nic: .loopback(.v4), port: UInt16(port))])
        #expect(try await failure { try await nodes[0].connect(itself) }.code == .notP2PD)
        #expect(try await connect(nodes[0], toPort: port).code == .wrongKey)
      }
      // An older TLS.
      configuration.maximumTLSVersion = .tlsv12
      let old = try NIOSSLContext(configuration: configuration)
      try await withServer({ try $0.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: old)) }) { port in
        let error = try await connect(nodes[0], toPort: port)
        #expect(error.code == .notP2PD)
      }
    }
  }

  /// A TLS client without a certificate, or without a protocol, gets no pipe.
  @Test func otherTLSClients() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("", host)
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.certificateVerification = .none
      configuration.verifySignatureAlgorithms = [.ed25519]
      configuration.applicationProtocols = ["p2pd1"]
      let anonymous = try NIOSSLContext(configuration: configuration)
      configuration.certificateChain = [.certificate(nodes[1].tls.certificate)]
      configuration.privateKey = .privateKey(nodes[1].tls.privateKey)
      configuration.signingSignatureAlgorithms = [.ed25519]
      configuration.applicationProtocols = ["h2"]
      let foreign = try NIOSSLContext(configuration: configuration)
      for context in [anonymous, foreign] {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelInitializer {
          channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandlers([
              NIOSSLClientHandler(context: context, serverHostname: nil), Listener(),
            ])
          }
        }.connect(host: "127.0.0.1", port: Int(nodes[0].port)).get()
        try await channel.closeFuture.get()
      }
      #expect(host.view.opened.isEmpty)
      #expect(try await nodes[0].onLoop { $0.counter.pipes + $0.counter.handshakes } == 0)
      try await stillServes(nodes[0], nodes[1])
    }
  }

  /// An announced message beyond the limit ends the pipe, not the node.
  @Test func anOversizedMessage() async throws {
    let host = Recorder()
    try await withNodes(2, { index, configuration in if index == 0 { configuration.maxMessage = 1000 } }) { nodes in
      try await nodes[0].hosting("p", host)
      let pipe = try await nodes[1].connect(nodes[0].address, protocol: "p")
      try await pipe.say(String(repeating: "x", count: 1000))
      try await pipe.say(String(repeating: "x", count: 1001))
      await host.wait { $0.ends.count == 1 }
      #expect(host.view.messages.count == 1)
      #expect(host.view.ends.first?.contains("over the limit of 1000") == true)
      try await stillServes(nodes[0], nodes[1])
    }
  }
}
