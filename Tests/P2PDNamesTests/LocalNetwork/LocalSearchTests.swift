import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// What a search does, stepped by hand.
@Suite struct LocalSearchTests {
  private struct Step {
    var search: LocalSearch
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var asked: [(time: Int64, message: DNSMessage)] = []
    var wake: NIODeadline?
    var found: [LocalName]?
    private let began: NIODeadline

    init(_ goal: LocalSearch.Goal, timeout: TimeAmount) {
      began = now
      search = LocalSearch(goal, now: now, timeout: timeout)
      tell(.start)
    }

    mutating func tell(_ event: LocalSearch.Event) {
      for action in search.handle(event, now: now) {
        switch action {
        case .ask(let message): asked.append((elapsed, message))
        case .wait(let time): wake = time
        case .finish(let found): self.found = found
        }
      }
    }

    mutating func run(_ time: TimeAmount = .seconds(100)) {
      let end = now + time
      while found == nil, let wake, wake <= end {
        now = max(now, wake)
        tell(.timer)
      }
      if found == nil { now = end }
    }

    mutating func hear(_ records: [DNSRecord], port: UInt16 = 5353, _ change: (inout DNSMessage) -> Void = { _ in }) {
      var message = DNSMessage()
      message.isResponse = true
      message.answers = records
      change(&message)
      let source = Endpoint(ip: LinkResponderTests.neighbour.ip, port: port)
      tell(.received(message, from: source, interface: "eth0"))
    }

    var elapsed: Int64 { (now - began).nanoseconds / 1_000_000 }
  }

  private func text(_ label: String, _ key: UInt8, _ value: String, ttl: UInt32 = 120) throws -> DNSRecord {
    let name = try #require(LocalService.instance(label))
    let strings = LocalText.strings(key: [UInt8](repeating: key, count: 32), value: value)
    return DNSRecord(name: name, rawClass: 0x8001, ttl: ttl, data: .txt(strings))
  }

  private func pointer(_ label: String, ttl: UInt32 = 4500) throws -> DNSRecord {
    DNSRecord(name: LocalService.type, ttl: ttl, data: .ptr(try #require(LocalService.instance(label))))
  }

  private var one: LocalSearch.Goal { get throws { .name(try #require(LocalService.instance("one"))) } }

  @Test("the first answer ends it shortly after; all who answered are told")
  func find() throws {
    var step = Step(try one, timeout: .seconds(5))
    #expect(step.asked[0].message.questions.map(\.type) == [.txt])
    step.run(.milliseconds(30))
    step.hear([try text("One", 1, "a"), try text("two", 3, "c")])
    step.hear([try text("one", 2, "b")])
    step.hear([try text("one", 2, "b")])
    step.run()
    #expect(step.elapsed == 180)
    #expect(step.found?.map(\.value) == ["a", "b"] && step.found?.map { $0.key[0] } == [1, 2])
    #expect(step.found?.first?.interface == "eth0" && step.found?.first?.from == LinkResponderTests.neighbour)
  }

  @Test("silence: asked again after one, three and seven seconds, and nobody found")
  func nobody() throws {
    var step = Step(try one, timeout: .seconds(10))
    step.run()
    #expect(step.asked.map(\.time) == [0, 1000, 3000, 7000] && step.found == [] && step.elapsed == 10_000)
  }

  @Test("what is no answer, comes from another port, or has no key is nothing")
  func rubbish() throws {
    var step = Step(try one, timeout: .seconds(1))
    step.hear([try text("one", 1, "a")], port: 4000)
    step.hear([try text("one", 1, "a")]) { $0.isResponse = false }
    step.hear([try text("one", 1, "a")]) { $0.code = 2 }
    step.hear([DNSRecord(name: try #require(LocalService.instance("one")), ttl: 1, data: .txt([[1]]))])
    step.hear([try text("one", 1, "a", ttl: 0)])
    step.run()
    #expect(step.found == [])
  }

  @Test("who says goodbye is not found")
  func goodbye() throws {
    var step = Step(try one, timeout: .seconds(1))
    step.hear([try text("one", 1, "a"), try text("one", 2, "b")])
    step.hear([try text("one", 1, "x", ttl: 0)])
    step.run()
    #expect(step.found?.map(\.value) == ["b"])
  }

  @Test("browsing asks for the texts that did not come along, and tells what it knows")
  func browse() throws {
    var step = Step(.all, timeout: .seconds(2))
    step.run(.milliseconds(50))
    step.hear([try pointer("one"), try pointer("two"), try pointer("gone"), try text("one", 1, "a")])
    step.hear([try pointer("gone", ttl: 0)])
    step.run(.milliseconds(200))
    #expect(step.asked.count == 2 && step.asked[1].time == 150)
    #expect(
      step.asked[1].message.questions == [DNSQuestion(name: try #require(LocalService.instance("two")), type: .txt)])
    step.run(.milliseconds(1000))
    #expect(step.asked.last?.message.answers == [try pointer("one")])
    step.hear([try text("two", 2, "b")])
    step.run()
    #expect(step.found?.map(\.label) == ["one", "two"] && step.elapsed == 2000)
  }

  @Test("a liar with ten thousand names costs a bounded list")
  func flood() throws {
    var step = Step(.all, timeout: .seconds(5))
    for index in 0..<10_000 { step.hear([try pointer("n\(index)"), try text("t\(index)", 1, "a")]) }
    step.run()
    #expect(step.found?.count == 256)
    #expect(step.asked.allSatisfy { $0.message.bytes.count <= 1452 } && step.asked.count < 10)
  }
}
