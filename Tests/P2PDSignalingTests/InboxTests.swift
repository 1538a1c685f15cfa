import NIOCore
import Testing

@testable import P2PDSignaling

@Suite struct InboxTests {
  private let alice: SignalIdentity
  private let bob: SignalIdentity
  private let start = NIODeadline.uptimeNanoseconds(5_000_000_000_000)
  private let clock: UInt32 = 1_000_000

  init() throws {
    alice = try identity(1)
    bob = try identity(2)
  }

  private func seal(
    _ payload: [UInt8] = [1], from sender: SignalIdentity? = nil, kind: SignalContent.Kind = .message,
    issued: UInt32? = nil, gate: Gate? = nil
  ) throws -> [UInt8] {
    try SealedMessage.seal(
      SignalContent(kind: kind, payload: payload), from: sender ?? alice, to: bob.key, issued: issued ?? clock,
      lifetime: 30, gate: gate ?? Gate(of: bob.key))
  }

  private func inbox(_ change: (inout SignalingConf) -> Void = { _ in }) -> Inbox {
    var conf = SignalingConf()
    change(&conf)
    return Inbox(bob, conf, at: start)
  }

  @Test("the first copy is delivered, every later one is not, in whatever order they come")
  func copies() throws {
    var inbox = inbox()
    let messages = try (0..<10).map { try seal([$0]) }
    var got: [[UInt8]] = []
    for bytes in (messages + messages + messages).shuffled() {
      if case .message(_, let payload) = inbox.receive(bytes, now: start, clock: clock) { got.append(payload) }
    }
    #expect(Set(got) == Set((0..<10).map { [$0] }) && got.count == 10)
    #expect(inbox.stats[.duplicate] == 20 && inbox.stats.delivered == 10 && inbox.stats.received == 30)
  }

  @Test("a message wrapped anew by somebody who knows the node's id is still the same message")
  func rewrapped() throws {
    var inbox = inbox()
    let gate = Gate(of: bob.key)
    let bytes = try seal()
    let inner = try #require(gate.open(bytes))
    guard case .message = inbox.receive(bytes, now: start, clock: clock) else {
      Issue.record("not delivered")
      return
    }
    // Sealed sizes only: the wrapping itself keeps the length.
    #expect(inbox.receive(try gate.close(inner), now: start, clock: clock).isRepeated)
  }

  @Test("a message lives from its making to its end, by clocks that differ by a minute at most")
  func age() throws {
    let bytes = try seal()
    for (difference, verdict) in [(-61, SignalStats.Refusal.early), (-60, nil), (0, nil), (90, nil), (91, .expired)] {
      var inbox = inbox()
      let result = inbox.receive(bytes, now: start, clock: UInt32(Int64(clock) + Int64(difference)))
      if let verdict {
        #expect(result == .refused(verdict))
      } else {
        #expect(result == .message(from: alice.key, payload: [1]), "\(difference)")
      }
    }
    var inbox = inbox()
    #expect(inbox.receive(try seal(issued: .max), now: start, clock: 0) == .refused(.early))
    #expect(inbox.receive(try seal(issued: 0), now: start, clock: .max) == .refused(.expired))
  }

