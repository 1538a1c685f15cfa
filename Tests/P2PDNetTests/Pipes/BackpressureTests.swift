import Foundation
import NIOCore
import Testing

@testable import P2PDNet

@Suite struct BackpressureTests {
  let kit = PipeKit()

  @Test("a TCP pipe with a busy sink stops reading and loses nothing")
  func slowReader() async throws {
    var conf = PipeConf()
    conf.framing = .u32
    conf.maxQsize = 8
    let sink = SlowSink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    let client = try await kit.client(to: server, conf: conf)
    let sent = try await kit.on {
      let bytes = [UInt8](repeating: 1, count: 1000)
      var count = 0
      while case .sent = bytes.withUnsafeBytes({ client.send($0) }) { count += 1 }
      return count + 1
    }
    while try await kit.on({ sink.pipe?.isReading ?? true }) { try await Task.sleep(for: .milliseconds(1)) }
    let pipe = try #require(try await kit.on { sink.pipe })
    #expect(try await kit.on { pipe.stats().queued } <= 8)
    #expect(try await kit.on { pipe.undecoded.readableBytes } < 2 << 20)
    while try await kit.on({ sink.got.count }) < sent {
      try await kit.on {
        sink.room = 50
        pipe.ready()
      }
    }
    #expect(try await kit.on { sink.got.count } == sent)
    #expect(try await kit.on { pipe.stats().dropped } == 0)
    try await kit.close(client, server)
  }

