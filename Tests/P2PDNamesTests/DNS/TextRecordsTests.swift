import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// Questions on the wire, in a network in memory: the sockets' side of what ``TextQueryTests`` steps by hand.
@Suite struct TextRecordsTests {
  /// Answers every question as `reply` says; nil says nothing.
  private final class Server: PipeSink, @unchecked Sendable {
    var questions = 0
    let reply: (DNSMessage, PipeProto) -> [UInt8]?

    init(on host: MemoryHost, _ reply: @escaping (DNSMessage, PipeProto) -> [UInt8]?) async throws {
      self.reply = reply
      let bind = Endpoint(ip: .wildcard(.v4), port: 53)
      var conf = PipeConf()
      _ = try await PipeOpener.open(.udp, bind: bind, conf: conf, sink: self, on: host.loop).get()
      conf.framing = .u16
      _ = try await PipeOpener.open(.tcp, bind: bind, conf: conf, sink: self, on: host.loop).get()
    }

    func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? { self }

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      guard let message = DNSMessage([UInt8](bytes)) else { return true }
      questions += 1
      if let answer = reply(message, pipe.proto) { _ = answer.withUnsafeBytes { pipe.send($0, to: peer) } }
      return true
    }
  }

  private static func answer(_ message: DNSMessage, _ text: String, _ change: (inout DNSMessage) -> Void = { _ in })
    -> [UInt8]
  {
    var answer = message
    answer.isResponse = true
    answer.additionals = []
    let strings = stride(from: 0, to: max(1, text.utf8.count), by: 200).map {
      Array(text.utf8.dropFirst($0).prefix(200))
    }
    answer.answers = [DNSRecord(name: message.questions[0].name, ttl: 60, data: .txt(strings))]
    change(&answer)
    return answer.bytes
  }

  private func world<T: Sendable>(
    _ body:
      @escaping @Sendable (MemoryNetwork, _ client: MemoryHost, _ one: MemoryHost, _ two: MemoryHost) async throws
      -> T
  ) async throws -> T {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 5)
    let (client, one, two) = (net.addHost("client"), net.addHost("one"), net.addHost("two"))
    net.standard.latency = .milliseconds(10)
    return try await client.loop.run {
      defer { net.reset(seed: 0) }
      return try await body(net, client, one, two)
    }.get()
  }

  private static func servers(_ hosts: MemoryHost...) -> [Endpoint] {
    hosts.compactMap { $0.addresses.first.map { Endpoint(ip: $0, port: 53) } }
  }

  @Test("a text of any length comes, over UDP or TCP")
  func found() async throws {
    try await world { net, client, one, _ in
      let long = String(repeating: "p2pd1", count: 2000)
      let server = try await Server(on: one) { message, proto in
        let isLong = message.questions[0].name == DNSName("long.example.org")
        if isLong, proto == .udp { return Self.answer(message, "") { ($0.answers, $0.isTruncated) = ([], true) } }
        return Self.answer(message, isLong ? long : "short")
      }
      let records = TextRecords(servers: Self.servers(one), on: client.loop)
      #expect(try await records.text(of: "_p2pd.example.org").get() == ["short"])
      #expect(try await records.text(of: "long.example.org").get() == [long])
      #expect(server.questions == 3)
      #expect(client.open.sockets == 0 && client.open.calls == 0)
    }
  }

  @Test("a silent server costs its patience, a lost one nothing; nobody at all is a timeout in the time given")
  func silent() async throws {
    try await world { net, client, one, two in
      _ = try await Server(on: one) { _, _ in nil }
      _ = try await Server(on: two) { message, _ in Self.answer(message, "here") }
      let began = net.time.now
      let records = TextRecords(servers: Self.servers(one, two), on: client.loop)
      #expect(try await records.text(of: "a.example").get() == ["here"])
      #expect(net.time.now - began == .milliseconds(1520))
      two.hasVanished = true
      let again = net.time.now
      await #expect { try await records.text(of: "a.example", timeout: .seconds(4)).get() } throws: {
        ($0 as? NetError)?.code == .timeout
      }
      #expect(net.time.now - again == .seconds(4))
    }
  }

  @Test("an answer from somebody else is not heard, rubbish neither")
  func forged() async throws {
    try await world { net, client, one, two in
      let liar = try await Server(on: two) { _, _ in nil }
      _ = try await Server(on: one) { message, _ in
        // The liar knows everything, and answers first, to every port there is.
        let lie = Self.answer(message, "lie")
        client.loop.execute {
          let pipe = PipeOpener.open(.udp, bind: Endpoint(ip: .wildcard(.v4), port: 53_000), sink: liar, on: two.loop)
          pipe.assumeIsolated().whenSuccess { pipe in
            for port in UInt16(49_152)...49_170 {
              guard let ip = client.addresses.first else { return }
              _ = lie.withUnsafeBytes { pipe.send($0, to: pipe.peer(for: Endpoint(ip: ip, port: port))) }
            }
          }
        }
        return [1, 2, 3]
      }
      let records = TextRecords(servers: Self.servers(one), on: client.loop)
      await #expect { try await records.text(of: "a.example", timeout: .seconds(2)).get() } throws: {
        ($0 as? NetError)?.code == .timeout
      }
    }
  }

  @Test("what is no name is refused before anybody is asked; a stop ends what is under way")
  func misuse() async throws {
    try await world { net, client, one, _ in
      let records = TextRecords(servers: Self.servers(one), on: client.loop)
      for bad in ["", ".", "a..b", "a b", "bücher.example", String(repeating: "x", count: 64)] {
        await #expect { try await records.text(of: bad).get() } throws: { ($0 as? NetError)?.code == .badAddress }
      }
      let pending = records.text(of: "a.example")
      client.loop.execute { records.stop() }
      await #expect { try await pending.get() } throws: { ($0 as? NetError)?.code == .closed }
      await #expect { try await records.text(of: "a.example").get() } throws: { ($0 as? NetError)?.code == .closed }
      #expect(client.open.sockets == 0)
    }
  }
}
