import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import P2PDNet
import Testing

@testable import P2PDNode

/// What happens to connections that others spoil: silent peers, lost races, floods.
@Suite(.timeLimit(.minutes(1))) struct PipeLifeTests {
  /// Passes bytes on between a client and a node, until it is frozen: then it keeps both connections open and passes
  /// nothing.
  private final class Wire: @unchecked Sendable {
    private let frozen = NIOLockedValueBox(false)
    private let ended = NIOLockedValueBox(0)
    private var server: (any Channel)?

    var port: UInt16 { UInt16(server?.localAddress?.port ?? 0) }
    /// Connections of clients that are over.
    var closedConnections: Int { ended.withLockedValue { $0 } }

    func freeze() { frozen.withLockedValue { $0 = true } }

    static func start(to port: UInt16?) async throws -> Wire {
      let wire = Wire()
      wire.server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .childChannelInitializer { near in
          near.closeFuture.whenComplete { _ in wire.ended.withLockedValue { $0 += 1 } }
          guard let port else { return near.eventLoop.makeSucceededVoidFuture() }
          return ClientBootstrap(group: near.eventLoop)
            .channelInitializer { far in
              far.eventLoop.makeCompletedFuture { try far.pipeline.syncOperations.addHandler(Half(wire, near)) }
            }
            .connect(host: "127.0.0.1", port: Int(port))
            .flatMapThrowing { far in try near.pipeline.syncOperations.addHandler(Half(wire, far)) }
        }
        .bind(host: "127.0.0.1", port: 0).get()
      return wire
    }

    func stop() async throws { try await server?.close() }

    private final class Half: ChannelInboundHandler {
      typealias InboundIn = ByteBuffer
      private let wire: Wire
      private let other: any Channel
      init(_ wire: Wire, _ other: any Channel) {
        self.wire = wire
        self.other = other
      }
      func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if !wire.frozen.withLockedValue({ $0 }) { other.writeAndFlush(Self.unwrapInboundIn(data), promise: nil) }
      }
      func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
      func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
  }

  private func address(of node: Node, at ports: [UInt16]) throws -> NodeAddress {
    try NodeAddress.make(
      by: node.identity, issued: 1, routes: ports.map { NodeRoute(interface: 0, nic: .loopback(.v4), port: $0) })
  }

  @Test func aVanishedPeerIsFoundDead() async throws {
    let host = Recorder()
    let guest = Recorder()
    let change: (Int, inout NodeConfiguration) -> Void = {
      $1.keepAlive = KeepAlive(interval: .milliseconds(200), missed: 4)
    }
    try await withNodes(2, change) { nodes in
      try await nodes[0].hosting("p", host)
      let wire = try await Wire.start(to: nodes[0].port)
      let pipe = try await nodes[1].connect(address(of: nodes[0], at: [wire.port]), protocol: "p", sink: guest)
      // While both are there, silence ends nothing: it is broken by pings, whose answers give the round trip.
      try await pipe.loop.scheduleTask(in: .milliseconds(1_200)) {}.futureResult.get()
      #expect(guest.view.ends.isEmpty)
      #expect(try await pipe.loop.submit { pipe.stats().rtt }.get() != nil)
      wire.freeze()
      await guest.wait { $0.ends.count == 1 }
      await host.wait { $0.ends.count == 1 }
      #expect(guest.view.ends == ["timeout"])
      #expect(host.view.ends == ["timeout"])
      let left = try await nodes[0].onLoop { ($0.pipes().count, $0.counter.pipes) }
      #expect(left == (0, 0))
      try await wire.stop()
    }
  }

  @Test func theDefaultFindsThemInThirtySeconds() throws {
    let keepAlive = try #require(NodeConfiguration().keepAlive)
    #expect(keepAlive.interval * keepAlive.missed == .seconds(30))
  }

  @Test func losersOfTheRaceAreClosed() async throws {
    try await withNodes { nodes in
      // The first way accepts and says nothing; the second leads to the node.
      let silent = try await Wire.start(to: nil)
      let pipe = try await nodes[1].connect(address(of: nodes[0], at: [silent.port, nodes[0].port]))
      try await pipe.say("ECHO won")
      #expect(try await pipe.hear() == "won")
      #expect(pipe.peer?.port == Int(nodes[0].port))
      while silent.closedConnections == 0 { await Task.yield() }
      try await silent.stop()
    }
  }

  @Test func oneWinnerOfManyWays() async throws {
    try await withNodes { nodes in
      let wires = [try await Wire.start(to: nodes[0].port), try await Wire.start(to: nodes[0].port)]
      let pipe = try await nodes[1].connect(address(of: nodes[0], at: wires.map(\.port) + [nodes[0].port]))
      try await pipe.say("ECHO one")
      #expect(try await pipe.hear() == "one")
      #expect(try await nodes[1].onLoop { $0.pipes().count } == 1)
      for wire in wires { try await wire.stop() }
    }
  }

  @Test func failuresOfEachWayAreKept() async throws {
    try await withNodes { nodes in
      let silent = try await Wire.start(to: nil)
      let routes =
        [silent.port, 1].map { NodeRoute(interface: 0, nic: .loopback(.v4), port: $0) }
        + [NodeRoute(interface: 1, nic: .loopback(.v4), port: nodes[1].port)]
      let address = try NodeAddress.make(by: nodes[0].identity, issued: 1, routes: routes)
      let error = try await failure { try await nodes[1].connect(address, timeout: .milliseconds(400)) }
      #expect(error.attempts.prefix(3).map(\.code) == [.timeout, .refused, .wrongKey])
      #expect(error.code == .wrongKey, "the most telling one")
      #expect(error.description.split(separator: "\n").filter { $0.hasPrefix("  - direct 127.0.0.1:") }.count == 3)
      try await silent.stop()
    }
  }

  @Test func echoesAreNotPiledUp() async throws {
    try await withNodes { nodes in
      let pipe = try await nodes[1].connect(nodes[0].address)
      // 64 MiB of echoes that nobody reads: the guest's inbox fills, then the node's outbox, then the guest may not
      // send.
      let chunk = "ECHO " + String(repeating: "x", count: 256 << 10)
      try await pipe.loop.submit { pipe.hold() }.get()
      var full = false
      for _ in 0..<256 where !full {
        full = try await pipe.loop.submit { () -> Bool in
          let outcome = Array(chunk.utf8).withUnsafeBytes { pipe.send($0) }
          switch outcome {
          case .sent: return false
          case .full: return true
          case .failed(let error): throw error
          }
        }.get()
        // Lets the bytes travel.
        try await pipe.loop.submit {}.get()
        if full {
          let drained = try await pipe.loop.flatSubmit { () -> EventLoopFuture<Bool> in
            let promise = pipe.loop.makePromise(of: Bool.self)
            pipe.whenWritable { error in promise.succeed(error == nil) }
            pipe.loop.scheduleTask(in: .milliseconds(300)) { promise.succeed(false) }
            return promise.futureResult
          }.get()
          full = !drained
        }
      }
      #expect(full, "the guest was stopped")
      let unsent = try await nodes[0].onLoop { $0.pipes().map { $0.stats().unsent }.max() ?? 0 }
      #expect(unsent < 4 << 20, "\(unsent) bytes wait in the node")
    }
  }
}