  @Test(
    "who waits because answers to one read are held together is told when they went out at once",
    .timeLimit(.minutes(1)))
  func corkedAnswers() async throws {
    /// Sends two answers of 600 bytes for a line, and waits as `send` says.
    final class Sink: PipeSink, @unchecked Sendable {
      var (waits, told) = (0, 0)
      func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
        let answer = [UInt8](repeating: 0x61, count: 600)
        for _ in 0..<2 {
          guard case .full = answer.withUnsafeBytes({ pipe.send($0, to: peer) }) else { continue }
          waits += 1
          pipe.whenWritable { _ in self.told += 1 }
        }
        return true
      }
      func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? { self }
    }
    var conf = PipeConf()
    conf.framing = .line
    conf.sendHighWater = 1000
    let sink = Sink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    conf.framing = .raw
    let client = try await kit.client(to: server, conf: conf)
    let lines = 50
    try await kit.send(String(repeating: "x\n", count: lines), on: client)
    var got = 0
    while got < lines * 2 * 601 { got += try await kit.receive(client).utf8.count }
    #expect(got == lines * 2 * 601)
    while try await kit.on({ sink.told < sink.waits }) {
      try Task.checkCancellation()
      try await Task.sleep(for: .milliseconds(1))
    }
    try await kit.close(client, server)
  }

  @Test("a UDP pipe with a full queue drops the newest and counts it")
  func udpDrops() async throws {
    var conf = PipeConf()
    conf.maxQsize = 4
    let server = try await kit.server(.udp, SlowSink(), conf: conf)
    let client = try await kit.client(to: server)
    for number in 0..<10 { try await kit.send("\(number)", on: client) }
    while try await kit.on({ server.stats().messagesIn + server.stats().dropped }) < 10 {
      try await Task.sleep(for: .milliseconds(1))
    }
    #expect(try await kit.on { server.stats().dropped } == 6)
    #expect(try await kit.on { server.stats().queued } == 4)
    #expect(try await kit.receive(server) == "0")
    try await kit.close(client, server)
  }

  @Test("send reports full, refuses past the limit, and says when there is room")
  func sendLimits() async throws {
    var conf = PipeConf()
    conf.framing = .u32
    conf.maxMessage = 1 << 20
    conf.sendHighWater = 256 << 10
    let sink = SlowSink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    let client = try await kit.client(to: server)
    let outcomes = try await kit.on {
      let bytes = [UInt8](repeating: 1, count: 64 << 10)
      return (0..<400).map { _ in outcomeName(bytes.withUnsafeBytes { client.send($0) }) }
    }
    #expect(outcomes.first == "sent")
    #expect(outcomes.contains("full"))
    #expect(outcomes.last == "limit")
    #expect(try await kit.on { client.stats().unsent } <= conf.sendHighWater + conf.maxMessage + 65_600)
    let writable = kit.loop.makePromise(of: Void.self)
    try await kit.on { client.whenWritable { if let error = $0 { writable.fail(error) } else { writable.succeed() } } }
    while try await kit.on({ sink.pipe == nil }) { try await Task.sleep(for: .milliseconds(1)) }
    try await kit.on {
      sink.room = .max
      sink.pipe?.ready()
    }
    try await writable.futureResult.get()
    #expect(try await kit.on { client.stats().unsent } <= conf.sendHighWater / 2)
    try await kit.close(client, server)
  }

  @Test("1 GiB pushed at a peer that does not read: both sides hold less than 16 MiB")
  func flood() async throws {
    let sink = SlowSink()
    let server = try await kit.server(.tcp, sink)
    let client = try await kit.client(to: server)
    let pushed = try await kit.on {
      let bytes = [UInt8](repeating: 1, count: 1 << 20)
      var taken = 0
      for _ in 0..<1024 {
        guard case .sent = bytes.withUnsafeBytes({ client.send($0) }) else { break }
        taken += 1
      }
      return taken
    }
    #expect(pushed < 1024)
    while try await kit.on({ sink.pipe?.isReading ?? true }) { try await Task.sleep(for: .milliseconds(1)) }
    let held = try await kit.on {
      let reader = sink.pipe
      return client.stats().unsent + (reader?.stats().queuedBytes ?? 0) + (reader?.undecoded.readableBytes ?? 0)
    }
    #expect(held < 16 << 20)
    try await kit.close(client, server)
  }

  @Test("who waits to send is told when the peer goes, and a busy sink does not keep the pipe alive")
  func senderLeftAlone() async throws {
    let sink = SlowSink()
    sink.room = 1
    let server = try await kit.server(.tcp, sink)
    let client = try await kit.client(to: server)
    try await kit.send("one", on: client)
    while try await kit.on({ sink.got.isEmpty }) { try await Task.sleep(for: .milliseconds(1)) }
    let pipe = try #require(try await kit.on { sink.pipe })
    let told = kit.loop.makePromise(of: NetError?.self)
    try await kit.on {
      pipe.hold()
      let bytes = [UInt8](repeating: 1, count: 8 << 20)
      _ = bytes.withUnsafeBytes { pipe.send($0) }
      pipe.whenWritable { told.succeed($0) }
      client.end(abruptly: .local)
    }
    #expect(try await told.futureResult.get() != nil)
    #expect(try await kit.on { outcomeName([UInt8](arrayLiteral: 1).withUnsafeBytes { pipe.send($0) }) } != "sent")
    try await kit.on { pipe.ready() }
    _ = try await pipe.ended.get()
    try await kit.close(server)
  }

  @Test("relays carry both ways over TCP and UDP with backpressure and pass on the end of a stream")
  func relay() async throws {
    let far = try await kit.server(.tcp, EchoSink())
    let near = try await kit.server(.tcp, TunnelSink(to: try #require(far.localEndpoint)))
    let client = try await kit.client(to: near)
    let size = 4 << 20
    try await kit.on {
      let piece = [UInt8](repeating: 3, count: 64 << 10)
      func push(_ left: Int) {
        guard left > 0 else { return client.closeOutput() }
        _ = piece.withUnsafeBytes { client.send($0) }
        client.whenWritable { if $0 == nil { push(left - piece.count) } }
      }
      push(size)
    }
    var got = 0
    while got < size { got += try await kit.receive(client).utf8.count }
    #expect(got == size)
    _ = try await client.ended.get()
    try await kit.close(near, far)

    let udp = try await kit.server(.udp, EchoSink())
    let bridge = try await kit.server(.tcp, TunnelSink(to: try #require(udp.localEndpoint), proto: .udp))
    let talker = try await kit.client(to: bridge)
    try await kit.send("through both", on: talker)
    #expect(try await kit.receive(talker) == "through both")
    try await kit.close(talker, bridge, udp)
  }
}

/// Joins every accepted pipe with a new one to `target`.
final class TunnelSink: PipeSink, @unchecked Sendable {
  let target: Endpoint
  let proto: PipeProto

  init(to target: Endpoint, proto: PipeProto = .tcp) {
    self.target = target
    self.proto = proto
  }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { false }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    PipeOpener.open(proto, to: .endpoint(target), on: pipe.loop).assumeIsolated().whenSuccess { other in
      pipe.sink = nil
      try? pipe.addPipe(other)
      try? other.addPipe(pipe)
    }
    return SlowSink()
  }
}
