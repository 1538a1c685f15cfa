import Foundation
import NIOCore
import NIOPosix
import Testing

@testable import P2PDNet

@Suite struct PipeTests {
  let kit = PipeKit()

  @Test("a client and a server talk over TCP in each framing", arguments: Framing.allCases)
  func echo(framing: Framing) async throws {
    var conf = PipeConf()
    conf.framing = framing
    let sink = EchoSink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    let client = try await kit.client(to: server)
    for text in ["hello", "a", String(repeating: "x", count: 3000)] {
      #expect(try await kit.send(text, on: client) == "sent")
      #expect(try await kit.receive(client) == text)
    }
    try await kit.close(client, server)
  }

  @Test("both families, and IPv4 through a dual-stack server")
  func families() async throws {
    for ip in [IPAddress.loopback(.v4), .loopback(.v6)] {
      for proto in [PipeProto.tcp, .udp] {
        let server = try await kit.server(proto, EchoSink(), ip: ip)
        let client = try await kit.client(to: server)
        try await kit.send("hi", on: client)
        #expect(try await kit.receive(client) == "hi")
        #expect(client.family == ip.family)
        #expect(client.peer?.endpoint == server.localEndpoint)
        try await kit.close(client, server)
      }
    }
    var dual = PipeConf()
    dual.dualStack = true
    for proto in [PipeProto.tcp, .udp] {
      let sink = EchoSink()
      // The wildcard is what dual-stack is about; only this host's loopback is spoken to.
      let server = try await kit.server(proto, sink, ip: .wildcard(.v6), conf: dual)
      let port = try #require(server.localEndpoint?.port)
      for ip in [IPAddress.loopback(.v4), .loopback(.v6)] {
        let client = try await PipeOpener.open(proto, to: .endpoint(Endpoint(ip: ip, port: port)), on: kit.loop).get()
        try await kit.send("both", on: client)
        #expect(try await kit.receive(client) == "both")
        try await kit.close(client)
      }
      try await kit.close(server)
    }
  }

  @Test("a UDP server tells its clients apart and knows each by one object")
  func udpMultiplex() async throws {
    let sink = EchoSink()
    let server = try await kit.server(.udp, sink)
    let first = try await kit.client(to: server)
    let second = try await kit.client(to: server)
    for round in 0..<3 {
      for client in [first, second] {
        try await kit.send("\(client.id) \(round)", on: client)
        #expect(try await kit.receive(client) == "\(client.id) \(round)")
      }
    }
    #expect(try await kit.on { sink.senders.count } == 2)
    try await kit.close(first, second, server)
  }

  @Test("callbacks and receive can be mixed: who waits gets the message")
  func mixed() async throws {
    let sink = EchoSink(answers: false)
    let server = try await kit.server(.tcp, EchoSink())
    let client = try await kit.client(to: server, sink: sink)
    try await kit.send("to the callback", on: client)
    while try await kit.on({ sink.log.count }) < 2 { try await Task.sleep(for: .milliseconds(1)) }
    async let waited = kit.receive(client)
    while try await kit.on({ client.waiters.isEmpty }) { try await Task.sleep(for: .milliseconds(1)) }
    try await kit.send("to receive", on: client)
    #expect(try await waited == "to receive")
    #expect(try await kit.on { sink.log } == ["open", "to the callback"])
    try await kit.close(client, server)
  }

