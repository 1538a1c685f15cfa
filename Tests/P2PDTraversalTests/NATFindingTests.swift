import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Who may send in (RFC 5780 §4.4)")
struct FilteringTestTests {
  private static let server = ep("198.51.100.1:3478")
  private static let other = ep("198.51.100.2:3479")

  /// A router and a server behind which some questions get no answer.
  /// - Parameters:
  ///   - lets: the changes whose answers get in at the fresh port.
  ///   - does: those the server carries out.
  ///   - lost: questions whose answers are lost, however often they are sent again.
  private func verdict(
    _ mapping: NATBehaviour.Mapping = .endpointIndependent, lets: Set<STUNChange> = [],
    does: Set<STUNChange> = [.port, .ip, [.ip, .port], []],
    lost: (FilteringTest.Question) -> Bool = { _ in false }
  ) -> NATBehaviour.Filtering? {
    var test = FilteringTest(server: Self.server, other: Self.other, mapping: mapping)
    #expect(test.handle(.start) == [.bind(Self.server)])
    var actions = test.handle(.bound)
    while !actions.isEmpty {
      var questions: [FilteringTest.Question] = []
      for action in actions {
        if case .finish(let filtering) = action { return filtering }
        if case .ask(let question) = action { questions.append(question) }
      }
      actions = []
      func isHeard(_ question: FilteringTest.Question) -> Bool {
        let isLetIn = question.isControl || question.change.isEmpty || lets.contains(question.change)
        return isLetIn && does.contains(question.change) && !lost(question)
      }
      // Answers come at once, silence is known later.
      for question in questions.filter(isHeard) + questions.filter({ !isHeard($0) }) {
        actions += test.handle(isHeard(question) ? .answered(question) : .silent(question))
      }
    }
    Issue.record("no verdict")
    return nil
  }

  private static let everybody: Set<STUNChange> = [.port, .ip, [.ip, .port]]

  @Test("everybody, hosts spoken to, ports spoken to")
  func classes() {
    #expect(verdict(lets: Self.everybody) == .endpointIndependent)
    #expect(verdict(.none, lets: Self.everybody) == NATBehaviour.Filtering.none)
    #expect(verdict(lets: [.port]) == .addressDependent)
    #expect(verdict(lets: []) == .addressAndPortDependent)
    #expect(verdict(.none, lets: []) == .addressAndPortDependent)
  }

  @Test("questions are for the addresses the answers must come from")
  func questions() {
    var test = FilteringTest(server: Self.server, other: Self.other, mapping: .addressAndPortDependent)
    _ = test.handle(.start)
    let asked = test.handle(.bound).compactMap { action -> String? in
      guard case .ask(let question) = action else { return nil }
      return "\(question.change.rawValue) \(question.from) \(question.isControl)"
    }
    #expect(
      asked == [
        "6 198.51.100.2:3479 false", "4 198.51.100.2:3478 false", "2 198.51.100.1:3479 false",
        "0 198.51.100.1:3478 false",
      ])
  }

  @Test("silence of a server that does not do as it is asked means nothing")
  func control() {
    #expect(verdict(lets: [], does: [[]]) == nil)
    #expect(verdict(lets: [.port], does: [.port, []]) == nil)
    #expect(verdict(lets: Self.everybody, does: [[.ip, .port], []]) == .endpointIndependent)
  }

  @Test("behind a symmetric NAT the control is a plain question")
  func symmetric() {
    #expect(verdict(.addressAndPortDependent, lets: Self.everybody) == .endpointIndependent)
    #expect(verdict(.addressDependent, lets: [.port]) == .addressDependent)
    #expect(verdict(.endpointDependent, lets: []) == .addressAndPortDependent)
  }

  @Test("answers that are lost lead to no stricter verdict behind a symmetric NAT that lets everybody in")
  func lost() {
    let open = Self.everybody
    let mapping = NATBehaviour.Mapping.addressAndPortDependent
    #expect(verdict(mapping, lets: open, lost: { $0.change == [.ip, .port] }) == .endpointIndependent)
    #expect(
      verdict(mapping, lets: open, lost: { !$0.isRepeated && $0.change.contains(.ip) }) == .endpointIndependent,
      "they are asked for again")
    #expect(verdict(mapping, lets: open, lost: { _ in true }) == nil, "the server is gone")
    #expect(verdict(mapping, lets: open, lost: { $0.isRepeated || $0.change.contains(.ip) }) == nil)
    #expect(verdict(mapping, lets: [.port], lost: { $0.change == [] }) == nil, "nothing to compare silence with")
  }

  @Test("nor elsewhere")
  func lostElsewhere() {
    #expect(
      verdict(lets: Self.everybody, lost: { !$0.isControl && !$0.isRepeated && $0.change.contains(.ip) })
        == .endpointIndependent)
    #expect(verdict(lets: [.port], lost: { $0.isControl }) == nil)
    #expect(verdict(lets: [.port], lost: { $0.isControl && $0.isRepeated }) == nil)
  }

  @Test("a server that is gone")
  func failed() {
    var test = FilteringTest(server: Self.server, other: Self.other, mapping: .endpointIndependent)
    _ = test.handle(.start)
    #expect(test.handle(.failed) == [.finish(nil)])
    #expect(test.handle(.bound).isEmpty)
  }
}

