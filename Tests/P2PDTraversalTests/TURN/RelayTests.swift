import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// In a network of memory, to the millisecond.
@Suite("A relayed stream")
struct RelayTests {
  private static func text(_ text: String, on pipe: Pipe) {
    _ = Array(text.utf8).withUnsafeBytes { pipe.send($0) }
  }

  /// Both ends of one stream, each as a pipe, and when the near one was handed out.
  private static func meet(
    _ world: RelayWorld, _ path: RelayPath, _ relayed: Endpoint
  ) async throws -> (near: Pipe, far: Pipe, after: Int64) {
    let began = world.time.now
    let loop = world.near.loop
    let (near, far) = (loop.makePromise(of: (Pipe, Int64).self), loop.makePromise(of: Pipe.self))
    path.connected = { stream, _ in
      let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: loop)
      text("hello", on: pipe)
      near.succeed((pipe, world.since(began)))
    }
    let dial = RelayDial(to: relayed, until: loop.now + .seconds(10), on: world.far.loop) { result in
      far.completeWith(
        result.map { Pipe.adopt($0, conf: PipeConf(), sink: nil, on: world.far.loop) }.mapError { $0 as any Error })
    }
    let (a, after) = try await near.futureResult.get()
    let b = try await far.futureResult.get()
    #expect(try await b.next() == "hello")
    text("and back", on: b)
    #expect(try await a.next() == "and back")
    #expect(dial.tries >= 1)
    return (a, b, after)
  }

  @Test("a far side that is to speak first is told that it has come through, and hears nothing else of that")
  func greeting() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      path.greets = true
      var isClosed = false
      path.closed = { isClosed = true }
      let loop = world.near.loop
      let (near, far) = (loop.makePromise(of: Pipe.self), loop.makePromise(of: Pipe.self))
      path.connected = { stream, _ in near.succeed(Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: loop)) }
      let relayed = try await path.open().get()
      let dial = RelayDial(to: relayed, until: loop.now + .seconds(10), isGreeted: true, on: world.far.loop) { result in
        far.completeWith(
          result.map { Pipe.adopt($0, conf: PipeConf(), sink: nil, on: world.far.loop) }.mapError { $0 as any Error })
      }
      // Not let through yet.
      try await world.sleep(.milliseconds(500))
      path.permit([world.far.addresses[0]])
      let (a, b) = (try await near.futureResult.get(), try await far.futureResult.get())
      #expect(dial.tries > 1)
      Self.text("first", on: b)
      #expect(try await a.next() == "first")
      Self.text("second", on: a)
      #expect(try await b.next() == "second")
      path.retire()
      #expect(!isClosed)
      _ = a.close(flush: .zero)
      _ = b.close(flush: .zero)
      try await world.sleep(.seconds(3))
      #expect(isClosed && !world.relay.hasAllocation && world.relay.lines.isEmpty)
    }
  }

  @Test("who greets wrongly is no p2pd node")
  func wrongGreeting() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      path.connected = { stream, _ in
        Self.text("x", on: Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: world.near.loop))
      }
      let relayed = try await path.open().get()
      path.permit([world.far.addresses[0]])
      let met = world.far.loop.makePromise(of: NetError?.self)
      let dial = RelayDial(to: relayed, until: world.time.now + .seconds(2), isGreeted: true, on: world.far.loop) {
        if case .failure(let error) = $0 { met.succeed(error) } else { met.succeed(nil) }
      }
      let error = try await met.futureResult.get()
      #expect(error?.code == .timeout && error?.attempts.first?.code == .notP2PD, "\(String(describing: error))")
      #expect(dial.tries > 1)
      try await path.close().get()
    }
  }

  @Test("open in three round trips; a peer is handed out one round trip after it came; nothing is left at the end")
  func times() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      let began = world.time.now
      path.permit([world.far.addresses[0]])
      let relayed = try await path.open().get()
      #expect(world.since(began) == 120)
      // Permission and spare connection.
      try await world.sleep(.milliseconds(100))
      let (a, b, after) = try await Self.meet(world, path, relayed)
      // The peer's SYN 30 ms, word of it 20 ms, the spare connection's answer 40 ms.
      #expect(after == 90)
      #expect(path.streams == 1)
      _ = a.close(flush: .zero)
      _ = b.close(flush: .zero)
      try await path.close().get()
      #expect(world.relay.asked.last == .refresh && !world.relay.hasAllocation)
      try await world.sleep(.seconds(3))
      #expect(world.relay.lines.isEmpty && path.streams == 0)
      #expect(world.time.timerCount == 0)
    }
  }

  @Test("what the peer said before its stream was taken comes first, in one piece with the answer or not")
  func early() async throws {
    for joins in [true, false] {
      let world = try RelayWorld()
      try await world.run { world in
        world.relay.joins = joins
        let path = world.path()
        path.permit([world.far.addresses[0]])
        let relayed = try await path.open().get()
        try await world.sleep(.milliseconds(100))
        let near = world.near.loop.makePromise(of: Pipe.self)
        path.connected = {
          near.succeed(Pipe.adopt($0, conf: .lines, sink: nil, on: world.near.loop)); _ = $1
        }
        let far = try await PipeOpener.open(.tcp, to: .endpoint(relayed), on: world.far.loop).get()
        Self.text("one\n", on: far)
        let pipe = try await near.futureResult.get()
        Self.text("two\n", on: far)
        #expect(try await pipe.next() == "one")
        #expect(try await pipe.next() == "two")
        Self.text("three", on: pipe)
        #expect(try await far.next() == "three\n")
        far.close(flush: .zero)
        pipe.close(flush: .zero)
        try await path.close().get()
      }
    }
  }

  @Test(
    "a server with a nonce for each connection, and one that drops idle connections, cost a round trip, not the peer")
  func spares() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      world.relay.hasNonceForEach = true
      let path = world.path()
      path.permit([world.far.addresses[0]])
      let relayed = try await path.open().get()
      try await world.sleep(.milliseconds(100))
      let first = try await Self.meet(world, path, relayed)
      #expect(first.after == 130)
      // The spare connection is dropped, replaced once it had lived a while, and used.
      try await world.sleep(.seconds(30))
      let before = world.relay.accepted
      for line in world.relay.lines.values where !line.isPeer && line.other == nil && line.nonce != Array("n1".utf8) {
        line.pipe.close(flush: .zero)
      }
      try await world.sleep(.milliseconds(200))
      #expect(world.relay.accepted == before + 1)
      let second = try await Self.meet(world, path, relayed)
      #expect(second.after == 130)
      try await path.close().get()
    }
  }

  @Test("who is not let through is cut off and tries again; one that never is gives up in time")
  func permission() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      let relayed = try await path.open().get()
      let began = world.time.now
      world.near.loop.scheduleTask(in: .milliseconds(500)) { path.permit([world.far.addresses[0]]) }
      let (a, b, after) = try await Self.meet(world, path, relayed)
      #expect((540...900).contains(after))
      a.close(flush: .zero)
      b.close(flush: .zero)
      try await path.close().get()
      _ = began
      // The address is gone with the allocation.
      let promise = world.far.loop.makePromise(of: String.self)
      let start = world.time.now
      let dial = RelayDial(to: relayed, until: start + .seconds(2), on: world.far.loop) { result in
        if case .failure(let error) = result { promise.succeed(error.code.rawValue) } else { promise.succeed("") }
      }
      #expect(try await promise.futureResult.get() == "timeout")
      #expect(world.since(start) == 2000 && dial.tries > 3 && dial.failures.last?.code == .refused)
      let cancelled = RelayDial(to: relayed, until: world.time.now + .seconds(9), on: world.far.loop) { _ in
        Issue.record("it was cancelled")
      }
      try await world.sleep(.milliseconds(70))
      cancelled.cancel()
      try await world.sleep(.seconds(10))
      #expect(world.time.timerCount == 0)
    }
  }

  @Test("a reset that is lost on its way is not waited for: another connection is tried beside the silent one")
  func lostReset() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      world.relay.keepsStrangers = true
      let path = world.path()
      let relayed = try await path.open().get()
      let near = world.near.loop.makePromise(of: Pipe.self)
      path.connected = { stream, _ in
        let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: world.near.loop)
        Self.text("hello", on: pipe)
        near.succeed(pipe)
      }
      let promise = world.far.loop.makePromise(of: Transport.self)
      let dial = RelayDial(to: relayed, until: world.time.now + .seconds(10), on: world.far.loop) {
        promise.completeWith($0.mapError { $0 as any Error })
      }
      try await world.sleep(.milliseconds(100))
      path.permit([world.far.addresses[0]])
      let far = Pipe.adopt(try await promise.futureResult.get(), conf: PipeConf(), sink: nil, on: world.far.loop)
      #expect(try await far.next() == "hello")
      #expect(dial.tries == 2)
      far.close(flush: .zero)
      try await near.futureResult.get().close(flush: .zero)
      try await path.close().get()
      try await world.sleep(.seconds(6))
      #expect(world.time.timerCount == 0)
    }
  }

  @Test("the second server is asked after 250 ms of silence, and at once after a refusal")
  func several() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let silent = FakeRelay(world.net.addHost("silent"))
      try await silent.start()
      silent.misbehave = { _, _, _ in true }
      var began = world.time.now
      let path = world.path([silent.url, world.relay.url])
      _ = try await path.open().get()
      #expect(world.since(began) == 250 + 120 && path.server == world.relay.url)
      try await path.close().get()
      silent.misbehave = { relay, request, line in
        relay.refuse(request, line, 508)
        return true
      }
      began = world.time.now
      let other = world.path([silent.url, world.relay.url])
      _ = try await other.open().get()
      #expect(world.since(began) == 120)
      #expect(other.failures.map(\.code) == [.limit])
      try await other.close().get()
      try await world.sleep(.seconds(3))
      #expect(silent.lines.isEmpty && world.relay.lines.isEmpty && world.time.timerCount == 0)
      silent.close()
      let nobody = try await world.failure([])
      #expect(nobody?.code == .badAddress)
    }
  }

  @Test("closed in the middle of opening, at any moment: no connection and no timer is left")
  func cancelled() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      for moment in stride(from: Int64(0), through: 240, by: 9) {
        let path = world.path()
        path.permit([world.far.addresses[0]])
        let opened = path.open()
        try await world.sleep(.milliseconds(moment))
        try await path.close().get()
        _ = try? await opened.get()
        try await world.sleep(.seconds(3))
        #expect(world.relay.lines.isEmpty && !world.relay.hasAllocation, "after \(moment) ms")
        #expect(world.time.timerCount == 0, "after \(moment) ms")
      }
    }
  }

  @Test("retired: the allocation stays as long as its streams, and goes with the last")
  func retired() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      var path: RelayPath? = world.path()
      path?.permit([world.far.addresses[0]])
      guard let relayed = try await path?.open().get() else { return }
      try await world.sleep(.milliseconds(100))
      guard let made = path else { return }
      let (a, b, _) = try await Self.meet(world, made, relayed)
      path?.retire()
      path = nil
      // Past the permission's and the allocation's first life.
      try await world.sleep(.minutes(20))
      Self.text("still there", on: a)
      #expect(try await b.next() == "still there")
      #expect(world.relay.hasAllocation)
      a.close(flush: .zero)
      b.close(flush: .zero)
      try await world.sleep(.seconds(3))
      #expect(world.relay.lines.isEmpty && !world.relay.hasAllocation && world.time.timerCount == 0)
    }
  }

  @Test("a server that goes away takes its streams along, and says so")
  func lost() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      path.permit([world.far.addresses[0]])
      let relayed = try await path.open().get()
      try await world.sleep(.milliseconds(100))
      let (a, b, _) = try await Self.meet(world, path, relayed)
      let lost = world.near.loop.makePromise(of: String.self)
      path.lost = { lost.succeed($0.code.rawValue) }
      world.relay.dropClients()
      #expect(try await lost.futureResult.get() == "closed")
      _ = try await a.ended.get()
      b.close(flush: .zero)
      try await world.sleep(.seconds(3))
      #expect(world.relay.lines.isEmpty && path.streams == 0 && world.time.timerCount == 0)
    }
  }

  @Test("strangers at the peer's address cost a bounded number of connections, those elsewhere none")
  func strangers() async throws {
    let world = try RelayWorld()
    try await world.run { world in
      let path = world.path()
      path.permit([world.far.addresses[0]])
      _ = try await path.open().get()
      try await world.sleep(.milliseconds(100))
      let quiet = world.relay.accepted
      var streams = 0
      path.connected = { stream, _ in
        streams += 1
        stream.close(linger: false)
      }
      for number in 0..<1000 { world.relay.attempt(UInt32(number), ep("192.0.2.9:\(number + 1)")) }
      try await world.sleep(.seconds(1))
      #expect(world.relay.accepted == quiet)
      let peer = Endpoint(ip: world.far.addresses[0], port: 9)
      for number in 0..<1000 { world.relay.attempt(UInt32(number), peer) }
      try await world.sleep(.seconds(1))
      #expect(world.relay.accepted - quiet <= 10 && streams == 0)
      #expect(path.failures.count == 32)
      try await path.close().get()
    }
  }
}

extension PipeConf {
  fileprivate static let lines: PipeConf = {
    var conf = PipeConf()
    conf.framing = .line
    return conf
  }()
}
