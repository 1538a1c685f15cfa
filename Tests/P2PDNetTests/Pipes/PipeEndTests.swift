import Foundation
import NIOCore
import Testing

@testable import P2PDNet

@Suite struct PipeEndTests {
  let kit = PipeKit()

  private func ended(_ pipe: Pipe) async throws -> String { try await pipe.ended.get().code }

  @Test("the end is told once, with its reason")
  func reasons() async throws {
    let promise = kit.loop.makePromise(of: String.self)
    let sink = EchoSink(ended: promise)
    let server = try await kit.server(.tcp, sink)
    let client = try await kit.client(to: server)
    try await kit.send("one", on: client)
    _ = try await kit.receive(client)
    _ = try await kit.loop.flatSubmit { client.close() }.get()
    #expect(try await ended(client) == "local")
    #expect(try await promise.futureResult.get() == "closed")
    _ = try await kit.loop.flatSubmit { client.close() }.get()
    #expect(try await kit.on { sink.log } == ["open", "open", "one", "end closed"])
    try await kit.close(server)
  }

  @Test("a reset is told as a reset")
  func reset() async throws {
    let promise = kit.loop.makePromise(of: String.self)
    let server = try await kit.server(.tcp, EchoSink(ended: promise))
    var conf = PipeConf()
    conf.linger = 0
    let client = try await kit.client(to: server, conf: conf)
    try await kit.send("one", on: client)
    _ = try await kit.receive(client)
    try await kit.on { client.end(abruptly: .local) }
    #expect(try await promise.futureResult.get() == "reset")
    try await kit.close(server)
  }

  @Test("a message over the limit ends the pipe with an error")
  func tooLong() async throws {
    var conf = PipeConf()
    conf.framing = .u32
    conf.maxMessage = 100
    let promise = kit.loop.makePromise(of: String.self)
    let server = try await kit.server(.tcp, EchoSink(ended: promise), conf: conf)
    let client = try await kit.client(to: server, conf: PipeConf())
    try await kit.send("\u{1}\u{1}\u{1}\u{1}", on: client)
    #expect(try await promise.futureResult.get() == "error")
    #expect(try await kit.send(String(repeating: "x", count: 101), on: try await kit.client(to: server)) == "too_long")
    try await kit.close(client, server)
  }

  @Test("close flushes: everything sent before it arrives", arguments: [1, 300])
  func flush(count: Int) async throws {
    var conf = PipeConf()
    conf.framing = .u32
    let sink = SlowSink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    let client = try await kit.client(to: server)
    let size = 40_000
    try await kit.on {
      let bytes = [UInt8](repeating: 7, count: size)
      for _ in 0..<count { bytes.withUnsafeBytes { _ = client.send($0) } }
      client.close()
    }
    while try await kit.on({ sink.pipe == nil }) { try await Task.sleep(for: .milliseconds(1)) }
    let pipe = try #require(try await kit.on { sink.pipe })
    while try await kit.on({ sink.got.count }) < count {
      try await kit.on {
        sink.room = 10
        pipe.ready()
      }
    }
    _ = try await pipe.ended.get()
    #expect(try await kit.on { client.lost } == 0)
    #expect(try await kit.on { sink.got } == Array(repeating: size, count: count))
    try await kit.close(server)
  }

  @Test("close gives up at its deadline and counts what was lost")
  func deadline() async throws {
    let server = try await kit.server(.tcp, SlowSink())
    let client = try await kit.client(to: server)
    try await kit.on {
      // More than the kernel's buffers of both sides hold.
      let bytes = [UInt8](repeating: 7, count: 32 << 20)
      bytes.withUnsafeBytes { _ = client.send($0) }
      client.close(flush: .milliseconds(50))
    }
    #expect(try await ended(client) == "local")
    #expect(try await kit.on { client.lost } > 0)
    try await kit.close(server)
  }

