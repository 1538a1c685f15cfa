import NIOCore
import P2PDNet
import P2PDNode
import Testing

/// Nodes on two machines of one network, over the kernel's own network.
@Suite(
  "Nodes on a LAN", .enabled(if: InterfaceNamespace.isAvailable, Comment(rawValue: InterfaceNamespace.whyNot)),
  .timeLimit(.minutes(2)))
struct NodeLanScenario {
  private static func echo(_ pipe: Pipe, _ text: String) async throws -> String {
    let answer = try await pipe.loop.flatSubmit { () -> EventLoopFuture<ByteBuffer> in
      let promise = pipe.loop.makePromise(of: ByteBuffer.self)
      if case .failed(let error) = Array("ECHO \(text)".utf8).withUnsafeBytes({ pipe.send($0) }) { promise.fail(error) }
      _ = pipe.receive(timeout: .seconds(10)) { promise.completeWith($0.map(\.bytes).mapError { $0 }) }
      return promise.futureResult
    }.get()
    return String(buffer: answer)
  }

  private static func address(of node: Node) async throws -> NodeAddress {
    try await node.loop.submit { node.address }.get()
  }

  @Test func iPv4() async throws {
    try await TwoMachines.run(left: ["192.168.77.1/24"], right: ["192.168.77.2/24"]) { left, right in
      let host = try await left.node { $0.listen = [.wildcard(.v4)] }
      let guest = try await right.node()
      let address = try await Self.address(of: host)
      #expect(address.routes.map(\.nic.description) == ["192.168.77.1"])
      let pipe = try await guest.connect(address)
      #expect(pipe.path == "lan")
      #expect(try await Self.echo(pipe, "over the cable") == "over the cable")
      #expect(pipe.route?.interface?.name == "cable1")
      await guest.close()
      await host.close()
    }
  }

  @Test func linkLocalOnly() async throws {
    try await TwoMachines.run(left: ["fe80::1/64"], right: ["fe80::2/64"]) { left, right in
      let host = try await left.node()
      let guest = try await right.node()
      let address = try await Self.address(of: host)
      #expect(address.routes.allSatisfy { $0.nic.isLinkLocal && $0.nic.scopeID == 0 })
      let pipe = try await guest.connect(NodeAddress(address.description))
      #expect(pipe.path == "link-local")
      #expect(pipe.peer?.endpoint?.ip.scopeID != 0, "the scope is this machine's own")
      #expect(try await Self.echo(pipe, "no router, no numbers") == "no router, no numbers")
      let accepted = try await host.loop.submit { host.pipes().map(\.path) }.get()
      #expect(accepted == ["link-local"])
      await guest.close()
      await host.close()
    }
  }

  @Test func bothFamilies() async throws {
    try await TwoMachines.run(
      left: ["10.1.0.1/24", "fd00:77::1/64"], right: ["10.1.0.2/24", "fd00:77::2/64"]
    ) { left, right in
      let host = try await left.node()
      let guest = try await right.node()
      let address = try await Self.address(of: host)
      #expect(Set(address.routes.map(\.family)) == [.v4, .v6])
      for route in address.routes {
        let only = try NodeAddress.make(by: host.identity, issued: 1, routes: [route])
        let pipe = try await guest.connect(only)
        #expect(pipe.family == route.family)
        #expect(try await Self.echo(pipe, "\(route.nic)") == "\(route.nic)")
      }
      await guest.close()
      await host.close()
    }
  }

  /// Another network's private address is not dialled, and the failure says so.
  @Test func anotherNetwork() async throws {
    try await TwoMachines.run(left: ["192.168.77.1/24"], right: ["10.9.9.9/24"]) { left, right in
      let host = try await left.node { $0.listen = [.wildcard(.v4)] }
      let guest = try await right.node { $0.listen = [.wildcard(.v4)] }
      let address = try await Self.address(of: host)
      do {
        _ = try await guest.connect(address)
        Issue.record("it connected")
      } catch let error as NetError {
        #expect(error.code == .unreachable)
        #expect(error.description.contains("a private address of a network this machine is not in"))
      }
      await guest.close()
      await host.close()
    }
  }

  @Test func theAddressFollowsTheInterfaces() async throws {
    try await TwoMachines.run(left: ["192.168.77.1/24"], right: ["192.168.77.2/24"]) { left, right in
      let host = try await left.node { $0.listen = [.wildcard(.v4)] }
      let guest = try await right.node()
      let before = try await Self.address(of: host)
      try left.ip("addr del 192.168.77.1/24 dev cable0")
      try left.ip("addr add 192.168.77.99/24 dev cable0")
      var after = before
      while after.routes.map(\.nic.description) != ["192.168.77.99"] {
        try Task.checkCancellation()
        try await host.loop.scheduleTask(in: .milliseconds(10)) {}.futureResult.get()
        after = try await Self.address(of: host)
      }
      #expect(after.key == before.key)
      let pipe = try await guest.connect(after)
      #expect(try await Self.echo(pipe, "moved") == "moved")
      await guest.close()
      await host.close()
    }
  }

  /// A cable that is pulled ends the pipes on both sides within the keep-alive's time; nobody says goodbye.
  @Test func aPulledCable() async throws {
    try await TwoMachines.run(left: ["192.168.77.1/24"], right: ["192.168.77.2/24"]) { left, right in
      let keepAlive = KeepAlive(interval: .milliseconds(100), missed: 3)
      let host = try await left.node { $0.keepAlive = keepAlive }
      let guest = try await right.node { $0.keepAlive = keepAlive }
      let address = try await Self.address(of: host)
      let pipe = try await guest.connect(address)
      #expect(try await Self.echo(pipe, "still here") == "still here")
      let accepted = try #require(try await host.loop.submit { host.pipes().first }.get())
      try left.ip("link set cable0 down")
      let ends = try await (pipe.ended.get(), accepted.ended.get())
      #expect(ends.0.code == "timeout")
      #expect(ends.1.code == "timeout")
      do {
        _ = try await guest.connect(address, timeout: .milliseconds(300))
        Issue.record("it connected")
      } catch let error as NetError {
        #expect([.timeout, .unreachable].contains(error.code), "\(error)")
      }
      await guest.close()
      await host.close()
    }
  }
}