@Suite("How outside ports follow")
struct PortAllocationTests {
  private func allocation(_ outside: [Int], inside: [Int]? = nil) -> String? {
    let inside = inside ?? [41000, 52013, 33891, 47771, 59001, 36100, 44444, 50505]
    return PortAllocation(
      zip(inside, outside).map { .init(inside: UInt16($0), outside: UInt16($1)) })?.description
  }
  private let inside = [41000, 52013, 33891, 47771, 59001, 36100, 44444, 50505]

  @Test("patterns")
  func patterns() {
    #expect(allocation(inside) == "preserve")
    #expect(allocation(inside.map { $0 + 5000 }) == "offset+5000")
    #expect(allocation(inside.map { $0 - 7 }) == "offset-7")
    #expect(allocation(inside.map { 1024 + ($0 - 1024 + 7000) % 64512 }) == "offset+7000")
    #expect(allocation([20000, 20001, 20002, 20003, 20004, 20005, 20006, 20007]) == "seq+1")
    #expect(allocation([20000, 19997, 19994, 19991, 19988, 19985, 19982, 19979]) == "seq-3")
    #expect(allocation([3102, 60211, 1044, 33333, 9871, 45000, 22222, 50001]) == "random")
  }

  @Test("other users of a router disturb some steps, a taken port one preservation")
  func disturbed() {
    #expect(allocation([20000, 20002, 20004, 20010, 20012, 20014, 20016, 20030]) == "seq+2")
    var taken = inside
    taken[3] = 61000
    #expect(allocation(taken) == "preserve")
    #expect(
      allocation([20000, 20100, 20200, 20300, 20400, 20500, 20600, 20700]) == "random", "a step of 100 is no step")
    #expect(allocation([20000, 20000, 20000, 20000, 20000]) == "random")
  }

  @Test("too few say nothing; the range is what was seen")
  func few() {
    #expect(allocation([1, 2, 3]) == nil)
    #expect(PortAllocation([]) == nil)
    let samples = [35001, 35900, 35444, 35100, 35777].map { PortAllocation.Sample(inside: 5000, outside: $0) }
    #expect(PortAllocation(samples) == .random(range: 35001...35900))
  }
}

