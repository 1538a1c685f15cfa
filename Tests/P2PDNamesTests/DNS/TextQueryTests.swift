import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// The decisions of a TXT question, stepped by hand.
@Suite struct TextQueryTests {
  private struct Step {
    var query: TextQuery
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var asked: [(DNSMessage, TextQuery.Place)] = []
    var wake: NIODeadline?
    var result: Result<[String], NetError>?

    init(servers: Int = 2, timeout: TimeAmount = .seconds(5)) throws {
      let name = try #require(DNSName("_p2pd.example.org"))
      query = TextQuery(name, servers: (0..<servers).map { "s\($0)" }, now: now, timeout: timeout) { 77 }
      tell(.start)
    }

    mutating func tell(_ event: TextQuery.Event) {
      for action in query.handle(event, now: now) {
        switch action {
        case .ask(let message, let place): asked.append((message, place))
        case .wait(let time): wake = time
        case .finish(let result): self.result = result
        }
      }
    }

    mutating func sleep() throws {
      now = max(now, try #require(wake))
      tell(.timer)
    }

    /// Answers the last question.
    mutating func answer(_ texts: [[String]] = [], _ change: (inout DNSMessage) -> Void = { _ in }) throws {
      let (question, place) = try #require(asked.last)
      var message = question
      message.isResponse = true
      message.additionals = []
      message.answers = texts.map {
        DNSRecord(name: question.questions[0].name, ttl: 60, data: .txt($0.map { Array($0.utf8) }))
      }
      change(&message)
      tell(.received(message, from: place))
    }

    var code: NetError.Code? { if case .failure(let error)? = result { error.code } else { nil } }
    var places: [String] { asked.map { "\($0.1.server)\($0.1.isStream ? "t" : "u")" } }
  }

  @Test("the texts of the answer, the strings of each joined")
  func answer() throws {
    var step = try Step()
    #expect(step.asked.count == 1 && step.asked[0].0.wantsRecursion && step.asked[0].0.additionals.count == 1)
    try step.answer([["p2pd=", "p2pd1abc"], ["v=spf1"]])
    #expect(try step.result?.get() == ["p2pd=p2pd1abc", "v=spf1"])
  }

  @Test("an answer to another question, with another number, or that is a question is nobody's")
  func foreign() throws {
    var step = try Step()
    try step.answer([["lie"]]) { $0.id ^= 1 }
    try step.answer([["lie"]]) { $0.questions[0].type = .a }
    try step.answer([["lie"]]) { $0.questions = [] }
    try step.answer([["lie"]]) { $0.isResponse = false }
    var other = DNSMessage()
    other.isResponse = true
    step.tell(.received(other, from: TextQuery.Place(server: 1)))
    #expect(step.result == nil)
    try step.answer([["truth"]])
    #expect(try step.result?.get() == ["truth"])
  }

  @Test("no such name and no such text are both not found")
  func notFound() throws {
    var step = try Step()
    try step.answer { $0.code = 3 }
    #expect(step.code == .notFound)
    step = try Step()
    try step.answer()
    #expect(step.code == .notFound)
  }

  @Test("a server that fails leaves the turn to the next at once; when all do, the reason is theirs")
  func failing() throws {
    var step = try Step()
    try step.answer { $0.code = 2 }
    #expect(step.places == ["0u", "1u"])
    try step.answer([["found"]])
    #expect(try step.result?.get() == ["found"])
    step = try Step()
    try step.answer { $0.code = 5 }
    try step.answer { $0.code = 5 }
    #expect(step.code == .refused)
    step = try Step()
    try step.answer { $0.code = 5 }
    step.tell(.failed(TextQuery.Place(server: 1), NetError(.unreachable, "ask")))
    #expect(step.code == .dns)
    #expect(try Step(servers: 0).code == .dns)
  }

  @Test("silence: each server twice, more patiently the second time; a late answer counts")
  func silence() throws {
    var step = try Step(timeout: .seconds(20))
    var times: [Int64] = []
    let began = step.now
    while step.result == nil {
      try step.sleep()
      times.append((step.now - began).nanoseconds / 1_000_000)
    }
    #expect(step.places == ["0u", "1u", "0u", "1u"])
    #expect(times == [1500, 3000, 6000, 9000, 20_000])
    #expect(step.code == .timeout)
    #expect(Set(step.asked.map(\.0.id)) == [77])
    step = try Step()
    let first = step.asked
    try step.sleep()
    step.asked = first
    try step.answer([["late"]])
    #expect(try step.result?.get() == ["late"])
  }

  @Test("what does not fit into a datagram is asked for over TCP, and cut off there too is a failure")
  func truncated() throws {
    var step = try Step()
    try step.answer { $0.isTruncated = true }
    #expect(step.places == ["0u", "0t"])
    try step.answer([["long"]])
    #expect(try step.result?.get() == ["long"])
    step = try Step(servers: 1)
    try step.answer { $0.isTruncated = true }
    step.tell(.failed(TextQuery.Place(server: 0, isStream: true), NetError(.refused, "ask")))
    #expect(step.code == .refused)
    step = try Step(servers: 1)
    try step.answer { $0.isTruncated = true }
    try step.answer { $0.isTruncated = true }
    #expect(step.code == .dns)
  }

  @Test("a server of the last century is asked without options, once")
  func oldServer() throws {
    var step = try Step(servers: 1)
    try step.answer {
      $0.code = 1
      $0.questions = []
    }
    #expect(step.asked.count == 2 && step.asked[1].0.additionals.isEmpty)
    try step.answer { $0.code = 1 }
    #expect(step.code == .dns)
  }

  @Test("aliases are followed, not for ever; other names' texts and what is no UTF-8 do not count")
  func aliases() throws {
    let (name, one, two) = (
      try #require(DNSName("_p2pd.example.org")), try #require(DNSName("one.org")), try #require(DNSName("two.org"))
    )
    var step = try Step()
    try step.answer {
      $0.answers = [
        DNSRecord(name: two, ttl: 1, data: .txt([Array("yes".utf8)])),
        DNSRecord(name: two, ttl: 1, data: .txt([[0xff, 0xfe]])),
        DNSRecord(name: DNSName("x.org") ?? two, ttl: 1, data: .txt([Array("no".utf8)])),
        DNSRecord(name: name, ttl: 1, data: .cname(one)), DNSRecord(name: one, ttl: 1, data: .cname(two)),
      ]
    }
    #expect(try step.result?.get() == ["yes"])
    step = try Step()
    try step.answer {
      $0.answers = [
        DNSRecord(name: name, ttl: 1, data: .cname(one)), DNSRecord(name: one, ttl: 1, data: .cname(name)),
      ]
    }
    #expect(step.code == .notFound)
  }
}
