import NIOCore
import Testing

@testable import P2PDSignaling

private let start = NIODeadline.uptimeNanoseconds(5_000_000_000_000)

@Suite struct LimitsTests {
  @Test("what was seen is known until it is too old to matter, and never forgotten for want of room")
  func seen() {
    func digest(_ n: UInt64) -> SeenFilter.Digest { .init(high: n, low: ~n) }
    var filter = SeenFilter(capacity: 3, retention: .seconds(10))
    #expect((0..<3).allSatisfy { filter.insert(digest($0), at: start) })
    #expect(filter.insert(digest(0), at: start + .seconds(9)) == false)
    #expect(
      filter.insert(digest(9), at: start + .seconds(9)) == false, "full: refused, not remembered in another's place")
    #expect(filter.contains(digest(0), at: start + .seconds(9)) && !filter.contains(digest(9), at: start))
    #expect(filter.insert(digest(9), at: start + .seconds(10)) && filter.count == 1)
  }

  @Test("an answer is sent again when its request comes again, not for copies, three times at most")
  func sentAnswers() throws {
    let key = try #require(SignalKey(bytes: [UInt8](repeating: 1, count: 32)))
    func request(_ n: Int) -> SeenFilter.Digest { .init(high: UInt64(n), low: 0) }
    var answers = SentAnswers()
    answers.keep([1], to: key, [], for: request(1), at: start)
    #expect(answers.again(request(2), at: start + .seconds(1)) == nil)
    #expect(answers.again(request(1), at: start + .milliseconds(100)) == nil, "a copy by another broker")
    #expect(answers.again(request(1), at: start + .seconds(1))?.message == [1])
    #expect(answers.again(request(1), at: start + .milliseconds(1100)) == nil)
    let later = (2...9).compactMap { answers.again(request(1), at: start + .seconds($0)) }
    #expect(later.count == 2, "played again and again")
    for n in 10..<1000 { answers.keep([2], to: key, [], for: request(n), at: start) }
    #expect(answers.count == SentAnswers.capacity)
  }
}

@Suite struct BrokerChoiceTests {
  private let brokers = (0..<8).map { Broker(host: "b\($0).example", port: 8883, tls: true) }

  private func choice(_ key: UInt8 = 1, _ count: Int = 8) throws -> BrokerChoice {
    let key = try #require(SignalKey(bytes: [UInt8](repeating: key, count: 32)))
    return BrokerChoice(Array(brokers.prefix(count)), key: key, inUse: 3, wanted: 2)
  }

  @Test("three are used at first, others by other nodes, and the order of the list does not matter")
  func first() throws {
    var counts: [Broker: Int] = [:]
    for key in 0..<100 as Range<UInt8> {
      var one = try choice(key)
      #expect(one.handle(.start, now: start).count == 3)
      #expect(one.handle(.start, now: start).isEmpty)
      let signalKey = try #require(SignalKey(bytes: [UInt8](repeating: key, count: 32)))
      var other = BrokerChoice(brokers.reversed() + brokers, key: signalKey, inUse: 3, wanted: 2)
      _ = other.handle(.start, now: start)
      #expect(other.active == one.active)
      for broker in one.active { counts[broker, default: 0] += 1 }
    }
    #expect(counts.count == 8 && counts.values.allSatisfy { (15...65).contains($0) })
  }

  @Test("while fewer than two are up, another one is asked every five seconds; the longest dead gives way")
  func grows() throws {
    var one = try choice()
    let first = one.handle(.start, now: start)
    var now = start
    var opened = 3
    #expect(one.handle(.wake, now: now + .seconds(4)).isEmpty)
    while opened < 5 {
      now = try #require(one.nextWake)
      #expect(one.handle(.wake, now: now).count == 1)
      opened += 1
    }
    #expect(now - start == .seconds(10))
    now = try #require(one.nextWake)
    let actions = one.handle(.wake, now: now)
    guard case .open(let oldest) = first[0] else {
      Issue.record("not delivered")
      return
    }
    #expect(actions.count == 2 && actions[0] == .close(oldest))
    let active = one.active
    _ = one.handle(.up(active[0]), now: now)
    _ = one.handle(.up(active[1]), now: now)
    #expect(one.nextWake == nil)
  }

  @Test("an address goes on naming a broker that went away for five minutes")
  func advertised() throws {
    var one = try choice(1, 2)
    _ = one.handle(.start, now: start)
    let (broker, other) = (one.active[0], one.active[1])
    #expect(one.advertised(at: start) == [broker, other], "named from the start")
    _ = one.handle(.down(other), now: start)
    #expect(one.advertised(at: start) == [broker], "the other could not be had")
    _ = one.handle(.up(broker), now: start)
    _ = one.handle(.down(broker), now: start)
    #expect(one.advertised(at: start + .seconds(299)) == [broker])
    let wake = try #require(one.nextWake)
    _ = one.handle(.wake, now: wake)
    #expect(wake - start == .seconds(300) && one.advertised(at: wake).isEmpty && one.nextWake == nil)
  }

  @Test("no broker, no harm")
  func none() throws {
    var one = try choice(1, 0)
    #expect(one.handle(.start, now: start).isEmpty && one.nextWake == nil && one.advertised(at: start).isEmpty)
  }
}
