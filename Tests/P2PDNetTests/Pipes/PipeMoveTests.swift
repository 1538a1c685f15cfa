import NIOCore
import Testing

@testable import P2PDNet

/// Pipes on a stream that moves, with the kernel's sockets and real TLS on both paths.
@Suite(.timeLimit(.minutes(1))) struct PipeMoveTests {
  let kit = PipeKit()
  private let loop = sharedLoop

  /// What a sink with callbacks hears.
  private final class Mover: PipeSink, @unchecked Sendable {
    let answers: Bool
    var moves: [String] = []
    var peers: Set<ObjectIdentifier> = []
    var got: [String] = []
    var end: String?

    init(answers: Bool) { self.answers = answers }

    func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      peers.insert(ObjectIdentifier(peer))
      got.append(String(decoding: message.prefix(12), as: UTF8.self))
      if answers { _ = pipe.send(message) }
      return true
    }
    func pipeMoved(_ pipe: Pipe) { moves.append("\(pipe.strategy) \(pipe.path)") }
    func pipeEnded(_ pipe: Pipe, reason: EndReason) { end = reason.code }
  }

  private final class Callers: ListenerOwner, @unchecked Sendable {
    var streams: [Transport] = []
    func refusal(of peer: Endpoint?) -> [UInt8]? { nil }
    func accepted(_ stream: Transport) { streams.append(stream) }
  }

  private final class Box<T>: @unchecked Sendable {
    var value: T
    init(_ value: T) { self.value = value }
  }

  private func until(_ condition: @escaping @Sendable () -> Bool) async throws {
    while try await !kit.on(condition) {
      try Task.checkCancellation()
      await Task.yield()
    }
  }

  /// A connected, encrypted stream to `ip`: the caller's end, then the other.
  private func encrypted(_ ip: IPAddress) async throws -> (TLSTransport, TLSTransport) {
    let (callers, ends) = (Callers(), Box<[TLSTransport?]>([nil, nil]))
    let client = try TLSSetup.client(verify: false)
    let folder = TLSFixtures.folder
    let server = try TLSSetup.server(certificateFile: folder + "/server.pem", keyFile: folder + "/server.key")
    let attempt = Box<(any StreamAttempt)?>(nil)
    let listener = try await kit.on { [loop] in
      let listener = try loop.listenStream(on: .ip(Endpoint(ip: ip, port: 0)), StreamOptions(), owner: callers)
      guard let there = listener.localEndpoint else { throw NetError(.io, "listen") }
      attempt.value = loop.connectStream(to: .ip(there), StreamOptions()) { result in
        guard case .success(let stream) = result else {
          Issue.record("it did not connect")
          return
        }
        _ = try? TLSTransport.client(over: stream, context: client.context, serverName: nil, on: loop) {
          ends.value[0] = try? $0.get()
        }
      }
      return listener
    }
    try await until { !callers.streams.isEmpty }
    try await kit.on { [loop] in
      listener.close(linger: false)
      _ = TLSTransport.server(over: callers.streams[0], context: server.context, on: loop) {
        ends.value[1] = try? $0.get()
      }
    }
    try await until { ends.value.allSatisfy { $0 != nil } }
    return (try #require(ends.value[0]), try #require(ends.value[1]))
  }

  @Test("a pipe talks on while it moves: counters go on, its peer is the new one, and its sink is told once")
  func talkingPipe() async throws {
    let (first, second) = (try await encrypted(.loopback(.v4)), try await encrypted(.loopback(.v6)))
    let (near, far) = (Mover(answers: false), Mover(answers: true))
    let pipes = Box<[Pipe]>([])
    let count = 3000
    let text = { @Sendable (number: Int) in "message \(number)" + String(repeating: ".", count: number % 4000) }
    try await kit.on { [loop] in
      var conf = PipeConf()
      conf.framing = .message
      conf.sendHighWater = 64 << 20
      for (stream, next, sink) in [(first.0, second.0, near), (first.1, second.1, far)] {
        let moving = MovingTransport(over: stream, on: loop)
        let pipe = Pipe.adopt(moving, conf: conf, sink: sink, on: loop) { ($0.strategy, $0.path) = ("relay", "relay") }
        moving.moved = { pipe.moved(strategy: "punch", path: "public") }
        moving.moveFailed = { Issue.record("\($0)") }
        #expect(pipe.peer?.endpoint?.ip == .loopback(.v4))
        pipes.value.append(pipe)
        withExtendedLifetime(next) {}
      }
    }
    for start in stride(from: 0, to: count, by: 50) {
      try await kit.on {
        for number in start..<start + 50 {
          var bytes = text(number)
          bytes.withUTF8 { _ = pipes.value[0].send(UnsafeRawBufferPointer($0)) }
          // Each in the middle of a burst.
          if number == 1020 { (pipes.value[0].transport as? MovingTransport)?.move(to: second.0) }
          if number == 1530 { (pipes.value[1].transport as? MovingTransport)?.move(to: second.1) }
        }
      }
    }
    try await until { near.got.count == count && !near.moves.isEmpty && !far.moves.isEmpty }
    try await kit.on {
      #expect(near.got == (0..<count).map { String(text($0).prefix(12)) })
      for (pipe, sink) in zip(pipes.value, [near, far]) {
        #expect(sink.moves == ["punch public"])
        #expect(pipe.peer?.endpoint?.ip == .loopback(.v6))
        #expect(pipe.localEndpoint?.ip == .loopback(.v6))
        #expect(pipe.family == .v6)
        #expect(pipe.stats().messagesIn == UInt64(count) && pipe.stats().messagesOut == UInt64(count))
        #expect(sink.peers.count <= 2)
      }
      _ = pipes.value[0].close()
    }
    try await until { far.end != nil }
    #expect(far.end == "closed")
    try await until { pipes.value.allSatisfy { $0.transport.isGone } && first.0.isGone && first.1.isGone }
  }

  @Test("the stream below is reset in the middle of a move: the pipe ends, with the reason")
  func reset() async throws {
    let (first, second) = (try await encrypted(.loopback(.v4)), try await encrypted(.loopback(.v4)))
    let (near, far) = (Mover(answers: false), Mover(answers: false))
    try await kit.on { [loop] in
      var conf = PipeConf()
      conf.framing = .message
      let one = MovingTransport(over: first.0, on: loop)
      _ = Pipe.adopt(one, conf: conf, sink: near, on: loop)
      _ = Pipe.adopt(MovingTransport(over: first.1, on: loop), conf: conf, sink: far, on: loop)
      one.move(to: second.0)
      first.1.close(linger: false)
      second.1.close(linger: false)
    }
    try await until { near.end != nil }
    try await until { first.0.isGone && second.0.isGone && second.1.isGone }
  }
}