  @Test("subscriptions get what matches, by content and by sender")
  func subscriptions() async throws {
    let server = try await kit.server(.udp, EchoSink())
    let client = try await kit.client(to: server)
    let port = Int(try #require(server.localEndpoint).port)
    let (pings, anyPort, wrong) = try await kit.on {
      (
        client.subscribe(matching: { $0.starts(with: "PING".utf8) }),
        client.subscribe(from: ("127.0.0.1", 0)), client.subscribe(from: ("127.0.0.1", port == 1 ? 2 : 1))
      )
    }
    try await kit.send("other", on: client)
    try await kit.send("PING 1", on: client)
    #expect(try await kit.receive(client, pings) == "PING 1")
    #expect(try await kit.receive(client, anyPort) == "other")
    #expect(try await kit.receive(client, anyPort) == "PING 1")
    #expect(try await kit.on { client.receiveNow(from: wrong) == nil })
    try await kit.on { client.unsubscribe(pings) }
    try await kit.close(client, server)
  }

  @Test("receive gives up after its timeout, and a ticket can be cancelled")
  func timeouts() async throws {
    let server = try await kit.server(.tcp, EchoSink())
    let client = try await kit.client(to: server)
    let error = await failure { try await kit.receive(client, timeout: .milliseconds(20)) }
    #expect(error?.code == .timeout)
    let ticket = try await kit.on {
      client.receive(timeout: nil) { _ in Issue.record("cancelled tickets stay silent") }
    }
    try await kit.on { ticket?.cancel() }
    try await kit.send("after", on: client)
    #expect(try await kit.receive(client) == "after")
    try await kit.close(client, server)
  }

  @Test("duplicates are dropped with enable_msg_ids")
  func duplicates() async throws {
    var conf = PipeConf()
    conf.enableMsgIDs = true
    let sink = EchoSink(answers: false)
    let server = try await kit.server(.udp, sink, conf: conf)
    let client = try await kit.client(to: server, conf: PipeConf())
    for text in ["a", "a", "b", "a", "end"] { try await kit.send(text, on: client) }
    while try await kit.on({ sink.log.last }) != "end" { try await Task.sleep(for: .milliseconds(1)) }
    #expect(try await kit.on { sink.log } == ["open", "a", "b", "end"])
    #expect(try await kit.on { server.stats().dropped } == 2)
    try await kit.close(client, server)
  }

  @Test("what cannot be opened or sent says why with a code")
  func failures() async throws {
    let server = try await kit.server(.tcp, EchoSink())
    let taken = try #require(server.localEndpoint)
    let inUse = await failure { try await PipeOpener.open(.tcp, bind: taken, on: kit.loop).get() }
    #expect(inUse?.code == .inUse)
    try await kit.close(server)
    let refused = await failure { try await PipeOpener.open(.tcp, to: .endpoint(taken), on: kit.loop).get() }
    #expect(refused?.code == .refused, "\(String(describing: refused))")
    let foreign = Endpoint(ip: try #require(IPAddress("192.0.2.1")), port: 0)
    let notOurs = await failure { try await PipeOpener.open(.udp, bind: foreign, on: kit.loop).get() }
    #expect(notOurs?.code == .badAddress)
    let missing = await failure {
      try await PipeOpener.open(.tcp, to: .unix("/nonexistent/socket"), on: kit.loop).get()
    }
    #expect(missing?.code == .badAddress)
    let udp = try await kit.server(.udp, EchoSink())
    let client = try await kit.client(to: udp)
    #expect(try await kit.send(String(repeating: "x", count: 70_000), on: client) == "too_long")
    #expect(try await kit.send("nobody was here yet", on: udp) == "bad_address")
    try await kit.close(udp, client)
    #expect(try await kit.send("late", on: client) == "closed")
  }

  @Test("no socket of a pipe is inherited by child processes", arguments: [PipeProto.tcp, .udp])
  func closeOnExec(proto: PipeProto) async throws {
    let server = try await kit.server(proto, EchoSink())
    let client = try await kit.client(to: server)
    try await kit.send("x", on: client)
    _ = try await kit.receive(client)
    let ports = Set([server, client].compactMap(\.localEndpoint).map(\.port))
    var flags: [Int32] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
      var address = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      guard let fd = Int32(name) else { continue }
      let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
      }
      if result == 0, ports.contains(UInt16(bigEndian: address.sin_port)) { flags.append(fcntl(fd, F_GETFD)) }
    }
    #expect(flags.count == (proto == .tcp ? 3 : 2))
    #expect(flags.allSatisfy { $0 & FD_CLOEXEC != 0 })
    try await kit.close(client, server)
  }

  @Test("a Unix-domain socket is a destination like any other")
  func unixSocket() async throws {
    let path = NSTemporaryDirectory() + "p2pd-\(UUID().uuidString.prefix(8)).sock"
    defer { unlink(path) }
    let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(RawEcho()) }
      }
      .bind(unixDomainSocketPath: path).get()
    let client = try await PipeOpener.open(.tcp, to: .unix(path), on: kit.loop).get()
    try await kit.send("local", on: client)
    #expect(try await kit.receive(client) == "local")
    #expect(client.peer?.host == path)
    try await kit.close(client)
    try await listener.close()
  }
}

/// An echo that knows nothing of pipes.
final class RawEcho: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer
  func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.writeAndFlush(data, promise: nil) }
}
