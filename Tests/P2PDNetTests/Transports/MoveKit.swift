import Glibc
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

    /// What is sent, over and over: as many bytes as a prime, so that a piece out of place shows.
    private static let period = 65_521
    private static let longest = 1 << 20
    private static let pattern: [UInt8] = (0..<period + longest).map {
      let index = $0 % period
      return UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8)
    }

    /// The bytes of the stream from `index` on.
    private static func bytes<T>(_ index: Int, _ count: Int, _ body: (UnsafeRawBufferPointer) -> T) -> T {
      pattern.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[(index % period)...].prefix(count))) }
    }

    func send(_ count: Int, corked: Bool = false) {
      // Some of it as the header that a message would have.
      let front = min(count, sent % 5)
      let error = Self.bytes(sent, count) { bytes in
        var header = FrameHeader.none
        for byte in bytes.prefix(front).reversed() { header.word = header.word << 8 | UInt32(byte) }
        header.count = front
        return transport.send(header, UnsafeRawBufferPointer(rebasing: bytes[front...]), to: nil, corked: corked)
      }
      if error == nil { sent += count }
    }

    func read(_ on: Bool) {
      isReading = on
      paused = got
      transport.setReading(on)
    }

    func received(stream bytes: UnsafeRawBufferPointer) {
      let isRight = Self.bytes(got, bytes.count) { wanted in
        guard let first = wanted.baseAddress, let came = bytes.baseAddress else { return bytes.isEmpty }
        return wanted.count == bytes.count && memcmp(first, came, bytes.count) == 0
      }
      if !isRight { wrong = wrong ?? "\(name): wrong bytes from \(got) on" }
      got += bytes.count
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

  /// One with a link of its own, between these two.
  func anotherPath() -> (ends: (Transport, Transport), hosts: [MemoryHost]) {
    let number = net.hosts.count
    let pair = [net.addHost("a\(number)"), net.addHost("b\(number)")]
    return (Self.path(pair[0], pair[1]), pair)
  }

  func cutOld() { net.cut(hosts[0], hosts[1]) }
  func cutNew() { net.cut(hosts[2], hosts[3]) }
  /// Nobody is told: from now on nothing arrives.
  func swallowNew() { net.change(hosts[2], hosts[3]) { $0.isCut = true } }

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