  @Test("a message is remembered for as long as it can be played again")
  func memory() throws {
    var inbox = inbox()
    // As early as can be, played again as late as can be.
    let bytes = try SealedMessage.seal(
      SignalContent(kind: .message, payload: [1]), from: alice, to: bob.key, issued: clock + 60, lifetime: 255,
      gate: Gate(of: bob.key))
    guard case .message = inbox.receive(bytes, now: start, clock: clock) else {
      Issue.record("not delivered")
      return
    }
    // A life of 255 s counts as one of 60.
    let last = Int64(60 + 60 + 60)
    #expect(
      inbox.receive(bytes, now: start + .seconds(last - 1), clock: clock + UInt32(last - 1)).isRepeated)
    #expect(
      inbox.receive(bytes, now: start + .seconds(last + 1), clock: clock + UInt32(last + 1)) == .refused(.expired))
    let fresh = try seal([2], issued: clock + UInt32(last + 1))
    guard case .message = inbox.receive(fresh, now: start + .seconds(last + 1), clock: clock + UInt32(last + 1)) else {
      Issue.record("not delivered")
      return
    }
    #expect(inbox.kept.seen == 1, "the first one is forgotten")
  }

  @Test("junk is refused before any public key is touched")
  func junk() throws {
    var inbox = inbox()
    let other = try identity(9)
    let forOther = try SealedMessage.seal(
      SignalContent(kind: .message, payload: [1]), from: alice, to: other.key, issued: clock, lifetime: 30,
      gate: Gate(of: other.key))
    #expect(inbox.receive(forOther, now: start, clock: clock) == .refused(.junk))
    #expect(inbox.receive([UInt8](repeating: 0, count: 512), now: start, clock: clock) == .refused(.junk))
    for count in [0, 1, 11, 12, 28, 511, 513, 4097, 1 << 20] {
      #expect(inbox.receive([UInt8](repeating: 5, count: count), now: start, clock: clock) == .refused(.form))
    }
    let versionTwo = try Gate(of: bob.key).close([2] + [UInt8](repeating: 0, count: 483))
    #expect(inbox.receive(versionTwo, now: start, clock: clock) == .refused(.version))
    #expect(inbox.kept.seen == 0 && inbox.kept.senders == 0)
  }

  @Test("who knows the node's id can make it open seals at a bounded rate only, and its memory stays bounded")
  func strangers() throws {
    var inbox = inbox {
      $0.strangersPerSecond = 10
      $0.strangersBurst = 5
    }
    let gate = Gate(of: bob.key)
    var verdicts: [SignalStats.Refusal: Int] = [:]
    for n in 0..<1000 as Range<UInt32> {
      var inner = [UInt8](repeating: 3, count: 484)
      inner.replaceSubrange(
        0..<6,
        with: [1, 30, UInt8(clock >> 24 & 255), UInt8(clock >> 16 & 255), UInt8(clock >> 8 & 255), UInt8(clock & 255)])
      inner[10] = UInt8(n & 255)
      inner[11] = UInt8(n >> 8)
      // A hundred a second.
      let now = start + .milliseconds(Int64(n) * 10)
      if case .refused(let why) = inbox.receive(try gate.close(inner), now: now, clock: clock) {
        verdicts[why, default: 0] += 1
      }
    }
    #expect((100...106).contains(verdicts[.forged] ?? 0), "\(verdicts)")
    #expect(verdicts[.busy] == 1000 - (verdicts[.forged] ?? 0))
    #expect(inbox.kept.seen <= 106 && inbox.kept.senders == 0)
  }

  @Test("what the rates let in during the retention always finds room")
  func capacity() throws {
    let conf = SignalingConf()
    #expect(Double(conf.seenCapacity) > 6 * (conf.strangersPerSecond * 180 + conf.strangersBurst))
    #expect(conf.retention >= .seconds(60 + 60 + 60))
  }

  @Test("a flood through one broker leaves the others' budgets alone; brokers of other nodes share one")
  func doors() throws {
    var inbox = inbox {
      $0.strangersPerSecond = 0.001
      $0.strangersBurst = 3
      $0.brokersInUse = 1
    }
    let own = (0..<9).map { Inbox.Door.own(Broker(host: "b\($0)", port: 1, tls: true)) }
    func delivered(_ door: Inbox.Door) throws -> Int {
      var count = 0
      for _ in 0..<5 {
        if case .message = inbox.receive(try seal(), by: door, now: start, clock: clock) { count += 1 }
      }
      return count
    }
    #expect(try delivered(.foreign) == 3)
    for door in own.prefix(3) { #expect(try delivered(door) == 3) }
    #expect(try delivered(own[3]) == 0, "no more budgets than brokers in use, three in reserve")
  }

  @Test("one sender has its own budget")
  func sender() throws {
    var inbox = inbox {
      $0.senderPerSecond = 1
      $0.senderBurst = 3
    }
    var delivered = 0
    for n in 0..<10 as Range<UInt8> {
      if case .message = inbox.receive(try seal([n]), now: start, clock: clock) { delivered += 1 }
    }
    #expect(delivered == 3 && inbox.stats[.sender] == 7)
    let carol = try identity(5)
    #expect(
      inbox.receive(try seal([1], from: carol), now: start, clock: clock)
        == .message(from: carol.key, payload: [1]))
  }

  @Test("an answer is taken from who was asked, once, and no flood of strangers shuts it out")
  func answers() throws {
    var inbox = inbox {
      $0.strangersPerSecond = 0.001
      $0.strangersBurst = 0
      $0.requests = 2
    }
    let secret = [UInt8](repeating: 4, count: 32)
    let gate = Gate(answering: secret)
    let waiting = inbox.expect(secret, from: alice.key)
    let label = try #require(waiting)
    let eve = try identity(6)
    #expect(
      inbox.receive(try seal([1], from: eve, kind: .answer(held: 1), gate: gate), now: start, clock: clock)
        == .refused(.unasked))
    #expect(inbox.receive(try seal([1], gate: gate), now: start, clock: clock) == .refused(.unasked), "no answer")
    let answer = try seal([8], kind: .answer(held: 5000), gate: gate)
    #expect(inbox.receive(answer, now: start, clock: clock) == .answer(label, payload: [8], held: 5000))
    #expect(inbox.receive(answer, now: start, clock: clock) == .refused(.duplicate))
    inbox.forget(label)
    #expect(inbox.receive(answer, now: start, clock: clock) == .refused(.junk))
    _ = inbox.expect([UInt8](repeating: 1, count: 32), from: alice.key)
    _ = inbox.expect([UInt8](repeating: 2, count: 32), from: alice.key)
    #expect(inbox.expect([UInt8](repeating: 3, count: 32), from: alice.key) == nil)
  }

  @Test("whoever was asked can cost four looks at seals, no more")
  func answerTries() throws {
    var inbox = inbox()
    let secret = [UInt8](repeating: 4, count: 32)
    _ = inbox.expect(secret, from: alice.key)
    var verdicts: [Inbox.Verdict] = []
    for n in 0..<6 as Range<UInt8> {
      verdicts.append(inbox.receive(try seal([n], gate: Gate(answering: secret)), now: start, clock: clock))
    }
    #expect(verdicts == [.unasked, .unasked, .unasked, .unasked, .busy, .busy].map { .refused($0) })
  }

  @Test("an answer that nobody asked for is refused at the open gate")
  func unasked() throws {
    var inbox = inbox()
    #expect(inbox.receive(try seal([1], kind: .answer(held: 0)), now: start, clock: clock) == .refused(.unasked))
  }
}

extension Inbox.Verdict {
  fileprivate var isRepeated: Bool { if case .repeated = self { true } else { false } }
}