@Suite("Hairpin")
struct HairpinTestTests {
  @Test("heard with the outside or the inside address, or not at all")
  func verdicts() {
    var outside = HairpinTest(outside: [ep("203.0.113.9:1").ip], roundTrip: .milliseconds(40))
    #expect(outside.handle(.start, now: at(0)) == [.send, .wait(until: at(100))])
    #expect(outside.handle(.heard(from: ep("203.0.113.9:77")), now: at(1)) == [.finish(.externalSource)])
    #expect(outside.handle(.timer, now: at(100)).isEmpty)
    var inside = HairpinTest(outside: [ep("203.0.113.9:1").ip], roundTrip: .zero)
    _ = inside.handle(.start, now: at(0))
    #expect(inside.handle(.heard(from: ep("192.168.1.10:77")), now: at(1)) == [.finish(.internalSource)])
    var silent = HairpinTest(outside: [], roundTrip: .milliseconds(300))
    var now: Int64 = 0
    var sent = 0
    var actions = silent.handle(.start, now: at(0))
    while case .wait(let until)? = actions.last {
      sent += 1
      now = (until - at(0)).nanoseconds / 1_000_000
      actions = silent.handle(.timer, now: until)
    }
    #expect(actions == [.finish(.no)] && sent == 4 && now == 3 * 300 + 600)
  }
}

@Suite("The report in P2PD's numbers and in words")
struct NATReportTests {
  private func report(
    _ mapping: NATBehaviour.Mapping?, _ filtering: NATBehaviour.Filtering?, _ reach: NATBehaviour.Reach? = .answered
  ) -> NATReport {
    var report = NATReport(interface: "eth0", family: .v4, local: ep("192.168.1.10:0").ip)
    report.udp.reach = reach
    report.udp.mapping = mapping
    report.udp.filtering = filtering
    return report
  }

  @Test("types 1 to 7, and 0 for what is not known")
  func types() {
    #expect(report(NATBehaviour.Mapping.none, NATBehaviour.Filtering.none).p2pdType == 1)
    #expect(report(NATBehaviour.Mapping.none, .addressAndPortDependent).p2pdType == 2)
    #expect(report(.endpointIndependent, .endpointIndependent).p2pdType == 3)
    #expect(report(.endpointIndependent, .addressDependent).p2pdType == 4)
    #expect(report(.endpointIndependent, .addressAndPortDependent).p2pdType == 5)
    #expect(report(.endpointIndependent, nil).p2pdType == 5, "the strictest until it is known")
    #expect(report(.addressDependent, .endpointIndependent).p2pdType == 6)
    #expect(report(.endpointDependent, nil).p2pdType == 6)
    #expect(report(nil, nil, .blocked).p2pdType == 7)
    #expect(report(nil, nil, .silent).p2pdType == 0)
    #expect(report(nil, nil, nil).p2pdType == 0)
    #expect(report(nil, nil).p2pdType == 0, "one server answered")
    #expect(report(NATBehaviour.Mapping.none, nil).p2pdType == 0, "open or firewall: not known yet")
  }

  @Test("deltas")
  func deltas() {
    var report = report(.endpointIndependent, nil)
    #expect(report.p2pdDelta == (0, 0))
    report.udp.allocation = .preserving
    #expect(report.p2pdDelta == (2, 0))
    report.udp.allocation = .offset(-7)
    #expect(report.p2pdDelta == (3, -7))
    report.udp.allocation = .sequential(step: 2, range: 1...9)
    #expect(report.p2pdDelta == (4, 2))
    report.udp.allocation = .random(range: 1...9)
    #expect(report.p2pdDelta == (6, 0))
  }

  @Test("words name what follows for peers, and unknown is not no")
  func words() {
    var symmetric = report(.addressAndPortDependent, .addressAndPortDependent)
    symmetric.udp.allocation = .random(range: 1...9)
    #expect(symmetric.sentences.joined().contains("will mostly need a relay"))
    #expect(report(nil, nil, .silent).sentences.joined().contains("no way to the Internet"))
    #expect(report(nil, nil, nil).sentences == ["Not measured yet."])
    #expect(report(nil, nil).sentences.joined().contains("not known"))
    var blocked = report(nil, nil, .blocked)
    blocked.tcp.reach = .answered
    blocked.tcp.mapping = .endpointIndependent
    #expect(blocked.sentences.joined().contains("UDP is blocked"))
  }
}
