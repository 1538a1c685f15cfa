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

  /// How far the peers got.
  private final class Tally: @unchecked Sendable {
    var moved = 0
    var failed = 0
    var ended = 0
  }

  @Test("whatever it says and in whichever pieces: no byte comes after the end, and nothing is left")
  func hostile() async throws {
    let tally = Tally()
    for seed in 0..<600 {
      try await MoveWorld.run(seed: UInt64(seed) + 7) { world in try await Self.meet(world, tally) }
    }
    #expect(tally.moved > 50 && tally.failed > 50 && tally.ended > 50, "\(tally.moved) \(tally.failed) \(tally.ended)")
  }

  private static func meet(_ world: MoveWorld, _ tally: Tally) async throws {
    let (one, two) = MoveWorld.path(world.hosts[0], world.hosts[1])
    let victim = Victim(MovingTransport(over: one, on: world.hosts[0].loop))
    victim.transport.moved = { tally.moved += 1 }
    victim.transport.moveFailed = { _ in tally.failed += 1 }
    var speaker = Speaker(madness: world.random(0...10))
    var mouths = [Mouth(two)]
    victim.transport.setReading(true)
    let isFast = world.random(0...1) == 0
    for _ in 0..<300 where !victim.isOver {
      switch world.random(0...39) {
      case 0, 1:
        guard victim.transport.canMove else { break }
        let path = world.anotherPath()
        mouths.append(Mouth(path.ends.1))
        speaker.begins()
        victim.transport.move(to: path.ends.0)
      case 2...4: victim.transport.setReading(true)
      case 5...8:
        let bytes = [UInt8](repeating: 1, count: world.random(0...5000))
        let isCorked = world.random(0...3) == 0
        bytes.withUnsafeBytes { _ = victim.transport.send(.none, $0, to: nil, corked: isCorked) }
      case 9 where world.random(0...30) == 0: victim.transport.closeOutput()
      case 10 where world.random(0...20) == 0:
        let mouth = mouths[world.random(0...mouths.count - 1)]
        if world.random(0...1) == 0 { mouth.stream.close(linger: true) } else { mouth.stream.abort() }
        mouth.isOver = true
      case 11: mouths[world.random(0...mouths.count - 1)].stream.setReading(world.random(0...1) == 0)
      default:
        let (word, isNew) = speaker.next(world)
        mouths[isNew ? mouths.count - 1 : 0].say(word)
      }
      try await world.sleep(isFast ? .microseconds(100) : .milliseconds(Int64(world.random(0...60))))
    }
    #expect(victim.wrong == nil)
    if victim.isOver { tally.ended += 1 }
    victim.transport.close(linger: world.random(0...1) == 0)
    for mouth in mouths { mouth.stream.close(linger: false) }
    try await world.sleep(.minutes(2))
    #expect(victim.transport.isGone && mouths.allSatisfy { $0.stream.isGone })
    let left = world.net.hosts.flatMap { host in world.net.hosts.flatMap { host.streams(to: $0) } }
    #expect(left.count == 2, "only the world's own pair may be left, not \(left.count)")
  }

  /// Says mostly what is in place, so that it gets somewhere.
  private struct Speaker {
    /// Of a hundred words.
    private let madness: Int
    private var number: UInt32 = 0
    private var isReady = true
    private var hasLeft = false

    init(madness: Int) { self.madness = madness }

    mutating func begins() {
      number += 1
      isReady = false
    }

    mutating func next(_ world: MoveWorld) -> (word: [UInt8], isNew: Bool) {
      func said(_ kind: MoveRecord.Kind, _ value: UInt32 = 0) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(uint32: MoveRecord(kind, value).word)
        return kind == .data ? bytes + [UInt8](repeating: 0, count: Int(value)) : bytes
      }
      if world.random(0...99) < madness {
        let kind = MoveRecord.Kind.allCases[world.random(0...MoveRecord.Kind.allCases.count - 1)]
        let rest: [UInt8] = world.random(0...1) == 0 ? [0xff] : []
        return (said(kind, UInt32(world.random(0...4))) + rest, world.random(0...1) == 0)
      }
      if !isReady {
        isReady = true
        return (said(.ready, number), true)
      }
      let data = said(.data, UInt32(world.random(0...300)))
      if number == 0 { return (data, false) }
      if !hasLeft {
        hasLeft = world.random(0...2) > 0
        return (hasLeft ? said(.end, number) : data, false)
      }
      switch world.random(0...39) {
      case 0...14: return (data, true)
      case 15...26: return (said(.alive), true)
      case 27...30: return (said(.leave), false)
      case 31...33: return (said(.have, UInt32(world.random(0...1))), false)
      case 34, 35:
        hasLeft = false
        return (said(.lost, number) + said(.back), false)
      case 36: return (said(.bare), true)
      case 37: return (said(.finish), true)
      default: return (said(.lost, number + 1), false)
      }
    }
  }
}
