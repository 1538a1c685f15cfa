import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// What a responder does, stepped by hand.
@Suite struct LinkResponderTests {
  struct Step {
    var responder: LinkResponder
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var sent: [(time: Int64, message: DNSMessage)] = []
    var answered: [(message: DNSMessage, to: Endpoint)] = []
    var news: [String] = []
    var wake: NIODeadline?
    private let began: NIODeadline

    init(_ service: LocalService, luck: Double = 0.5) throws {
      began = now
      let addresses = [try #require(IPAddress("10.0.0.1")), try #require(IPAddress("fe80::1"))]
      responder = LinkResponder(service, addresses: addresses, now: now) { luck }
      tell(.start)
    }

    mutating func tell(_ event: LinkResponder.Event) {
      for action in responder.handle(event, now: now) {
        switch action {
        case .multicast(let message): sent.append(((now - began).nanoseconds / 1_000_000, message))
        case .unicast(let message, let target): answered.append((message, target))
        case .wait(let time): wake = time
        case .claimed: news.append("claimed")
        case .taken(let key): news.append("taken by \(key?.first ?? 0)")
        }
      }
    }

    mutating func run(_ time: TimeAmount) {
      let end = now + time
      while let wake, wake <= end {
        now = max(now, wake)
        self.wake = nil
        tell(.timer)
      }
      now = end
    }

    /// Hears a question. What was sent before is forgotten.
    mutating func ask(
      _ name: DNSName, _ type: DNSType, from: Endpoint = LinkResponderTests.neighbour,
      _ change: (inout DNSMessage) -> Void = { _ in }
    ) {
      var message = DNSMessage()
      message.questions = [DNSQuestion(name: name, type: type)]
      change(&message)
      (sent, answered) = ([], [])
      tell(.received(message, from: from))
    }

    /// Hears what another says of itself.
    mutating func hear(_ other: LocalService, ttl: UInt32 = 120) {
      var message = DNSMessage()
      message.isResponse = true
      message.answers = LinkRecords(other, addresses: []).entries.map(\.record).filter { $0.name == other.instance }
        .map { $0.lasting(ttl) }
      tell(.received(message, from: LinkResponderTests.neighbour))
    }

    var times: [Int64] { sent.map(\.time) }
    var types: [[String]] { sent.map { $0.message.answers.map(\.type.description) } }
  }

  static let neighbour = Endpoint(ip: IPAddress(family: .v4, high: 0x0a00_0002 << 32, low: 0), port: 5353)
  static let resolver = Endpoint(ip: neighbour.ip, port: 40_000)

  static func service(_ first: UInt8 = 1, value: String = "p2pd1abc", port: UInt16 = 7000) throws -> LocalService {
    try LocalService(label: "example", key: [first] + [UInt8](repeating: 9, count: 31), value: value, port: port)
  }

  private func owner(_ first: UInt8 = 1) throws -> Step {
    var step = try Step(Self.service(first))
    step.run(.seconds(10))
    return step
  }

  @Test("three probes a quarter of a second apart, then it is ours and told twice")
  func claim() throws {
    var step = try Step(Self.service())
    step.run(.seconds(10))
    #expect(step.times == [125, 375, 625, 875, 1875])
    #expect(step.news == ["claimed"] && step.responder.phase == .owned && step.wake == nil)
    let probe = step.sent[0].message
    #expect(probe.questions.map(\.type) == [.any] && !probe.questions[0].wantsUnicast && !probe.isResponse)
    #expect(probe.authorities.map(\.type) == [.srv, .txt] && probe.authorities.allSatisfy { !$0.isUnique })
    let told = step.sent[3].message
    #expect(told.isResponse && told.isAuthoritative && told.id == 0 && told.questions.isEmpty)
    #expect(told.answers.map(\.type) == [.ptr, .ptr, .srv, .txt, .a, .aaaa])
    #expect(told.answers.map(\.isUnique) == [false, false, true, true, true, true])
  }

  @Test("a name that another key answers for while we ask is taken; the same key is ourselves")
  func taken() throws {
    var step = try Step(Self.service(1))
    step.run(.milliseconds(300))
    step.hear(try Self.service(1, value: "an older one"))
    step.hear(try LocalService(label: "other", key: [UInt8](repeating: 3, count: 32), value: "", port: 1))
    #expect(step.news.isEmpty)
    step.hear(try Self.service(2))
    #expect(step.news == ["taken by 2"] && step.responder.phase == .taken)
    step.sent = []
    step.run(.seconds(59))
    #expect(step.sent.isEmpty)
    // It asks again, and now nobody minds.
    step.run(.seconds(5))
    #expect(step.news == ["taken by 2", "claimed"] && step.sent.count == 5)
  }

