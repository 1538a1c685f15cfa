import NIOCore
import Testing

@testable import P2PDNet

/// A ``MovingTransport`` whose peer says what it likes, on both paths.
@Suite(.timeLimit(.minutes(1))) struct MovingHostileTests {
  /// The peer's end of a path: reads what comes, or does not.
  private final class Mouth: TransportOwner, @unchecked Sendable {
    let stream: Transport
    var isOver = false

    init(_ stream: Transport) {
      self.stream = stream
      stream.owner = self
      stream.setReading(true)
    }

    func say(_ bytes: [UInt8]) {
      if !isOver { bytes.withUnsafeBytes { _ = stream.send(.none, $0, to: nil, corked: false) } }
    }

    func received(stream bytes: UnsafeRawBufferPointer) {}
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
    func inputEnded(_ reason: EndReason) {}
    func drained() {}
    func transportEnded(_ reason: EndReason) { isOver = true }
  }

  /// What a script would do with the pipe: whatever comes is as good as anything.
  private final class Victim: TransportOwner, @unchecked Sendable {
    let transport: MovingTransport
    var got = 0
    var wrong: String?
    var isOver = false
    private var hasEnded = false

    init(_ transport: MovingTransport) {
      self.transport = transport
      transport.owner = self
    }

    func received(stream bytes: UnsafeRawBufferPointer) {
      got += bytes.count
      if isOver || hasEnded { wrong = "bytes after the end" }
      // In the middle of what is handed on.
      if got % 7 == 0 { transport.setReading(false) }
      if got % 11 == 0 { _ = transport.send(.none, bytes, to: nil, corked: false) }
    }
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
    func inputEnded(_ reason: EndReason) {
      if hasEnded || isOver { wrong = "two ends of input" }
      hasEnded = true
    }
    func drained() {}
    func transportEnded(_ reason: EndReason) {
      if isOver { wrong = "two ends" }
      isOver = true
    }
  }

  @Test(
    "whatever it says and in whichever pieces: no byte comes after the end, and nothing is left", arguments: 0..<400)
  func hostile(_ seed: Int) async throws {
    try await MoveWorld.run(seed: UInt64(seed) + 7) { world in
      let (one, two) = MoveWorld.path(world.hosts[0], world.hosts[1])
      let victim = Victim(MovingTransport(over: one, on: world.hosts[0].loop))
      var mouths = [Mouth(two)]
      victim.transport.setReading(true)
      let isFast = world.random(0...1) == 0
      for _ in 0..<300 where !victim.isOver {
        switch world.random(0...19) {
        case 0, 1:
          let path = world.anotherPath()
          mouths.append(Mouth(path.ends.1))
          victim.transport.move(to: path.ends.0)
        case 2: victim.transport.setReading(true)
        case 3: _ = victim.transport.send(.none, UnsafeRawBufferPointer(start: nil, count: 0), to: nil, corked: true)
        case 4:
          let bytes = [UInt8](repeating: 1, count: world.random(1...5000))
          bytes.withUnsafeBytes { _ = victim.transport.send(.none, $0, to: nil, corked: false) }
        case 5 where world.random(0...30) == 0: victim.transport.closeOutput()
        case 6 where world.random(0...10) == 0:
          let mouth = mouths[world.random(0...mouths.count - 1)]
          world.random(0...1) == 0 ? mouth.stream.close(linger: true) : mouth.stream.abort()
          mouth.isOver = true
        case 7: mouths[world.random(0...mouths.count - 1)].stream.setReading(world.random(0...1) == 0)
        default:
          // Mostly what is in place, so that it gets somewhere.
          let isNew = mouths.count > 1 && world.random(0...2) > 0
          mouths[isNew ? mouths.count - 1 : 0].say(Self.words(world, isNew))
        }
        try await world.sleep(isFast ? .microseconds(100) : .milliseconds(Int64(world.random(0...60))))
      }
      #expect(victim.wrong == nil)
      victim.transport.close(linger: world.random(0...1) == 0)
      for mouth in mouths { mouth.stream.close(linger: false) }
      try await world.sleep(.minutes(2))
      #expect(victim.transport.isGone && mouths.allSatisfy { $0.stream.isGone })
      let left = world.net.hosts.flatMap { host in world.net.hosts.flatMap { host.streams(to: $0) } }
      #expect(left.count == 2, "only the world's own pair may be left, not \(left.count)")
    }
  }

  private static func words(_ world: MoveWorld, _ isNew: Bool) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0...world.random(0...3) {
      let likely: [MoveRecord.Kind] =
        isNew ? [.ready, .alive, .alive, .data, .data, .bare, .finish] : [.end, .data, .lost, .back, .leave, .have]
      let kinds = world.random(0...9) == 0 ? MoveRecord.Kind.allCases : likely
      let kind = kinds[world.random(0...kinds.count - 1)]
      let value = UInt32(kind == .data ? world.random(0...300) : world.random(0...4))
      bytes.append(uint32: MoveRecord(kind, value).word)
      if kind == .data { bytes += [UInt8](repeating: 0, count: Int(value)) }
    }
    if world.random(0...19) == 0 { bytes += [0xff, 1] }
    return bytes
  }
}
