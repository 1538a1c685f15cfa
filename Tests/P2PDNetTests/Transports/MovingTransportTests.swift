import NIOCore
import Testing

@testable import P2PDNet

@Suite(.timeLimit(.minutes(2))) struct MovingTransportTests {
  @Test(
    "a stream moves in mid-talk: addresses change, the old path is left, later bytes are on the new one as they are")
  func moves() async throws {
    try await MoveWorld.run { world in
      let (near, far) = (world.near, world.far)
      world.net.change(world.hosts[0], world.hosts[1]) { $0.latency = .milliseconds(80) }
      world.net.change(world.hosts[2], world.hosts[3]) { $0.latency = .milliseconds(10) }
      #expect(near.transport.remoteEndpoint?.ip == world.hosts[1].address(.v4))
      for end in world.ends { end.read(true) }
      near.send(1000)
      far.send(10)
      let (one, two) = world.secondPath()
      near.transport.move(to: one)
      near.send(20)
      far.transport.move(to: two)
      far.send(3000)
      try await world.sleep(.milliseconds(500))
      #expect((near.got, far.got) == (3010, 1020))
      // It is done when the new path has lived for a while.
      #expect((near.moves, far.moves) == (0, 0))
      try await world.sleep(.seconds(4))
      #expect((near.moves, far.moves) == (1, 1))
      #expect(near.transport.remoteEndpoint?.ip == world.hosts[3].address(.v4))
      #expect(far.transport.localEndpoint?.ip == world.hosts[3].address(.v4))
      // The old path is not needed any more, and a word takes as long as the new one is.
      try await world.sleep(.seconds(3))
      #expect(world.hosts[0].streams(to: world.hosts[1]).isEmpty)
      world.cutOld()
      near.send(5)
      try await world.sleep(.milliseconds(10))
      #expect(far.got == 1025)
      #expect(!near.transport.canMove)
      near.transport.closeOutput()
      far.send(7)
      try await world.sleep(.milliseconds(10))
      guard case .closed? = far.inputEnd else { return #expect(Bool(false), "no end") }
      #expect(near.got == 3017 && far.end == nil)
      #expect(world.wrong == nil)
    }
  }

  @Test("any schedule of sends, pauses and moves: what comes is what was sent", arguments: 0..<60)
  func schedules(_ seed: Int) async throws {
    try await MoveWorld.run(seed: UInt64(seed)) { world in
      for pair in [(0, 1), (2, 3)] {
        world.net.change(world.hosts[pair.0], world.hosts[pair.1]) {
          $0.latency = .milliseconds(Int64(world.random(0...80)))
          $0.jitter = .milliseconds(Int64(world.random(0...40)))
          if world.random(0...2) == 0 { $0.bandwidth = 2_000_000 }
        }
      }
      for end in world.ends { end.read(true) }
      let path = world.secondPath()
      let moments = [world.random(0...600), world.random(0...600)]
      for step in 0..<700 {
        if step == moments[0] { world.near.transport.move(to: path.0) }
        if step == moments[1] { world.far.transport.move(to: path.1) }
        let end = world.ends[world.random(0...1)]
        switch world.random(0...19) {
        case 0: end.read(!end.isReading)
        case 1: end.send(world.random(1...200_000))
        case 2:
          for _ in 0...world.random(0...4) { end.send(world.random(1...50), corked: true) }
          end.transport.uncork()
        case 3...12 where end.transport.unsent < 1 << 20: end.send(world.random(0...3000))
        default: try await world.sleep(.milliseconds(Int64(world.random(0...20))))
        }
      }
      for end in world.ends { end.read(true) }
      let isHalf = world.random(0...1) == 0
      if isHalf { world.near.transport.closeOutput() }
      try await world.sleep(.minutes(5))
      #expect(world.wrong == nil)
      #expect((world.near.got, world.far.got) == (world.far.sent, world.near.sent))
      #expect((world.near.moves, world.far.moves) == (1, 1))
      #expect(world.near.end == nil && world.far.end == nil)
      #expect((world.far.inputEnd != nil) == isHalf && world.near.inputEnd == nil)
      #expect(world.hosts[0].streams(to: world.hosts[1]).isEmpty, "the old path is still there")
    }
  }

  @Test("a reader that stops is waited for on both paths, and memory stays bounded")
  func backpressure() async throws {
    try await MoveWorld.run { world in
      let (near, far) = (world.near, world.far)
      world.net.change(world.hosts[0], world.hosts[1]) { $0.latency = .milliseconds(40) }
      near.read(true)
      let path = world.secondPath()
      // Fills the old path, and after the move the new one.
      while near.transport.unsent == 0 {
        near.send(50_000)
        try await world.sleep(.milliseconds(1))
      }
      near.transport.move(to: path.0)
      far.transport.move(to: path.1)
      try await world.sleep(.seconds(1))
      let queued = near.transport.unsent
      near.send(50_000)
      #expect(near.transport.unsent <= queued + 50_004)
      while near.transport.unsent < 2 << 20 {
        near.send(50_000)
        try await world.sleep(.milliseconds(1))
      }
      #expect(far.got == 0 && far.moves == 0)
      // A little at a time: it never gets far ahead of who reads.
      for _ in 0..<2000 where far.got < near.sent {
        far.read(true)
        try await world.sleep(.microseconds(1))
        far.read(false)
        let before = far.got
        try await world.sleep(.milliseconds(100))
        #expect(far.got == before, "bytes came while nobody read")
        near.send(10)
      }
      far.read(true)
      try await world.sleep(.minutes(1))
      #expect(far.got == near.sent && far.moves == 1 && near.moves == 1)
      #expect(world.wrong == nil)
      #expect(near.transport.unsent == 0)
    }
  }

  /// Moments of a move, in milliseconds: each of its first steps, then now and then until it is done and after.
  private static let moments = Array(stride(from: 0, through: 400, by: 9)) + stride(from: 450, through: 4700, by: 85)

  @Test("the new path fails at any moment before the old one is left: all goes on there, and nothing is missing")
  func newPathFails() async throws {
    var (stayed, moved, failed) = (0, 0, 0)
    for delay in Self.moments {
      for talks in [false, true] {
        let outcome = Outcome()
        try await MoveWorld.run(seed: UInt64(delay)) { world in
          try await Self.accident(world, after: delay, talks: talks) { world.cutNew() }
          #expect(world.wrong == nil)
          outcome.moved = world.ends.contains { $0.moves == 1 }
          if world.ends.allSatisfy({ $0.end == nil && $0.inputEnd == nil && $0.moves == 0 }) {
            #expect(world.ends.allSatisfy { $0.refusals.count == 1 && $0.transport.canMove })
            #expect((world.near.got, world.far.got) == (world.far.sent, world.near.sent), "after \(delay) ms")
            outcome.stayed = true
          } else {
            #expect(delay > 2000, "it ended though the old path was there, \(delay) ms")
            #expect(world.ends.allSatisfy { $0.end != nil || $0.inputEnd != nil }, "one end lives on after \(delay) ms")
          }
        }
        if outcome.stayed { stayed += 1 } else if outcome.moved { moved += 1 } else { failed += 1 }
      }
    }
    #expect(stayed > 140 && moved > 20, "\(stayed) \(moved) \(failed)")
    // Both had said that they need the old path no more, and neither had heard it.
    #expect(failed <= 4, "\(stayed) \(moved) \(failed)")
  }

  @Test("the new path swallows everything from any moment on: nothing is lost, or what came before has come")
  func newPathSwallows() async throws {
    var (stayed, moved) = (0, 0)
    for delay in Self.moments {
      for talks in [false, true] {
        let outcome = Outcome()
        try await MoveWorld.run(seed: UInt64(delay)) { world in
          let before = try await Self.accident(world, after: delay, talks: talks) { world.swallowNew() }
          #expect(world.wrong == nil)
          outcome.moved = world.ends.allSatisfy { $0.moves == 1 }
          #expect(world.ends.allSatisfy { $0.end == nil && $0.inputEnd == nil }, "it ended, \(delay) ms")
          if !outcome.moved {
            #expect(world.ends.allSatisfy { $0.moves == 0 }, "one end has moved, \(delay) ms")
            #expect((world.near.got, world.far.got) == (world.far.sent, world.near.sent), "after \(delay) ms")
            #expect(world.ends.allSatisfy { $0.transport.canMove }, "still under way, \(delay) ms")
            outcome.stayed = true
          } else {
            // A path that is lost after the move is for keep-alive: what was not on its way has come, and nothing else.
            #expect(delay > 2000, "it moved to a dead path, \(delay) ms")
            #expect(world.near.got >= before.far && world.far.got >= before.near, "after \(delay) ms")
          }
        }
        if outcome.stayed { stayed += 1 } else if outcome.moved { moved += 1 }
      }
    }
    #expect(stayed > 140 && moved > 20 && stayed + moved == Self.moments.count * 2, "\(stayed) \(moved)")
  }

  @Test("paths that die while they are tried, then one that lives: what comes is what was sent", arguments: 0..<20)
  func again(_ seed: Int) async throws {
    try await MoveWorld.run(seed: UInt64(seed)) { world in
      world.net.change(world.hosts[0], world.hosts[1]) { $0.latency = .milliseconds(Int64(world.random(5...90))) }
      for end in world.ends { end.read(true) }
      for turn in 1...4 {
        let path = world.anotherPath()
        let (a, b) = (path.hosts[0], path.hosts[1])
        world.net.change(a, b) {
          $0.latency = .milliseconds(Int64(world.random(1...60)))
          if world.random(0...1) == 0 { $0.bandwidth = 3_000_000 }
        }
        let moments = [world.random(0...300), world.random(0...300)]
        let death = turn < 4 ? world.random(100...2500) : -1
        for step in 0..<3000 {
          if step == moments[0] { world.near.transport.move(to: path.ends.0) }
          if step == moments[1] { world.far.transport.move(to: path.ends.1) }
          if step == death {
            if world.random(0...1) == 0 { world.net.cut(a, b) } else { world.net.change(a, b) { $0.isCut = true } }
          }
          let end = world.ends[world.random(0...1)]
          switch world.random(0...99) {
          case 0: end.read(!end.isReading)
          case 1...4 where end.transport.unsent < 1 << 20: end.send(world.random(1...100_000))
          case 5...30 where end.transport.unsent < 1 << 20: end.send(world.random(0...3000))
          default: break
          }
          try await world.sleep(.milliseconds(1))
        }
        for end in world.ends { end.read(true) }
        try await world.sleep(.seconds(30))
        #expect(world.wrong == nil)
        #expect((world.near.got, world.far.got) == (world.far.sent, world.near.sent), "path \(turn)")
        #expect(world.ends.allSatisfy { $0.transport.unsent == 0 })
        #expect(world.ends.allSatisfy { $0.end == nil && $0.inputEnd == nil }, "path \(turn)")
        #expect(world.ends.allSatisfy { $0.moves == (turn < 4 ? 0 : 1) }, "path \(turn)")
      }
      world.cutOld()
      world.near.send(1000)
      try await world.sleep(.seconds(1))
      #expect(world.far.got == world.near.sent)
    }
  }

  @Test("the old path fails at any moment: the stream ends, or it has moved and nothing is missing")
  func oldPathFails() async throws {
    var (moved, failed) = (0, 0)
    for delay in stride(from: 0, through: 400, by: 4) {
      for talks in [false, true] {
        let outcome = Outcome()
        try await MoveWorld.run(seed: UInt64(delay)) { world in
          try await Self.accident(world, after: delay, talks: talks) { world.cutOld() }
          #expect(world.wrong == nil)
          if world.ends.allSatisfy({ $0.end == nil && $0.inputEnd == nil }) {
            #expect((world.near.got, world.far.got) == (world.far.sent, world.near.sent), "after \(delay) ms")
            #expect((world.near.moves, world.far.moves) == (1, 1))
            outcome.stayed = true
          } else {
            #expect(world.ends.allSatisfy { $0.end != nil || $0.inputEnd != nil }, "one end lives on after \(delay) ms")
            #expect(world.ends.contains { $0.end != nil })
          }
        }
        if outcome.stayed { moved += 1 } else { failed += 1 }
      }
    }
    #expect(moved > 20 && failed > 20)
  }

  private final class Outcome: @unchecked Sendable {
    var stayed = false
    var moved = false
  }

  /// A move with an accident in it. Who hears of the end closes, as a pipe does.
  /// - Returns: what each had sent so early that it was there when the accident happened.
  @discardableResult
  private static func accident(
    _ world: MoveWorld, after delay: Int, talks: Bool, _ happens: @escaping () -> Void
  ) async throws -> (near: Int, far: Int) {
    world.net.change(world.hosts[0], world.hosts[1]) { $0.latency = .milliseconds(60) }
    world.net.change(world.hosts[2], world.hosts[3]) { $0.latency = .milliseconds(45) }
    for end in world.ends { end.read(true) }
    let path = world.secondPath()
    var (isClosed, before) = ([false, false], (near: 0, far: 0))
    let last = max(600, delay + 200)
    for step in 0..<last {
      if step == 20 { world.near.transport.move(to: path.0) }
      if step == 70 { world.far.transport.move(to: path.1) }
      if step == delay { happens() }
      if step < delay - 60 { before = (world.near.sent, world.far.sent) }
      if talks, step % 3 == 0, step < last - 100 { world.ends[step % 2].send(100) }
      for (index, end) in world.ends.enumerated() where !isClosed[index] && end.inputEnd != nil && end.end == nil {
        end.transport.close(linger: true)
        isClosed[index] = true
      }
      try await world.sleep(.milliseconds(1))
    }
    if !talks {
      // Now there is something to lose.
      for end in world.ends { end.send(1000) }
    }
    for _ in 0..<20 {
      try await world.sleep(.seconds(1))
      for (index, end) in world.ends.enumerated() where !isClosed[index] && end.inputEnd != nil && end.end == nil {
        end.transport.close(linger: true)
        isClosed[index] = true
      }
    }
    return before
  }

  @Test("a second stream is refused while one is tried, and taken when that has failed; a closed one takes none")
  func twice() async throws {
    try await MoveWorld.run { world in
      let (near, far) = (world.near, world.far)
      for end in world.ends { end.read(true) }
      let (first, second) = (world.secondPath(), world.secondPath())
      near.transport.move(to: first.0)
      near.transport.move(to: second.0)
      #expect(near.refusals.map(\.code) == [.cancelled])
      #expect(second.0.isGone)
      // The other side took the one that was refused: it fails there too.
      far.transport.move(to: second.1)
      try await world.sleep(.seconds(1))
      #expect(far.refusals.count == 1 && far.transport.canMove)
      far.transport.move(to: first.1)
      try await world.sleep(.seconds(5))
      #expect((near.moves, far.moves) == (1, 1))
      near.send(10)
      try await world.sleep(.seconds(1))
      #expect(far.got == 10)
      let third = world.secondPath()
      near.transport.move(to: third.0)
      #expect(near.refusals.count == 2 && third.0.isGone)
      near.transport.close(linger: true)
      let fourth = world.secondPath()
      near.transport.move(to: fourth.0)
      #expect(fourth.0.isGone)
    }
  }

  @Test("closed at any moment of a move: what was sent before still comes, then the end, and no stream is left")
  func closeDuringMove() async throws {
    for delay in Array(stride(from: 0, through: 500, by: 7)) + stride(from: 600, through: 4500, by: 150) {
      try await MoveWorld.run(seed: UInt64(delay)) { world in
        let (near, far) = (world.near, world.far)
        world.net.change(world.hosts[0], world.hosts[1]) { $0.latency = .milliseconds(60) }
        world.net.change(world.hosts[2], world.hosts[3]) { $0.latency = .milliseconds(20) }
        for end in world.ends { end.read(true) }
        let path = world.secondPath()
        for step in 0..<delay {
          if step == 20 { near.transport.move(to: path.0) }
          if step == 90 { far.transport.move(to: path.1) }
          if step % 5 == 0 { near.send(100) }
          try await world.sleep(.milliseconds(1))
        }
        near.transport.close(linger: true)
        for _ in 0..<20 {
          try await world.sleep(.milliseconds(500))
          if far.inputEnd != nil, far.end == nil { far.transport.close(linger: true) }
        }
        #expect(world.wrong == nil)
        #expect(far.got == near.sent, "closed after \(delay) ms")
        #expect(far.inputEnd != nil || far.end != nil)
        if delay < 20 { path.0.close(linger: false) }
        if delay < 90 { path.1.close(linger: false) }
        try await world.sleep(.seconds(10))
        #expect(near.transport.isGone && far.transport.isGone)
        let left = world.hosts.flatMap { host in world.hosts.flatMap { host.streams(to: $0) } }
        #expect(left.isEmpty, "streams are left after \(delay) ms")
      }
    }
  }
}
