import NIOCore
import Testing

@testable import P2PDNet

@Suite struct MemoryNetworkTests {
  @Test(
    "pipes of both kinds and families carry messages between hosts", arguments: [PipeProto.tcp, .udp],
    AddressFamily.allCases)
  func echo(proto: PipeProto, family: AddressFamily) async throws {
    try await World().run { world in
      let server = try await world.server(proto, EchoSink(), family: family)
      let client = try await world.client(to: server)
      for text in ["hello", String(repeating: "x", count: 3000)] {
        #expect(world.send(text, on: client) == "sent")
        #expect(try await world.receive(client) == text)
      }
      #expect(client.localEndpoint?.ip == world.a.address(family))
      #expect(client.peer?.endpoint?.ip == world.b.address(family))
    }
  }

  @Test("a way of 50 ms takes as long as that, each time")
  func latency() async throws {
    try await World().run { world in
      world.net.change(world.a, world.b) { $0.latency = .milliseconds(50) }
      let server = try await world.server(.tcp, EchoSink())
      let began = world.time.now
      let client = try await world.client(to: server)
      #expect(world.time.now - began == .milliseconds(100))
      world.send("hi", on: client)
      _ = try await world.receive(client)
      #expect(world.time.now - began == .milliseconds(200))
    }
  }

  @Test("bandwidth makes large messages slow, and those behind them")
  func bandwidth() async throws {
    try await World().run { world in
      world.net.change(world.a, world.b) { $0.bandwidth = 10_000 }
      let server = try await world.server(.tcp, EchoSink())
      let client = try await world.client(to: server)
      let began = world.time.now
      world.send(String(repeating: "x", count: 10_000), on: client)
      _ = try await world.receive(client)
      // There and back.
      #expect(world.time.now - began == .seconds(2))
    }
  }

  @Test("nobody listens, nobody is there, nobody answers: three errors, each in its time")
  func failures() async throws {
    try await World().run { world in
      let ip = try #require(world.b.address(.v4))
      let open = { (to: Endpoint) in
        await failure { try await PipeOpener.open(.tcp, to: .endpoint(to), on: world.a.loop).get() }
      }
      #expect(await open(Endpoint(ip: ip, port: 9))?.code == .refused)
      let nobody = try #require(IPAddress("10.9.9.9"))
      #expect(await open(Endpoint(ip: nobody, port: 9))?.code == .unreachable)
      world.net.change(world.a, world.b) { $0.isCut = true }
      let began = world.time.now
      #expect(await open(Endpoint(ip: ip, port: 9))?.code == .timeout)
      #expect(world.time.now - began == PipeConf().conTimeout)
    }
  }

