import CNet
import Foundation
import Glibc
import NIOCore
import Testing

@testable import P2PDNet

/// Streams and listeners without a pipe on them.
@Suite(.serialized, .timeLimit(.minutes(1))) struct StreamTransportTests {
  /// Of this suite alone, since what a loop holds is counted here.
  private static let ownLoop: KernelLoop = {
    do { return try KernelLoop.start(name: "streams") } catch { preconditionFailure("\(error)") }
  }()
  let loop = ownLoop

  /// What a transport tells. Confined to the loop.
  final class Owner: TransportOwner, @unchecked Sendable {
    var bytes: [UInt8] = []
    var count = 0
    var keeps = true
    var drains = 0
    var inputEnd: EndReason?
    var end: EndReason?

    func received(stream bytes: UnsafeRawBufferPointer) {
      count += bytes.count
      if keeps { self.bytes.append(contentsOf: bytes) }
    }
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
    func inputEnded(_ reason: EndReason) { inputEnd = reason }
    func drained() { drains += 1 }
    func transportEnded(_ reason: EndReason) { end = reason }
  }

  final class Gate: ListenerOwner, @unchecked Sendable {
    var words: [UInt8]?
    var streams: [Transport] = []
    func refusal(of peer: Endpoint?) -> [UInt8]? { words }
    func accepted(_ stream: Transport) { streams.append(stream) }
  }

  private final class Box: @unchecked Sendable {
    var result: Result<Transport, NetError>?
  }

  /// Sends; nil when it was taken.
  @discardableResult
  private func put(
    _ bytes: [UInt8], on stream: Transport, _ header: FrameHeader = .none, corked: Bool = false
  ) -> NetError? {
    bytes.withUnsafeBytes { stream.send(header, $0, to: nil, corked: corked) }
  }

  private func on<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await loop.submit(body).get()
  }

  private func until(_ condition: @escaping @Sendable () -> Bool) async throws {
    while try await !on(condition) {
      try Task.checkCancellation()
      await Task.yield()
    }
  }

  private func connect(to address: StreamAddress, _ options: StreamOptions = StreamOptions()) async throws -> Transport
  {
    let promise = loop.makePromise(of: Transport.self)
    try await on {
      _ = loop.connectStream(to: address, options) { promise.completeWith($0.mapError { $0 as any Error }) }
    }
    return try await promise.futureResult.get()
  }

  /// A connected pair: what dialled and what was accepted.
  private func pair(_ options: StreamOptions = StreamOptions()) async throws -> (Transport, Transport, Owner, Owner) {
    let gate = Gate()
    let listener = try await on {
      try loop.listenStream(on: .ip(Endpoint(ip: .loopback(.v4), port: 0)), StreamOptions(), owner: gate)
    }
    let near = try await connect(to: .ip(try #require(listener.localEndpoint)), options)
    try await until { gate.streams.count == 1 }
    let far = try #require(try await on { gate.streams.first })
    let (nearOwner, farOwner) = (Owner(), Owner())
    try await on {
      listener.close(linger: false)
      near.owner = nearOwner
      far.owner = farOwner
    }
    return (near, far, nearOwner, farOwner)
  }

  @Test("what the kernel does not take at once arrives whole, in order, with every header")
  func partialWrites() async throws {
    let (near, far, owner, reader) = try await pair()
    let body = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    try await on {
      for _ in 0..<4 {
        let header = FrameHeader(.u32, length: body.count)
        #expect(put(body, on: near, header) == nil)
      }
      #expect(near.unsent > 0)
      far.setReading(true)
    }
    try await until { reader.count == 4 * (body.count + 4) }
    try await on {
      #expect(near.unsent == 0)
      #expect(owner.drains > 0)
      var message = withUnsafeBytes(of: UInt32(body.count).bigEndian) { Array($0) }
      message += body
      for index in 0..<4 {
        let from = index * message.count
        #expect(reader.bytes[from..<(from + message.count)].elementsEqual(message))
      }
      near.close(linger: false)
      far.close(linger: false)
    }
  }

  @Test("bytes behind urgent data, and the end behind both, are found without more to come")
  func urgentData() async throws {
    let (near, far, _, reader) = try await pair()
    try await on {
      let out = try #require(near as? StreamTransport).descriptor
      // A read stops before the urgent byte, which is no part of the stream (RFC 6093).
      #expect(send(out, "ab", 2, 0) == 2)
      #expect(send(out, "c", 1, CInt(MSG_OOB)) == 1)
      #expect(send(out, "de", 2, 0) == 2)
      far.setReading(true)
    }
    try await until { reader.bytes == Array("abde".utf8) }
    try await on {
      let out = try #require(near as? StreamTransport).descriptor
      #expect(send(out, "f", 1, 0) == 1)
      #expect(send(out, "g", 1, CInt(MSG_OOB)) == 1)
      #expect(send(out, "h", 1, 0) == 1)
      near.close(linger: false)
    }
    try await until { reader.inputEnd != nil }
    try await on {
      #expect(reader.bytes == Array("abdefh".utf8))
      far.close(linger: false)
    }
  }

  @Test("a stream that stops reading and goes on misses nothing that came or ended meanwhile")
  func pauses() async throws {
    let (near, far, _, reader) = try await pair()
    for round in 1...5 {
      try await on {
        far.setReading(true)
        put([UInt8(round)], on: near)
      }
      try await until { reader.count == 2 * round - 1 }
      try await on {
        far.setReading(false)
        put([UInt8(round)], on: near)
        // On and off again before the loop looks: the second change must find what the first one asked for.
        far.setReading(true)
        far.setReading(false)
        far.setReading(true)
        if round == 5 { near.closeOutput() }
      }
      try await until { reader.count == 2 * round }
    }
    try await until { reader.inputEnd != nil }
    try await on {
      #expect(reader.bytes == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
      near.close(linger: false)
      far.close(linger: false)
    }
  }

  @Test("ending our side lets what is queued out first, and the other way stays open")
  func halfClose() async throws {
    let (near, far, owner, reader) = try await pair()
    let size = 8 << 20
    try await on {
      put([UInt8](repeating: 5, count: size), on: near)
      near.closeOutput()
      near.setReading(true)
      reader.keeps = false
      far.setReading(true)
    }
    try await until { reader.inputEnd != nil }
    try await on {
      #expect(reader.count == size)
      #expect(put(Array("back".utf8), on: far) == nil)
    }
    try await until { owner.count == 4 }
    try await on {
      #expect(reader.end == nil && owner.end == nil)
      far.close(linger: false)
    }
    try await until { owner.inputEnd != nil }
    try await on { near.close(linger: false) }
  }

  @Test("a reset is a reset, whether the stream is read or not")
  func reset() async throws {
    for reads in [true, false] {
      var options = StreamOptions()
      options.linger = 0
      let (near, far, _, reader) = try await pair(options)
      try await on {
        far.setReading(reads)
        if !reads {
          // Watched for room to write only.
          put([UInt8](repeating: 1, count: 16 << 20), on: far)
        }
        near.close(linger: false)
      }
      try await until { reader.end != nil }
      try await on {
        #expect(reader.end?.code == "reset")
        #expect(far.isGone)
      }
    }
  }

  @Test("a stream nobody reads keeps its bytes, and its end does not keep the loop busy")
  func unread() async throws {
    let (near, far, _, reader) = try await pair()
    try await on {
      far.setReading(true)
      far.setReading(false)
      put(Array("later".utf8), on: near)
      near.close(linger: true)
      far.closeOutput()
    }
    // Both sides have ended now: the kernel would tell of it without pause.
    try await until { (far as? StreamTransport)?.isWatched == false }
    try await on {
      #expect(reader.count == 0 && reader.inputEnd == nil && reader.end == nil)
      far.setReading(true)
    }
    try await until { reader.inputEnd != nil }
    try await on {
      #expect(reader.bytes == Array("later".utf8))
      far.close(linger: false)
    }
  }

  @Test("closing lets the peer read what the kernel holds, whatever it still sends")
  func lingering() async throws {
    let (near, far, _, reader) = try await pair()
    let size = 100_000
    try await on {
      // Unread bytes at near: a plain close would be a reset, and destroy what far has not read.
      put([UInt8](repeating: 1, count: 1000), on: far)
      put([UInt8](repeating: 2, count: size), on: near)
      near.close(linger: true)
      #expect(!near.isGone)
      far.setReading(true)
    }
    try await until { reader.inputEnd != nil }
    try await on {
      #expect(reader.count == size)
      far.close(linger: false)
    }
    try await until { near.isGone }
  }

  @Test("corked pieces leave together, large ones at once")
  func corking() async throws {
    let (near, far, _, reader) = try await pair()
    try await on {
      for text in ["a", "b", "c"] {
        put(Array(text.utf8), on: near, FrameHeader(.line, length: 1), corked: true)
      }
      #expect(near.unsent == 6)
      near.uncork()
      #expect(near.unsent == 0)
      far.setReading(true)
    }
    try await until { reader.count == 6 }
    try await on {
      #expect(reader.bytes == Array("a\nb\nc\n".utf8))
      near.close(linger: false)
      far.close(linger: false)
    }
  }

  @Test("a refused caller gets the words and the end, and no transport was made for it")
  func refusal() async throws {
    let gate = Gate()
    let before = try await on { loop.transportCount }
    let listener = try await on {
      gate.words = Array("no".utf8)
      return try loop.listenStream(on: .ip(Endpoint(ip: .loopback(.v4), port: 0)), StreamOptions(), owner: gate)
    }
    let near = try await connect(to: .ip(try #require(listener.localEndpoint)))
    let owner = Owner()
    try await on {
      near.owner = owner
      near.setReading(true)
    }
    try await until { owner.inputEnd != nil || owner.end != nil }
    try await on {
      #expect(owner.bytes == Array("no".utf8))
      #expect(gate.streams.isEmpty)
      near.close(linger: false)
      listener.close(linger: false)
      #expect(loop.transportCount == before)
    }
  }

  @Test("a cancelled attempt stays silent and leaves nothing")
  func cancelling() async throws {
    let gate = Gate()
    let before = try await on { loop.transportCount }
    let listener = try await on {
      try loop.listenStream(on: .ip(Endpoint(ip: .loopback(.v4), port: 0)), StreamOptions(), owner: gate)
    }
    let endpoint = try #require(listener.localEndpoint)
    try await on {
      let attempt = loop.connectStream(to: .ip(endpoint), StreamOptions()) { _ in Issue.record("it was cancelled") }
      attempt.cancel()
      let hopeless = loop.connectStream(to: .unix("/nonexistent/socket"), StreamOptions()) { _ in
        Issue.record("it was cancelled")
      }
      hopeless.cancel()
    }
    try await on {
      listener.close(linger: false)
      for stream in gate.streams { stream.close(linger: false) }
      #expect(loop.transportCount == before)
    }
  }

  @Test("Unix-domain streams, with the file gone at the end")
  func unixDomain() async throws {
    let path = NSTemporaryDirectory() + "p2pd-\(UUID().uuidString.prefix(8)).sock"
    let gate = Gate()
    let listener = try await on { try loop.listenStream(on: .unix(path), StreamOptions(), owner: gate) }
    let taken = await #expect(throws: NetError.self) {
      try await on { _ = try loop.listenStream(on: .unix(path), StreamOptions(), owner: gate) }
    }
    #expect(taken?.code == .inUse)
    let near = try await connect(to: .unix(path))
    try await until { gate.streams.count == 1 }
    let owner = Owner()
    try await on {
      near.owner = owner
      near.setReading(true)
      put(Array("hi".utf8), on: gate.streams[0])
    }
    try await until { owner.bytes == Array("hi".utf8) }
    try await on {
      near.close(linger: false)
      gate.streams[0].close(linger: false)
      listener.close(linger: false)
    }
    #expect(access(path, F_OK) != 0)
    let missing = await #expect(throws: NetError.self) { try await connect(to: .unix(path)) }
    #expect(missing?.code == .badAddress)
  }

  @Test("ten thousand connections at once, each with its answer, and nothing left of them", .enabled(if: many >= 1000))
  func tenThousand() async throws {
    let count = Self.many / 500 * 500
    let kit = PipeKit(loop: loop)
    let before = try await on { loop.transportCount }
    let sink = EchoSink()
    let server = try await kit.server(.tcp, sink)
    let endpoint = try #require(server.localEndpoint)
    var clients: [Pipe] = []
    for _ in 0..<(count / 500) {
      let opening = (0..<500).map { _ in PipeOpener.open(.tcp, to: .endpoint(endpoint), on: loop) }
      for pipe in opening { clients.append(try await pipe.get()) }
    }
    let all = clients
    let answered = loop.makePromise(of: Void.self)
    try await on {
      var left = count
      for pipe in all {
        _ = "\(pipe.id)".utf8CString.withUnsafeBytes { pipe.send($0) }
        pipe.receive(timeout: .seconds(30)) { result in
          if case .failure(let error) = result { answered.fail(error) }
          left -= 1
          if left == 0 { answered.succeed() }
        }
      }
    }
    try await answered.futureResult.get()
    #expect(try await on { server.acceptedPipes.count } == count)
    try await on {
      for pipe in all { pipe.close() }
      server.close(flush: .zero)
    }
    try await until { loop.transportCount <= before }
  }

  /// Two descriptors a connection; fewer connections where this process may not have that many.
  private static let many = min(10_000, (Int(cnet_raise_descriptor_limit()) - 1000) / 2)
}
