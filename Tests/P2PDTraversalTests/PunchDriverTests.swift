import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// One side of a punch in a test, and what came of it.
private final class Puncher: @unchecked Sendable {
  private(set) var streams: [(stream: Transport, attempt: PunchReport.Attempt, time: NIODeadline)] = []
  private(set) var ends: [(report: PunchReport, time: NIODeadline)] = []
  private(set) var punch: TCPPunch?
  let loop: any EventLoop
  /// Called with each stream.
  var onStream: ((Puncher) -> Void)?

  init(
    _ own: PunchSide, _ ports: [[TCPPort]], _ peer: PunchSide, at start: NIODeadline,
    mayDial: @escaping () -> Bool = { true }, on loop: any EventLoop
  ) {
    self.loop = loop
    punch = TCPPunch(
      PunchHand(own, ports), peer: peer, at: start, mayDial: mayDial, on: loop,
      connected: { stream, attempt in
        self.streams.append((stream, attempt, loop.now))
        self.onStream?(self)
      }, ended: { self.ends.append(($0, loop.now)) })
  }

  func drop() {
    onStream = nil
    punch?.cancel()
    punch = nil
    for one in streams { one.stream.abort() }
    streams = []
  }
}

/// A way out as told and with its ports, on an address of this host.
private func way(
  _ ip: IPAddress, _ count: Int = 2, mapping: NATBehaviour.Mapping = .endpointIndependent,
  filtering: NATBehaviour.Filtering = .addressAndPortDependent, on loop: any EventLoop
) -> (PunchSide.Path, [TCPPort]) {
  let ports = (0..<count).map { _ in TCPPort(ip: ip, on: loop) }
  let told = ports.map { PunchSide.Port([$0.local]) }
  return (PunchSide.Path(ip.family, mapping: mapping, filtering: filtering, ports: told), ports)
}

private func pause(_ amount: TimeAmount, _ loop: any EventLoop) async throws {
  try await loop.scheduleTask(in: amount) {}.futureResult.get()
}

