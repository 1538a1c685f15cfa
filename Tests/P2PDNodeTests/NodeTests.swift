import NIOCore
import NIOPosix
import P2PDNet
import Testing

@testable import P2PDNode

@Suite(.timeLimit(.minutes(1))) struct NodeTests {
  @Test func echoAndKeys() async throws {
    try await withNodes { nodes in
      let address = try await nodes[0].onLoop { $0.address }
      #expect(address.routes.map(\.nic) == [.loopback(.v4)])
      #expect(address.routes.first?.port == nodes[0].port)
      let pipe = try await nodes[1].connect(NodeAddress(address.description))
      try await pipe.say("ECHO test send")
      #expect(try await pipe.hear() == "test send")
      try await pipe.say("ECHO ")
      #expect(try await pipe.hear() == "")
      #expect(pipe.peerKey == nodes[0].identity.key.bytes)
      #expect(pipe.strategy == "direct")
      #expect(pipe.path == "same machine")
      let accepted = try #require(try await nodes[0].onLoop { $0.pipes().first })
      #expect(accepted.peerKey == nodes[1].identity.key.bytes)
      #expect(accepted.path == "same machine")
      await pipe.end()
    }
  }

  @Test func aNodeReachesItself() async throws {
    try await withNodes(1) { nodes in
      let pipe = try await nodes[0].connect(nodes[0].address)
      try await pipe.say("ECHO me")
      #expect(try await pipe.hear() == "me")
      #expect(try await nodes[0].onLoop { $0.pipes().count } == 2)
    }
  }

  @Test func messagesKeepTheirBounds() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("chat", host)
      let pipe = try await nodes[1].connect(nodes[0].address, protocol: "chat")
      #expect(pipe.protocolName == "chat")
      let sizes = [0, 1, 2, 100, 16_384, 16_385, 70_000, 1 << 20]
      for size in sizes { try await pipe.say(String(repeating: "x", count: size)) }
      await host.wait { $0.messages.count == sizes.count }
      #expect(host.view.messages.map(\.utf8.count) == sizes)
      #expect(host.view.opened.first?.protocolName == "chat")
      // Only the default protocol echoes.
      try await pipe.say("ECHO no")
      await host.wait { $0.messages.last == "ECHO no" }
    }
  }

  @Test func theDefaultProtocolsHandlerDoesNotSeeTheEcho() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("", host)
      let pipe = try await nodes[1].connect(nodes[0].address)
      for text in ["ECHO a", "ECHO", "echo b", "xECHO c", "ECHOd"] { try await pipe.say(text) }
      #expect(try await pipe.hear() == "a")
      await host.wait { $0.messages.count == 4 }
      #expect(host.view.messages == ["ECHO", "echo b", "xECHO c", "ECHOd"])
    }
  }

  @Test func endsAreTold() async throws {
    let host = Recorder()
    let guest = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("p", host)
      let first = try await nodes[1].connect(nodes[0].address, protocol: "p", sink: guest)
      await host.wait { $0.opened.count == 1 }
      await first.end()
      await host.wait { $0.ends.count == 1 }
      #expect(host.view.ends == ["closed"])
      #expect(guest.view.ends == ["local"])
      _ = try await nodes[1].connect(nodes[0].address, protocol: "p", sink: guest)
      await host.wait { $0.opened.count == 2 }
      await nodes[0].close()
      await guest.wait { $0.ends.count == 2 }
      #expect(guest.view.ends == ["local", "closed"])
      #expect(host.view.ends == ["closed", "local"])
      #expect(try await nodes[1].onLoop { $0.pipes().count } == 0)
    }
  }

  // MARK: What goes wrong has a name

  @Test func aProtocolNotHosted() async throws {
    let host = Recorder()
    try await withNodes { nodes in
      try await nodes[0].hosting("chat", host)
      let error = try await failure { try await nodes[1].connect(nodes[0].address, protocol: "chess") }
      #expect(error.code == .noProtocol)
      #expect(error.attempts.map(\.code) == [.noProtocol])
      try await nodes[0].onLoop { try $0.unhost(protocol: "chat") }
      #expect(try await failure { try await nodes[1].connect(nodes[0].address, protocol: "chat") }.code == .noProtocol)
      try await nodes[0].hosting("chat", host)
      _ = try await nodes[1].connect(nodes[0].address, protocol: "chat")
      #expect(
        try await failure { try await nodes[1].connect(nodes[0].address, protocol: "no good") }.code == .badAddress)
      #expect(try await failure { try await nodes[0].hosting("a/b", host) }.code == .badAddress)
    }
  }

  @Test func anotherNodeInItsPlace() async throws {
    try await withNodes { nodes in
      let routes = try await nodes[0].onLoop { $0.address.routes }
      let stranger = Identity.ephemeral()
      let error = try await failure {
        try await nodes[1].connect(NodeAddress.make(by: stranger, issued: 1, routes: routes))
      }
      #expect(error.code == .wrongKey)
      #expect(error.description.contains("node \(nodes[0].id), not \(stranger.id)"))
      // It was no pipe for the one that answered, and costs it nothing.
      let counts = try await nodes[0].onLoop { ($0.pipes().count, $0.counter.pipes) }
      #expect(counts == (0, 0))
    }
  }

  @Test func nobodyThere() async throws {
    try await withNodes { nodes in
      let address = try await nodes[0].onLoop { $0.address }
      await nodes[0].close()
      let error = try await failure { try await nodes[1].connect(address) }
      #expect(error.code == .refused)
      #expect(error.attempts.filter { $0.way?.strategy == "direct" }.count == 1)
      #expect(error.attempts.dropFirst().map { $0.way?.strategy } == ["reverse", "punch", "relay"])
      #expect(
        error.attempts.dropFirst().allSatisfy { $0.cause == "not tried: the other node's address names no broker" })
      #expect(error.attempts.first?.description.contains("direct 127.0.0.1:") == true)
      let nowhere = try NodeAddress.make(by: .ephemeral(), issued: 1, routes: [])
      #expect(try await failure { try await nodes[1].connect(nowhere) }.code == .unreachable)
    }
  }

  @Test func aClosedNodeConnectsNoMore() async throws {
    try await withNodes { nodes in
      await nodes[1].close()
      await nodes[1].close()
      let error = try await failure { try await nodes[1].connect(nodes[0].address) }
      #expect(error.code == .closed)
    }
  }

  @Test func givingUp() async throws {
    try await withSilentServer { port in
      try await withNodes(1) { nodes in
        let address = try NodeAddress.make(
          by: .ephemeral(), issued: 1, routes: [NodeRoute(interface: 0, nic: .loopback(.v4), port: port)])
        let error = try await failure {
          try await nodes[0].loop.flatSubmit { () -> EventLoopFuture<Pipe> in
            let (pipe, cancel) = nodes[0].connecting(address)
            cancel()
            return pipe
          }.get()
        }
        #expect(error.code == .cancelled)
        let late = try await failure { try await nodes[0].connect(address, timeout: .milliseconds(150)) }
        #expect(late.code == .timeout)
        #expect(late.attempts.filter { $0.way?.strategy == "direct" }.map(\.code) == [.timeout])
        let left = try await nodes[0].onLoop { $0.connectors.count }
        #expect(left == 0)
      }
    }
  }

  /// A server that accepts and says nothing.
  private func withSilentServer(_ body: (UInt16) async throws -> Void) async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let server = try await ServerBootstrap(group: group).bind(host: "127.0.0.1", port: 0).get()
    do {
      try await body(UInt16(server.localAddress?.port ?? 0))
    } catch {
      try? await group.shutdownGracefully()
      throw error
    }
    try await group.shutdownGracefully()
  }

  @Test func nothingIsLeftOfAClosedNode() async throws {
    try await withNodes(1) { nodes in
      weak var gone: Node?
      let folder = nodes[0]
      do {
        var configuration = NodeConfiguration()
        configuration.ephemeral = true
        configuration.listen = [.loopback(.v4)]
        let node = try await Node.start(configuration, on: folder.loop, logger: LogLines().logger)
        gone = node
        let out = try await node.connect(folder.address)
        let back = try await folder.connect(node.address)
        try await out.say("ECHO a")
        #expect(try await out.hear() == "a")
        await node.close()
        _ = try await back.ended.get()
      }
      // Timers and closures of the loop's last round may hold it a little longer.
      for _ in 0..<100 where gone != nil {
        try await folder.loop.scheduleTask(in: .milliseconds(20)) {}.futureResult.get()
      }
      #expect(gone == nil)
    }
  }

  // MARK: Starting

  @Test func theSecondStartHasTheSameKeyAndPort() async throws {
    try await withTemporaryFolder { folder in
      let change: (Int, inout NodeConfiguration) -> Void = { _, configuration in
        configuration.ephemeral = false
        configuration.stateDirectory = folder
      }
      let first = try await withNodes(1, change) { ($0[0].id, $0[0].port) }
      let second = try await withNodes(1, change) { ($0[0].id, $0[0].port) }
      #expect(first == second)
      #expect((20_000...32_767).contains(first.1))
      // Taken by somebody else: another one, said aloud and kept.
      let thief = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(
        host: "127.0.0.1", port: Int(first.1)
      ).get()
      let log = LogLines()
      let third = try await withNodes(1, change, log: log) { ($0[0].id, $0[0].port) }
      #expect(third.0 == first.0)
      #expect(third.1 != first.1)
      #expect(log.all.contains { $0.hasPrefix("warning the port of the last start is in use") })
      try await thief.close()
      #expect(try await withNodes(1, change) { $0[0].port } == third.1)
    }
  }

  @Test func twoOfOneFolder() async throws {
    try await withTemporaryFolder { folder in
      let log = LogLines()
      let change: (Int, inout NodeConfiguration) -> Void = { _, configuration in
        configuration.ephemeral = false
        configuration.stateDirectory = folder
      }
      let port = try await withNodes(2, change, log: log) { nodes in
        #expect(nodes[0].id == nodes[1].id)
        #expect(nodes[0].port != nodes[1].port)
        let pipe = try await nodes[1].connect(nodes[0].address)
        try await pipe.say("ECHO twin")
        #expect(try await pipe.hear() == "twin")
        return nodes[0].port
      }
      #expect(log.all.contains { $0.hasPrefix("warning another running node uses this state folder") })
      #expect(
        try await withNodes(1, change) { $0[0].port } == port, "the second one did not take the first one's port away")
    }
  }

  @Test func aPortAskedForThatIsTaken() async throws {
    try await withNodes(1) { nodes in
      let error = try await failure { try await withNodes(1, { $1.port = nodes[0].port }) { _ in } }
      #expect(error.code == .inUse)
      #expect(error.description.contains("127.0.0.1:\(nodes[0].port)"))
    }
  }

  @Test func badConfigurations() async throws {
    let name = try await failure { try await withNodes(1, { $1.interfaces = ["no-such-if"] }) { _ in } }
    #expect(name.code == .badAddress)
    #expect(name.description.contains("there are lo"))
    let address = try await failure {
      try await withNodes(1, { $1.listen = [IPAddress(family: .v4, high: 0xc000_0201 << 32, low: 0)] }) { _ in }
    }
    #expect(address.code == .badAddress)
  }

  @Test func bothFamiliesOnOnePort() async throws {
    try await withNodes(2, { $1.listen = [.loopback(.v4), .loopback(.v6)] }) { nodes in
      let routes = try await nodes[0].onLoop { $0.address.routes }
      #expect(routes.map(\.nic) == [.loopback(.v4), .loopback(.v6)])
      #expect(Set(routes.map(\.port)) == [nodes[0].port])
      for route in routes {
        let pipe = try await nodes[1].connect(NodeAddress.make(by: nodes[0].identity, issued: 1, routes: [route]))
        try await pipe.say("ECHO \(route.nic)")
        #expect(try await pipe.hear() == "\(route.nic)")
        #expect(pipe.family == route.family)
      }
    }
  }
}