  @Test("a taken name that is given back is ours soon")
  func goodbyeOfOther() throws {
    var step = try Step(Self.service(1))
    step.run(.milliseconds(200))
    step.hear(try Self.service(2))
    step.hear(try Self.service(2), ttl: 0)
    step.run(.seconds(3))
    #expect(step.news == ["taken by 2", "claimed"])
  }

  @Test("of two that ask at once the later in the order of bytes goes on; the other waits, and then finds it taken")
  func tie() throws {
    // The same port and nearly the same text: the greater key is in the host's name and in the text.
    var (low, high) = (try Step(Self.service(1)), try Step(Self.service(200)))
    low.run(.milliseconds(130))
    high.run(.milliseconds(130))
    let (one, other) = (low.sent[0].message, high.sent[0].message)
    low.tell(.received(other, from: Self.neighbour))
    high.tell(.received(one, from: Self.neighbour))
    // Both hear themselves as well.
    low.tell(.received(one, from: Self.neighbour))
    high.tell(.received(other, from: Self.neighbour))
    let sides = [low, high].map { $0.responder.phase }
    #expect(Set(sides) == [.probing(0), .probing(1)])
    var (winner, loser) = sides[0] == .probing(1) ? (low, high) : (high, low)
    winner.run(.seconds(2))
    #expect(winner.news == ["claimed"])
    loser.sent = []
    loser.run(.milliseconds(1010))
    let again = try #require(loser.sent.first?.message)
    winner.sent = []
    winner.tell(.received(again, from: Self.neighbour))
    winner.run(.seconds(1))
    let defence = try #require(winner.sent.first?.message)
    loser.tell(.received(defence, from: Self.neighbour))
    #expect(loser.news.first?.hasPrefix("taken by") == true)
  }

  @Test("a name of ours that another answers for is asked for again; who answers keeps it")
  func conflict() throws {
    var step = try owner()
    step.sent = []
    step.hear(try Self.service(2))
    // The same by the other family is not an answer to what was not asked yet.
    step.hear(try Self.service(2))
    #expect(step.responder.phase == .probing(0))
    step.run(.milliseconds(130))
    #expect(step.sent.first?.message.authorities.isEmpty == false)
    step.hear(try Self.service(2))
    #expect(step.news == ["claimed", "taken by 2"])
    // Without an answer it stays ours.
    step = try owner()
    step.hear(try Self.service(2))
    step.run(.seconds(5))
    #expect(step.news == ["claimed", "claimed"])
  }

  @Test("a name that is contested without end costs three probes each 0.75 s")
  func contested() throws {
    var step = try owner()
    let began = step.now
    step.sent = []
    for _ in 0..<40 {
      step.hear(try Self.service(2))
      step.run(.milliseconds(5))
      while !step.responder.isOwner { step.run(.milliseconds(5)) }
    }
    #expect(step.now - began >= .seconds(30))
    #expect(step.sent.filter { !$0.message.isResponse }.count == 120)
  }

