import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Whom to believe about the time")
struct ClockVoteTests {
  private func reading(_ offset: Int64, _ error: Int64) -> ClockReading {
    ClockReading(offset: .ms(offset), error: .ms(error), roundTrip: .ms(2 * error))
  }

  private static let votes: [([(Int64, Int64)], Int, [Int])] = [
    ([(0, 20)], 0, []), ([(0, 20), (5, 3)], 1, []), ([(3_600_000, 1), (0, 20), (5, 10)], 2, [0]),
    ([(0, 20), (30, 20), (60, 20)], 0, [2]), ([(0, 5), (1, 5), (2, 5), (500, 5), (-500, 5)], 0, [3, 4]),
    // A liar that claims to know nothing exactly convinces nobody.
    ([(0, 5), (1, 4), (900, 950)], 1, []),
  ]

  @Test("most agree: the most exact of those counts, and who lies is named", arguments: ClockVoteTests.votes)
  func majority(_ given: [(Int64, Int64)], _ best: Int, _ doubted: [Int]) throws {
    let readings = given.map { reading($0.0, $0.1) }
    let vote = try #require(ClockVote.count(readings))
    #expect(vote.best == readings[best] && vote.doubted == doubted)
  }

  @Test("no majority, no time")
  func none() {
    #expect(ClockVote.count([]) == nil)
    #expect(ClockVote.count([reading(0, 5), reading(100, 5)]) == nil)
    #expect(ClockVote.count([reading(0, 5), reading(1, 5), reading(100, 5), reading(101, 5)]) == nil)
  }
}

@Suite("Asking time servers, step by step")
struct ClockQueryTests {
  /// Steps a query. The server's clock is `offset` ahead of ours; nothing takes any time but what is said.
  private final class Play {
    var query: ClockQuery
    let clock = NTPTimestamp(unixNanoseconds: 1_700_000_000_000_000_000)
    var now = at(1000)
    var sent: [(packet: NTPPacket, to: Int, at: NIODeadline)] = []
    var report: ClockReport?
    var wait: NIODeadline?

    init(_ servers: Int, patience: TimeAmount = .seconds(5)) {
      query = ClockQuery((0..<servers).map { "s\($0)" }, clock: clock, now: at(1000), patience: patience) {
        .random(in: 1...UInt64.max)
      }
      handle(.start)
    }

    func handle(_ event: ClockQuery.Event) {
      for action in query.handle(event, now: now) {
        switch action {
        case .send(let packet, let index): sent.append((packet, index, now))
        case .wait(let time): wait = time
        case .finish(let report):
          #expect(self.report == nil)
          self.report = report
        }
      }
    }

    func open(_ indices: Int...) { for index in indices { handle(.opened(index)) } }

    /// Lets time pass to the moment the query waits for.
    func pass() {
      guard let wait else { return }
      now = max(now, wait)
      handle(.timer)
    }

    /// The answer to the last question to a server: it takes `there` and `back`, and the server is ahead by `offset`.
    func answer(
      _ index: Int, there: Int64 = 5, back: Int64 = 5, offset: Int64 = 0, _ spoil: (inout NTPPacket) -> Void = { _ in }
    ) {
      guard let question = sent.last(where: { $0.to == index }) else { return }
      let arrival = clock.advanced(by: question.at - at(1000) + .ms(there + offset))
      var packet = FakeTimeServer.answer(to: question.packet, at: arrival)
      spoil(&packet)
      now = max(now, question.at + .ms(there + back))
      handle(.received(packet, from: index))
    }
  }

  @Test("one round trip where all is well: the offset, and how far it may be off")
  func simple() throws {
    let play = Play(1)
    play.open(0)
    play.answer(0, there: 10, back: 20, offset: 7000)
    let reading = try #require(play.report?.reading)
    #expect(abs(reading.offset.nanoseconds - TimeAmount.ms(6995).nanoseconds) < 1000, "\(reading.offset)")
    #expect(abs(reading.roundTrip.nanoseconds - TimeAmount.ms(30).nanoseconds) < 1000)
    // Half of the round trip and of the server's own, and its dispersion.
    #expect(reading.error > .ms(20) && reading.error < .ms(22))
    #expect(reading.error > .ms(7000) - reading.offset, "the truth is within it")
    #expect(play.report?.servers[0].stratum == 2 && play.report?.servers[0].problem == nil && play.sent.count == 1)
  }

  @Test("the answer that travelled least counts, and each question has a number of its own")
  func best() throws {
    let play = Play(1)
    play.open(0)
    play.answer(0, there: 200, back: 10)
    #expect(play.report == nil, "too inexact to be enough")
    play.pass()
    play.answer(0, there: 90, back: 30)
    play.pass()
    play.answer(0, there: 300, back: 300)
    let report = try #require(play.report)
    #expect(report.reading?.roundTrip ?? .zero < .ms(121))
    #expect(Set(play.sent.map(\.packet.transmit)).count == 3 && play.sent.map(\.at) == [at(1000), at(3000), at(5000)])
  }