  @Test("answers of one read leave together, also when the last message has none")
  func corked() async throws {
    var conf = PipeConf()
    conf.framing = .line
    let server = try await kit.server(.tcp, FirstOnlySink(), conf: conf)
    let client = try await kit.client(to: server, conf: PipeConf())
    try await kit.send("one\ntwo\nthree\n", on: client)
    #expect(try await kit.receive(client) == "one\n")
    try await kit.close(client, server)
  }

  @Test("half-close: answers still arrive after our side ended")
  func halfClose() async throws {
    for framing in [Framing.line, .message] {
      var conf = PipeConf()
      conf.framing = framing
      let server = try await kit.server(.tcp, EchoSink(), conf: conf)
      let client = try await kit.client(to: server)
      try await kit.send("last", on: client)
      try await kit.on { client.closeOutput() }
      #expect(try await kit.send("refused", on: client) == "closed")
      #expect(try await kit.receive(client) == "last")
      #expect(await failure { try await kit.receive(client) }?.code == .closed)
      #expect(try await ended(client) == "closed")
      try await kit.close(server)
    }
  }

  @Test("a line without an end counts when the peer ends")
  func lastLine() async throws {
    var conf = PipeConf()
    conf.framing = .line
    let server = try await kit.server(.tcp, EchoSink(), conf: conf)
    let client = try await kit.client(to: server, conf: PipeConf())
    try await kit.send("a\nb", on: client)
    try await kit.on { client.closeOutput() }
    var text = ""
    while text.count < 4 { text += try await kit.receive(client) }
    #expect(text == "a\nb\n")
    try await kit.close(server)
  }

  @Test("messages that came before the end can still be taken after it")
  func afterTheEnd() async throws {
    var conf = PipeConf()
    conf.framing = .line
    conf.flushTimeout = .milliseconds(50)
    let server = try await kit.server(.tcp, EchoSink(), conf: conf)
    let client = try await kit.client(to: server)
    for text in ["1", "2", "3"] { try await kit.send(text, on: client) }
    try await kit.on { client.closeOutput() }
    _ = try await client.ended.get()
    for text in ["1", "2", "3"] { #expect(try await kit.receive(client) == text) }
    #expect(await failure { try await kit.receive(client) }?.code == .closed)
    try await kit.close(server)
  }

  @Test("a silent peer is found dead, a living one is not")
  func keepAlive() async throws {
    var conf = PipeConf()
    conf.framing = .message
    conf.keepAlive = KeepAlive(interval: .milliseconds(150), missed: 3)
    let server = try await kit.server(.tcp, EchoSink(), conf: conf)
    let alive = try await kit.client(to: server)
    // Speaks no frames at all, as a peer whose machine is gone.
    let silent = try await PipeOpener.open(
      .tcp, bind: Endpoint(ip: .loopback(.v4), port: 0), sink: SlowSink(), on: kit.loop
    ).get()
    let dead = try await kit.client(to: silent, conf: conf)
    #expect(try await ended(dead) == "timeout")
    #expect(try await kit.on { alive.isOpen })
    #expect(try await kit.on { alive.stats().rtt } != nil)
    try await kit.close(alive, server, silent)
  }

  @Test("a goodbye carries its code to the other side")
  func goodbye() async throws {
    var conf = PipeConf()
    conf.framing = .message
    let sink = EchoSink()
    let server = try await kit.server(.tcp, sink, conf: conf)
    let client = try await kit.client(to: server)
    try await kit.send("x", on: client)
    _ = try await kit.receive(client)
    try await kit.on { sink.accepted.first?.close(.limit, saying: "too many pipes") }
    guard case .error(let error) = try await client.ended.get() else { return #expect(Bool(false), "no error") }
    #expect(error.code == .limit)
    #expect(error.description.contains("too many pipes"))
    try await kit.close(server)
  }
}

/// Answers the message "one" and nothing else.
final class FirstOnlySink: PipeSink, @unchecked Sendable {
  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    if message.elementsEqual("one".utf8) { _ = pipe.send(message) }
    return true
  }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? { self }
}