  @Test("who asks for the text gets it at once, with the address of the host, and not twice in a second")
  func answers() throws {
    let service = try Self.service()
    var step = try owner()
    step.ask(service.instance, .txt)
    #expect(step.types == [["TXT"]] && step.sent[0].message.additionals.map(\.type) == [.a, .aaaa])
    step.ask(service.instance, .txt)
    #expect(step.sent.isEmpty)
    step.run(.seconds(2))
    #expect(step.types == [["TXT"]], "delayed, and sent once")
    step.ask(service.instance, .any)
    #expect(step.types.flatMap { $0 }.sorted() == ["SRV", "TXT"] || step.types == [["SRV"]])
    step.run(.seconds(2))
    step.ask(service.host, .aaaa)
    #expect(step.types == [["AAAA"]])
    step.ask(try #require(DNSName("other._p2pd._udp.local")), .txt)
    #expect(step.sent.isEmpty && step.wake == nil)
    step.run(.seconds(2))
    step.ask(service.instance, .txt) { $0.questions[0].rawClass = 3 }
    step.ask(service.instance, .txt) { $0.flags |= 0x0800 }
    #expect(step.sent.isEmpty)
  }

  @Test("what a name does not have is said too")
  func negative() throws {
    let service = try Self.service()
    var step = try owner()
    step.ask(service.instance, .aaaa)
    guard case .nsec(_, let types)? = step.sent.first?.message.answers.first?.data else {
      Issue.record("no NSEC")
      return
    }
    #expect(Set(types) == [.txt, .srv])
  }

  @Test("a question that others answer too is answered after 20 to 120 ms, by those who are not known yet")
  func browsing() throws {
    let service = try Self.service()
    var step = try owner()
    step.ask(LocalService.type, .ptr)
    #expect(step.sent.isEmpty)
    let asked = step.now
    #expect(step.wake == asked + .milliseconds(70))
    step.run(.seconds(1))
    #expect(step.types == [["PTR"]])
    #expect(step.sent[0].message.additionals.map(\.type) == [.srv, .txt, .a, .aaaa])
    let known = { (ttl: UInt32) in DNSRecord(name: LocalService.type, ttl: ttl, data: .ptr(service.instance)) }
    step.run(.seconds(2))
    step.ask(LocalService.type, .ptr) { $0.answers = [known(4000)] }
    step.run(.seconds(1))
    #expect(step.sent.isEmpty)
    step.ask(LocalService.type, .ptr) { $0.answers = [known(2000)] }
    step.run(.seconds(1))
    #expect(step.types == [["PTR"]], "soon forgotten is not known")
    // More known answers follow the question.
    step.run(.seconds(2))
    step.ask(LocalService.type, .ptr) { $0.isTruncated = true }
    #expect(step.wake == step.now + .milliseconds(450))
    var more = DNSMessage()
    more.answers = [known(4500)]
    step.tell(.received(more, from: Self.neighbour))
    step.run(.seconds(1))
    #expect(step.sent.isEmpty)
    step.ask(LocalService.allTypes, .ptr)
    step.run(.seconds(1))
    #expect(step.types == [["PTR"]])
  }

  @Test("an answer that another gave meanwhile is not given again")
  func duplicates() throws {
    var step = try owner()
    step.ask(LocalService.allTypes, .ptr)
    var other = DNSMessage()
    other.isResponse = true
    other.answers = [DNSRecord(name: LocalService.allTypes, ttl: 4500, data: .ptr(LocalService.type))]
    step.tell(.received(other, from: Self.neighbour))
    step.run(.seconds(1))
    #expect(step.sent.isEmpty)
  }

  @Test("a plain resolver gets its own answer, with its number and question, for ten seconds, and not without end")
  func legacy() throws {
    let service = try Self.service()
    var step = try owner()
    step.ask(service.instance, .txt, from: Self.resolver) { $0.id = 99 }
    let (message, target) = try #require(step.answered.first)
    #expect(step.sent.isEmpty && target == Self.resolver && message.id == 99)
    #expect(message.questions == [DNSQuestion(name: service.instance, type: .txt)])
    #expect((message.answers + message.additionals).allSatisfy { $0.ttl <= 10 && !$0.isUnique })
    var count = 0
    for _ in 0..<1000 {
      step.ask(service.instance, .txt, from: Self.resolver)
      count += step.answered.count
    }
    #expect(count < 50)
  }

  @Test("an answer to one alone only while all know it already")
  func unicast() throws {
    let service = try Self.service()
    var step = try owner()
    step.ask(service.instance, .srv) { $0.questions[0].rawClass = 0x8001 }
    #expect(step.answered.count == 1 && step.sent.isEmpty && step.answered[0].message.id == 0)
    step.run(.seconds(60))
    step.ask(service.instance, .srv) { $0.questions[0].rawClass = 0x8001 }
    #expect(step.answered.isEmpty && step.types == [["SRV"]])
  }

  @Test("a new address is told without asking, and goodbye is said once")
  func changes() throws {
    var step = try owner()
    step.sent = []
    step.tell(.changed(try Self.service(value: "p2pd1new")))
    step.run(.seconds(3))
    #expect(step.sent.count == 2 && step.news == ["claimed"])
    let text = step.sent[0].message.answers.compactMap { record -> String? in
      if case .txt(let strings) = record.data { LocalText.read(strings)?.value } else { nil }
    }
    #expect(text == ["p2pd1new"])
    step.sent = []
    step.tell(.addresses([]))
    step.run(.seconds(3))
    #expect(step.types.first == ["PTR", "PTR", "SRV", "TXT"])
    step.sent = []
    step.tell(.stop)
    #expect(step.types == [["PTR", "SRV", "TXT"]] && step.sent[0].message.answers.allSatisfy { $0.ttl == 0 })
    step.tell(.stop)
    step.ask(try Self.service().instance, .txt)
    #expect(step.sent.isEmpty && step.wake == nil)
  }

  @Test("who asks and has not claimed says no goodbye, and answers nothing")
  func notYetOurs() throws {
    var step = try Step(Self.service())
    step.run(.milliseconds(200))
    step.ask(try Self.service().instance, .txt)
    step.tell(.stop)
    #expect(step.sent.isEmpty)
  }

  @Test("the longest address goes out in packets of Ethernet")
  func longest() throws {
    let value = String(repeating: "x", count: 1024)
    let service = try LocalService(
      label: String(repeating: "n", count: 50), key: [UInt8](repeating: 1, count: 32), value: value, port: 1)
    var step = try Step(service)
    step.run(.seconds(10))
    step.ask(LocalService.type, .ptr)
    step.run(.seconds(2))
    #expect(step.sent.allSatisfy { $0.message.bytes.count <= 1452 })
    #expect(step.sent.flatMap { $0.message.answers + $0.message.additionals }.contains { $0.type == .txt })
  }
}