  @Test("a lost question is asked again; three are enough")
  func lost() {
    let play = Play(2)
    play.open(0, 1)
    play.answer(0)
    for _ in 0..<5 where play.report == nil { play.pass() }
    #expect(play.sent.filter { $0.to == 1 }.map(\.at) == [at(1000), at(2000), at(3000)] && play.now == at(4000))
    #expect(play.report?.reading != nil && play.report?.servers[1].problem == "no answer")
  }

  @Test("a late answer to an earlier question is as good")
  func late() {
    let play = Play(1)
    play.open(0)
    let first = play.sent[0].packet
    play.pass()
    #expect(play.sent.count == 2)
    play.now = at(2080)
    play.handle(.received(FakeTimeServer.answer(to: first, at: play.clock.advanced(by: .ms(1040))), from: 0))
    #expect(play.report?.servers[0].reading.map { abs($0.offset.nanoseconds - 500_000_000) < 1000 } ?? true)
    play.answer(0)
    #expect(play.report?.reading != nil)
  }

  @Test("an answer that nobody asked for, or that comes twice, is nothing")
  func strangers() {
    let play = Play(1)
    play.open(0)
    play.answer(0) { $0.origin.bits ^= 1 }
    play.answer(0) { $0.origin.bits = 0 }
    play.handle(.received(NTPPacket(.server), from: 7))
    #expect(play.report == nil)
    play.answer(0, there: 200, back: 200)
    play.answer(0, there: 1, back: 1, offset: 99)
    #expect(play.report == nil, "the second is no answer to anything")
  }

  private static let spoiled: [(String, @Sendable (inout NTPPacket) -> Void)] = [
    ("wants to be asked less often", { ($0.stratum, $0.referenceID) = (0, 0x5241_5445) }),
    ("refuses this host", { ($0.stratum, $0.referenceID) = (0, 0x4445_4e59) }),
    ("wants not to be asked (XXXX)", { ($0.stratum, $0.referenceID) = (0, 0x5858_5858) }),
    ("does not know the time itself", { ($0.stratum, $0.referenceID) = (0, 1) }),
    ("does not know the time itself", { $0.leap = 3 }), ("does not know the time itself", { $0.stratum = 16 }),
    ("does not know the time itself", { $0.rootDispersion.bits = 65536 }),
    ("does not know the time itself", { $0.rootDelay.bits = .max }),
    ("does not know the time itself", { $0.transmit.bits = 0 }),
    ("answers, but not as an NTP server", { $0.mode = .client }),
    ("answers, but not as an NTP server", { $0.version = 1 }),
    ("tells impossible times", { $0.transmit = $0.receive.advanced(by: .seconds(-1)) }),
    ("tells impossible times", { $0.transmit = $0.receive.advanced(by: .seconds(1)) }),
    ("tells impossible times", { $0.transmit = $0.receive.advanced(by: .seconds(1 << 31)) }),
  ]

  @Test("what cannot be used is said", arguments: ClockQueryTests.spoiled)
  func faults(_ problem: String, _ spoil: @escaping @Sendable (inout NTPPacket) -> Void) {
    let play = Play(1)
    play.open(0)
    play.answer(0, spoil)
    #expect(play.report?.reading == nil && play.report?.servers[0].problem == problem)
    #expect(play.sent.count == 1, "it is not asked again")
  }

  @Test("a kiss of death ends the questions, and what the server said before holds")
  func kissLater() {
    let play = Play(1)
    play.open(0)
    play.answer(0, there: 100, back: 100)
    play.pass()
    play.answer(0) { ($0.stratum, $0.referenceID) = (0, 0x5241_5445) }
    #expect(
      play.report?.reading?.roundTrip == play.report?.servers[0].reading?.roundTrip && play.report?.reading != nil)
  }

  @Test("one of three lies, and is outvoted at once; of two neither is believed")
  func liars() {
    let three = Play(3)
    three.open(0, 1, 2)
    three.answer(1, offset: 3_600_000)
    three.answer(0)
    #expect(three.report == nil, "one against one")
    three.answer(2)
    #expect(three.report?.reading.map { abs($0.offset.nanoseconds) < 1_000_000 } == true)
    #expect(three.report?.servers.map(\.problem) == [nil, "contradicts the other servers", nil])
    let two = Play(2)
    two.open(0, 1)
    two.answer(0)
    two.answer(1, offset: 3_600_000)
    for _ in 0..<8 where two.report == nil { two.pass() }
    #expect(two.report != nil && two.report?.reading == nil)
    #expect(throws: NetError.self) { try two.report?.get() }
  }

  @Test("it ends in time, whatever the servers do; who was not heard of is said to be late")
  func patience() {
    let play = Play(2, patience: .milliseconds(1500))
    play.handle(.failed(0, "its name has no address"))
    play.pass()
    play.pass()
    #expect(play.now == at(2500) && play.report?.reading == nil)
    #expect(play.report?.servers.map(\.problem) == ["its name has no address", "no answer yet"])
    play.open(1)
    #expect(play.sent.isEmpty, "it is over")
    #expect(Play(0).report != nil)
  }
}