  @Test("a taken port is in use, a foreign address is none to listen on, and a closed listener's port is free")
  func ports() async throws {
    try await World().run { world in
      let server = try await world.server(.tcp, EchoSink())
      let endpoint = try #require(server.localEndpoint)
      let again = {
        await failure {
          try await PipeOpener.open(.tcp, bind: endpoint, sink: EchoSink(), on: world.b.loop).get()
        }?.code
      }
      #expect(await again() == .inUse)
      _ = server.close(flush: .zero)
      #expect(await again() == nil)
      let foreign = await failure {
        let bind = Endpoint(ip: try #require(world.a.address(.v4)), port: 1)
        return try await PipeOpener.open(.tcp, bind: bind, sink: EchoSink(), on: world.b.loop).get()
      }
      #expect(foreign?.code == .badAddress)
    }
  }

  @Test("a peer that does not read stops the sender within bounds, and gets everything when it reads")
  func backpressure() async throws {
    try await World().run { world in
      var conf = PipeConf()
      conf.framing = .u32
      let sink = SlowSink()
      let server = try await world.server(.tcp, sink, conf: conf)
      let client = try await world.client(to: server)
      let block = String(repeating: "x", count: 64 << 10)
      var sent = 0
      while sent < 4096, world.send(block, on: client) == "sent" {
        sent += 1
        try await world.sleep(.milliseconds(1))
      }
      #expect(sent > 4 && sent < 1024)
      sink.room = .max
      sink.pipe?.ready()
      try await world.sleep(.seconds(1))
      #expect(sink.got.count >= sent && sink.got.allSatisfy { $0 == block.utf8.count })
    }
  }

  @Test("an end of one side reaches the other after what was sent before")
  func end() async throws {
    try await World().run { world in
      let ended = world.b.loop.makePromise(of: String.self)
      let sink = EchoSink(answers: false, ended: ended)
      let server = try await world.server(.tcp, sink)
      let client = try await world.client(to: server)
      world.net.change(world.a, world.b) { ($0.latency, $0.jitter) = (.milliseconds(20), .milliseconds(20)) }
      for text in ["one", "two", "three"] { world.send(text, on: client) }
      _ = client.close()
      #expect(try await ended.futureResult.get() == "closed")
      #expect(sink.log.filter { !["open", "end closed"].contains($0) }.joined() == "onetwothree")
    }
  }

  @Test("half an end: the other side may still answer")
  func halfClose() async throws {
    try await World().run { world in
      var conf = PipeConf()
      conf.allowHalfOpen = true
      let server = try await world.server(.tcp, EchoSink(), conf: conf)
      let client = try await world.client(to: server)
      world.send("last words", on: client)
      client.closeOutput()
      #expect(try await world.receive(client) == "last words")
    }
  }

  @Test("a stream that is cut ends with a reset at both ends")
  func reset() async throws {
    try await World().run { world in
      let ended = world.b.loop.makePromise(of: String.self)
      let server = try await world.server(.tcp, EchoSink(ended: ended))
      let client = try await world.client(to: server)
      world.net.cut(world.a, world.b)
      #expect(try await ended.futureResult.get() == "reset")
      #expect(try await client.ended.get().code == "reset")
    }
  }

  @Test("datagrams are lost as often as asked for, the same ones with the same seed")
  func loss() async throws {
    let arrived = { (seed: UInt64) async throws -> [String] in
      let notes = Notes<String>()
      try await World(seed: seed).run { world in
        world.net.change(world.a, world.b) { $0.loss = 0.3 }
        let sink = EchoSink(answers: false)
        let server = try await world.server(.udp, sink)
        let client = try await world.client(to: server)
        for number in 0..<1000 { world.send("\(number)", on: client) }
        try await world.sleep(.seconds(1))
        for line in sink.log where line != "open" { notes.add(line) }
      }
      return notes.all
    }
    let first = try await arrived(1)
    #expect((620...780).contains(first.count))
    #expect(try await arrived(1) == first)
    #expect(try await arrived(2) != first)
  }

  @Test("a stream over a link that loses and jitters is late, but whole and in order")
  func lossyStream() async throws {
    try await World().run { world in
      world.net.change(world.a, world.b) {
        ($0.latency, $0.jitter, $0.loss) = (.milliseconds(30), .milliseconds(30), 0.2)
      }
      var conf = PipeConf()
      conf.framing = .u16
      let server = try await world.server(.tcp, EchoSink(), conf: conf)
      let client = try await world.client(to: server)
      for number in 0..<100 { world.send("\(number)", on: client) }
      for number in 0..<100 { #expect(try await world.receive(client) == "\(number)") }
    }
  }

  @Test("what is sent into a partition arrives when it is healed; one that stays ends the pipe")
  func partition() async throws {
    try await World().run { world in
      var conf = PipeConf()
      conf.framing = .u16
      let server = try await world.server(.tcp, EchoSink(), conf: conf)
      let client = try await world.client(to: server)
      world.net.change(world.a, world.b) { $0.isCut = true }
      for number in 0..<5 { world.send("\(number)", on: client) }
      #expect(await failure { try await world.receive(client, timeout: .seconds(20)) }?.code == .timeout)
      world.net.change(world.a, world.b) { $0.isCut = false }
      for number in 0..<5 { #expect(try await world.receive(client) == "\(number)") }

      world.net.change(world.a, world.b) { $0.isCut = true }
      let began = world.seconds
      world.send("into nowhere", on: client)
      #expect(try await client.ended.get().code == "timeout")
      // tcp(7): 15 retries, 13 to 30 minutes.
      #expect((780...1800).contains(world.seconds - began))
    }
  }

  @Test("a peer that vanishes is found by keep-alive, without a word from it")
  func vanish() async throws {
    try await World().run { world in
      var conf = PipeConf()
      conf.framing = .message
      conf.keepAlive = KeepAlive()
      let server = try await world.server(.tcp, EchoSink(), conf: conf)
      let client = try await world.client(to: server)
      try await world.sleep(.seconds(600))
      #expect(client.isOpen)
      world.b.hasVanished = true
      #expect(try await client.ended.get().code == "timeout")
    }
  }

  @Test("a multicast datagram reaches the group's members, this host's too if it is asked to")
  func multicast() async throws {
    try await World().run { world in
      let group = try #require(IPAddress("224.1.2.3"))
      var conf = PipeConf()
      conf.multicastGroups = [group]
      let (near, far, outside) = (EchoSink(answers: false), EchoSink(answers: false), EchoSink(answers: false))
      let open = { (sink: EchoSink, host: MemoryHost, conf: PipeConf) in
        try await PipeOpener.open(
          .udp, bind: Endpoint(ip: .wildcard(.v4), port: 4000), conf: conf, sink: sink, on: host.loop
        ).get()
      }
      let third = world.net.addHost("c")
      _ = try await open(near, world.a, conf)
      _ = try await open(far, world.b, conf)
      _ = try await open(outside, third, PipeConf())
      let sender = try await PipeOpener.open(.udp, to: .endpoint(Endpoint(ip: group, port: 4000)), on: world.a.loop)
        .get()
      world.send("all of you", on: sender)
      try await world.sleep(.seconds(1))
      #expect(near.log.contains("all of you") && far.log.contains("all of you"))
      #expect(!outside.log.contains("all of you"))
    }
  }

  @Test("streams that ended leave nothing behind")
  func cycles() async throws {
    let world = try World()
    let gone = Notes<Weak>()
    try await world.run { world in
      world.net.change(world.a, world.b) { $0.latency = .milliseconds(10) }
      let server = try await world.server(.tcp, EchoSink())
      for _ in 0..<3 {
        let client = try await world.client(to: server)
        gone.add(Weak(client))
        world.send("hi", on: client)
        _ = try await world.receive(client)
        _ = client.close()
        try await world.sleep(.seconds(5))
      }
      #expect(world.a.streams(to: world.b).isEmpty && world.b.streams(to: world.a).isEmpty)
    }
    #expect(gone.all.allSatisfy { $0.object == nil })
  }
}

/// Tells whether an object is still there.
struct Weak: @unchecked Sendable {
  weak var object: AnyObject?
  init(_ object: AnyObject) { self.object = object }
}