@Suite("The hole punch in a simulated network, where a host that does not dial refuses")
struct PunchDriverTests {
  private func inWorld(
    seed: UInt64 = 1,
    _ body: @escaping @Sendable (VirtualTime, MemoryNetwork, MemoryHost, MemoryHost) async throws -> Void
  ) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: seed)
    let (a, b) = (net.addHost("a"), net.addHost("b"))
    net.change(a, b) { $0.latency = .milliseconds(20) }
    try await a.loop.run {
      try await body(time, net, a, b)
      net.reset(seed: 0)
    }.get()
  }

  private static func pair(
    _ a: MemoryHost, _ b: MemoryHost, skew: Int64, family: AddressFamily = .v4
  ) throws -> (Puncher, Puncher) {
    let (one, ones) = way(try #require(a.addresses.first { $0.family == family }), on: a.loop)
    let (two, twos) = way(try #require(b.addresses.first { $0.family == family }), on: b.loop)
    let start = a.loop.now + .milliseconds(50)
    let first = Puncher(PunchSide([one]), [ones], PunchSide([two]), at: start, on: a.loop)
    let second = Puncher(
      PunchSide([two]), [twos], PunchSide([one]), at: start + .milliseconds(skew), on: b.loop)
    first.punch?.start()
    second.punch?.start()
    return (first, second)
  }

  @Test("crossed SYNs connect after a round trip, in either family", arguments: AddressFamily.allCases)
  func crossed(family: AddressFamily) async throws {
    try await inWorld { time, _, a, b in
      let began = time.now
      let (one, two) = try Self.pair(a, b, skew: 0, family: family)
      try await pause(.milliseconds(100), a.loop)
      #expect(one.streams.count == 1 && two.streams.count == 1)
      #expect(one.streams.first?.time == began + .milliseconds(90))
      #expect(one.streams.first?.stream.localEndpoint == two.streams.first?.stream.remoteEndpoint)
      #expect(one.streams.first?.attempt.tries == 1)
      #expect(one.streams.first?.attempt.seen == .connected)
      one.drop()
      two.drop()
    }
  }

  @Test(
    "both refuse and one is late: pauses of chance bring them together", arguments: [30, 100, 300, 1_000] as [Int64])
  func skewed(skew: Int64) async throws {
    try await inWorld { time, _, a, b in
      let (one, two) = try Self.pair(a, b, skew: skew)
      try await pause(.milliseconds(skew + 1_500), a.loop)
      #expect(one.streams.count >= 1 && two.streams.count >= 1)
      #expect((one.punch?.report.attempts.map(\.tries).max() ?? 0) > 1)
      one.drop()
      two.drop()
    }
  }

  @Test("a host that refuses is called no more often than is allowed, and the report says so")
  func limited() async throws {
    try await inWorld { _, _, a, b in
      let (own, ports) = way(try #require(a.addresses.first { $0.family == .v4 }), on: a.loop)
      let (their, theirs) = way(try #require(b.addresses.first { $0.family == .v4 }), on: b.loop)
      var left = 7
      let one = Puncher(
        PunchSide([own]), [ports], PunchSide([their]), at: a.loop.now,
        mayDial: {
          left -= 1
          return left >= 0
        }, on: a.loop)
      one.punch?.start()
      try await pause(.seconds(6), a.loop)
      let report = try #require(one.ends.first?.report)
      #expect(report.attempts.map(\.tries).reduce(0, +) >= 7)
      #expect(report.attempts.allSatisfy { $0.seen == .limited })
      #expect(report.errors.first?.code == .limit)
      #expect(left <= 0)
      one.drop()
      for port in theirs { port.close() }
    }
  }

  @Test("nobody at the other end: silent until 5 s, with every pair in the report")
  func silent() async throws {
    try await inWorld { time, net, a, b in
      let began = time.now
      net.change(a, b) { $0.isCut = true }
      let (one, two) = try Self.pair(a, b, skew: 0)
      try await pause(.seconds(6), a.loop)
      #expect(one.ends.count == 1 && two.ends.count == 1 && one.streams.isEmpty)
      #expect(one.ends.first?.time == began + .milliseconds(5_050))
      let attempts = one.ends.first?.report.attempts ?? []
      #expect(attempts.count == 4 && attempts.allSatisfy { $0.seen == .silent && $0.tries == 1 })
      #expect(one.ends.first?.report.errors.first?.code == .timeout)
      let text = one.ends.first?.report.errors.first.map { "\($0)" } ?? ""
      #expect(text.hasSuffix(": silent"), "\(text)")
    }
  }

  @Test("an impossible pair ends at once, with the reason and without a SYN")
  func impossible() async throws {
    try await inWorld { time, net, a, b in
      let lines = Lines()
      net.onEvent = { lines.add($0) }
      let (one, ones) = way(a.addresses[0], mapping: .addressAndPortDependent, on: a.loop)
      let (two, _) = way(b.addresses[0], mapping: .addressAndPortDependent, on: b.loop)
      let began = time.now
      let side = Puncher(PunchSide([one]), [ones], PunchSide([two]), at: began + .seconds(1), on: a.loop)
      side.punch?.start()
      #expect(side.ends.isEmpty)
      try await pause(.milliseconds(1), a.loop)
      #expect(side.ends.count == 1)
      #expect(side.ends.first?.report.errors.first?.cause.hasPrefix("both routers") == true)
      #expect(lines.all.isEmpty)
    }
  }

  @Test("one side listens where the other's port is not known")
  func listener() async throws {
    try await inWorld { time, _, a, b in
      let (one, ones) = way(a.addresses[0], 1, filtering: .endpointIndependent, on: a.loop)
      let (two, twos) = way(b.addresses[0], 1, mapping: .addressAndPortDependent, on: b.loop)
      // What a symmetric router would show: not the port it comes from.
      var told = two
      told.ports = [PunchSide.Port([Endpoint(ip: b.addresses[0], port: 9)])]
      let first = Puncher(PunchSide([one]), [ones], PunchSide([told]), at: time.now, on: a.loop)
      let second = Puncher(PunchSide([told]), [twos], PunchSide([one]), at: time.now, on: b.loop)
      first.punch?.start()
      second.punch?.start()
      try await pause(.milliseconds(100), a.loop)
      #expect(first.streams.first?.attempt.isAccepted == true)
      #expect(second.streams.first?.attempt.isAccepted == false)
      // Strangers are not let in there, nor the peer without end.
      let stranger = PipeOpener.open(.tcp, to: .endpoint(ones[0].local), on: a.loop)
      _ = try? await stranger.get().close(flush: .zero).get()
      for _ in 0..<20 {
        _ = try? await PipeOpener.open(.tcp, to: .endpoint(ones[0].local), on: b.loop).get().close(flush: .zero).get()
      }
      try await pause(.milliseconds(100), a.loop)
      #expect(first.streams.count <= 8)
      #expect(first.streams.allSatisfy { $0.stream.remoteEndpoint?.ip == b.addresses[0] })
      first.drop()
      second.drop()
    }
  }

  @Test("connected to itself is no connection")
  func itself() async throws {
    try await inWorld { time, _, a, b in
      // Both told another outside port; the peer's is by chance our inside one.
      let (own, ports) = way(a.addresses[0], 1, on: a.loop)
      var told = own
      told.ports = [PunchSide.Port([Endpoint(ip: a.addresses[0], port: 9)])]
      told.hairpin = .externalSource
      let side = Puncher(PunchSide([told]), [ports], PunchSide([own]), at: time.now, on: a.loop)
      side.punch?.start()
      try await pause(.milliseconds(100), a.loop)
      #expect(side.streams.isEmpty)
      #expect(side.ends.first?.report.attempts.first?.seen == .itself)
    }
  }

  @Test("cancelled before, in the middle and from the callback: no timer and no socket stays")
  func cancelled() async throws {
    try await inWorld { time, net, a, b in
      for moment in [0, 10, 55, 75, 200] as [Int64] {
        let timers = time.timerCount
        let (one, two) = try Self.pair(a, b, skew: 100)
        try await pause(.milliseconds(moment), a.loop)
        one.drop()
        two.drop()
        // What is on the way in the network ends by itself.
        try await pause(.seconds(3), a.loop)
        #expect(time.timerCount == timers, "after \(moment) ms")
        #expect(one.ends.isEmpty && two.ends.isEmpty)
      }
      let (one, two) = try Self.pair(a, b, skew: 0)
      one.onStream = { $0.drop() }
      try await pause(.milliseconds(500), a.loop)
      #expect(one.streams.isEmpty && one.punch == nil)
      two.drop()
    }
  }
}

private final class Lines: @unchecked Sendable {
  private(set) var all: [String] = []
  func add(_ line: String) { all.append(line) }
}

@Suite("The hole punch on the kernel's sockets")
struct PunchKernelTests {
  @Test("a port listens, dials and holds a server's connection at once; a stream that is aborted is reset")
  func onePort() async throws {
    let loop = try KernelLoop.start(name: "punch")
    let (here, there) = (ep("127.0.0.1:0").ip, ep("127.0.0.2:0").ip)
    let punchers = try await loop.submit { () -> (Puncher, Puncher) in
      let (one, ones) = way(here, 1, filtering: .endpointIndependent, on: loop)
      var (two, twos) = way(there, 1, mapping: .addressAndPortDependent, on: loop)
      two.ports = [PunchSide.Port([Endpoint(ip: there, port: 9)])]
      let first = Puncher(PunchSide([one]), [ones], PunchSide([two]), at: loop.now, on: loop)
      let second = Puncher(PunchSide([two]), [twos], PunchSide([one]), at: loop.now, on: loop)
      first.punch?.start()
      second.punch?.start()
      return (first, second)
    }.get()
    try await until(loop) { !punchers.0.streams.isEmpty && !punchers.1.streams.isEmpty }
    let ended = loop.makePromise(of: EndReason.self)
    try await loop.submit {
      let (stream, attempt, _) = punchers.0.streams[0]
      #expect(attempt.isAccepted && stream.remoteEndpoint?.ip == there)
      let sink = EndSink(ended)
      var conf = PipeConf()
      conf.framing = .raw
      let pipe = Pipe.adopt(punchers.1.streams[0].stream, conf: conf, sink: sink, on: loop)
      withExtendedLifetime(pipe) { stream.abort() }
      #expect(stream.isGone)
      // The same two ends can meet again at once: neither is in TIME_WAIT.
      punchers.0.punch?.cancel()
      punchers.1.punch?.cancel()
    }.get()
    let reason = try await ended.futureResult.get()
    guard case .reset = reason else {
      Issue.record("\(reason)")
      return
    }
    try await loop.shutdownGracefully()
  }

  private func until(_ loop: KernelLoop, _ condition: @escaping @Sendable () -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(10)
    while try await !loop.submit(condition).get() {
      try #require(ContinuousClock.now < end)
      try await pause(.milliseconds(5), loop)
    }
  }
}

private final class EndSink: PipeSink, @unchecked Sendable {
  private let promise: EventLoopPromise<EndReason>
  init(_ promise: EventLoopPromise<EndReason>) { self.promise = promise }
  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }
  func pipeEnded(_ pipe: Pipe, reason: EndReason) { promise.succeed(reason) }
}
