import NIOCore

@testable import P2PDNet

/// Two ends of a stream that may move, in a world of memory: what is sent is counted bytes, so that whatever comes can be
/// checked as it comes.
final class MoveWorld: @unchecked Sendable {
  let time: VirtualTime
  let net: MemoryNetwork
  /// The ends of the first path, and of the second: each pair has a link of its own.
  let hosts: [MemoryHost]
  let near: End
  let far: End
  private var luck: SplitMix64

  /// One end: the transport, and its owner.
  final class End: TransportOwner, @unchecked Sendable {
    let transport: MovingTransport
    let name: String
    var sent = 0
    var got = 0
    var wrong: String?
    var inputEnd: EndReason?
    var end: EndReason?
    var moves = 0
    var refusals: [NetError] = []
    var isReading = false
    /// What `got` was when reading was last turned off.
    var paused = 0

    init(_ name: String, _ transport: MovingTransport) {
      self.name = name
      self.transport = transport
      transport.owner = self
      transport.moved = { [unowned self] in moves += 1 }
      transport.moveFailed = { [unowned self] in refusals.append($0) }
    }

    static func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }

    func send(_ count: Int, corked: Bool = false) {
      let bytes = (sent..<sent + count).map { Self.byte($0) }
      // Some of it as the header that a message would have.
      var header = FrameHeader.none
      let front = min(count, sent % 5)
      for byte in bytes.prefix(front).reversed() { header.word = header.word << 8 | UInt32(byte) }
      header.count = front
      let error = bytes.dropFirst(front).withUnsafeBytes { transport.send(header, $0, to: nil, corked: corked) }
      if error == nil { sent += count }
    }

    func read(_ on: Bool) {
      isReading = on
      paused = got
      transport.setReading(on)
    }

    func received(stream bytes: UnsafeRawBufferPointer) {
      for byte in bytes {
        if byte != Self.byte(got), wrong == nil { wrong = "\(name): byte \(got) is wrong" }
        got += 1
      }
      if inputEnd != nil || end != nil { wrong = wrong ?? "\(name): bytes after the end" }
    }
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
    func inputEnded(_ reason: EndReason) {
      if inputEnd != nil { wrong = wrong ?? "\(name): two ends of input" }
      inputEnd = reason
    }
    func drained() {}
    func transportEnded(_ reason: EndReason) {
      if end != nil { wrong = wrong ?? "\(name): two ends" }
      end = reason
    }
  }

  init(_ time: VirtualTime, seed: UInt64) {
    self.time = time
    net = MemoryNetwork(time, seed: seed)
    let net = net
    hosts = ["a1", "b1", "a2", "b2"].map { net.addHost($0) }
    luck = SplitMix64(seed)
    let loop = hosts[0].loop
    let (one, two) = Self.path(hosts[0], hosts[1])
    near = End("near", MovingTransport(over: one, on: loop))
    far = End("far", MovingTransport(over: two, on: loop))
  }

  var ends: [End] { [near, far] }

  static func path(_ a: MemoryHost, _ b: MemoryHost) -> (Transport, Transport) {
    let endpoint = { (host: MemoryHost) in host.address(.v4).map { Endpoint(ip: $0, port: host.freePort()) } }
    return MemoryStream.pair(a, endpoint(a), b, endpoint(b), StreamOptions())
  }

  func secondPath() -> (Transport, Transport) { Self.path(hosts[2], hosts[3]) }

  func cutOld() { net.cut(hosts[0], hosts[1]) }
  func cutNew() { net.cut(hosts[2], hosts[3]) }

  func sleep(_ amount: TimeAmount) async throws {
    try await hosts[0].loop.scheduleTask(in: amount) {}.futureResult.get()
  }

  func random(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &luck) }

  var wrong: String? { near.wrong ?? far.wrong }

  /// Runs a test on the thread of a new world.
  static func run(seed: UInt64 = 1, _ body: @escaping @Sendable (MoveWorld) async throws -> Void) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let loop = time.makeLoop(network: MemoryNetwork(time, seed: 0).addHost("nobody"))
    try await loop.run {
      let world = MoveWorld(time, seed: seed)
      try await body(world)
      for end in world.ends { end.transport.close(linger: false) }
      try await world.sleep(.seconds(10))
      world.net.reset(seed: 0)
    }.get()
  }
}
