import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// Always the same number: pauses that a test can reckon.
struct Steady: RandomNumberGenerator {
  /// The least of any range. 0 itself would be thrown away and asked for again, without end.
  var value: UInt64 = 1 << 36
  mutating func next() -> UInt64 { value }
}

/// A plan and its clock.
private struct PlanStepper {
  var plan: PunchPlan
  var generator = Steady()

  init(_ own: PunchSide.Path, _ peer: PunchSide.Path, start: Int64 = 100, used: Int = 0) {
    plan = PunchPlan(own: PunchSide([own]), peer: PunchSide([peer]), at: at(start), used: used)
  }

  mutating func callAsFunction(_ event: PunchPlan.Event, _ time: Int64) -> [PunchPlan.Action] {
    plan.handle(event, now: at(time), using: &generator)
  }
}

private func pair(_ port: Int, _ to: String) -> PunchPlan.Pair { .init(path: 0, port: port, to: ep(to)) }

@Suite("The plan of a hole punch")
struct PunchPlanTests {
  private let restricted = RouterKind.all[4]

  @Test("two ports a side: pairs at 0, 80 and 250 ms after the start, one socket each")
  func schedule() {
    var step = PlanStepper(restricted.path("203.0.113.1"), restricted.path("203.0.113.2"))
    #expect(step(.start, 40) == [.wait(until: at(100))])
    #expect(step(.timer, 100) == [.dial(pair(0, "203.0.113.2:20000")), .wait(until: at(180))])
    #expect(step(.timer, 180) == [.dial(pair(1, "203.0.113.2:20001")), .wait(until: at(350))])
    #expect(
      step(.timer, 350) == [
        .dial(pair(0, "203.0.113.2:20001")), .dial(pair(1, "203.0.113.2:20000")), .wait(until: at(5_100)),
      ])
    #expect(step(.timer, 4_000) == [.wait(until: at(5_100))])
    #expect(step(.timer, 5_100) == [.end])
    #expect(step(.timer, 5_200) == [])
    #expect(step.plan.attempts.map(\.attempt.seen) == Array(repeating: .silent, count: 4))
    #expect(step.plan.attempts.map(\.attempt.first.nanoseconds) == [0, 80_000_000, 250_000_000, 250_000_000])
  }

  @Test("both sides dial the same pairs at the same times", arguments: RouterKind.all)
  func symmetry(_ a: RouterKind) {
    for b in RouterKind.all {
      let one = a.path("203.0.113.1")
      let two = b.path("203.0.113.2")
      guard PunchRule(own: one, peer: two).dials, PunchRule(own: two, peer: one).dials else { continue }
      func dials(_ own: PunchSide.Path, _ peer: PunchSide.Path) -> [String] {
        var step = PlanStepper(own, peer)
        return [100, 180, 350].flatMap { time in
          step(time == 100 ? .start : .timer, time).compactMap { action in
            guard case .dial(let pair) = action else { return nil }
            let place = peer.ports.firstIndex { $0.endpoints.contains(pair.to) } ?? -1
            return "\(time): \(min(pair.port, place))-\(max(pair.port, place))"
          }
        }
      }
      #expect(Set(dials(one, two)) == Set(dials(two, one)), "\(a) and \(b)")
    }
  }

  @Test("the n-th port of a row meets the n-th of the other, and used ones are left out on both sides")
  func rows() {
    let row = RouterKind.all[9]
    func dialled(used: Int) -> [Endpoint] {
      var step = PlanStepper(row.path("203.0.113.1"), row.path("203.0.113.2"), used: used)
      return step(.start, 100).compactMap { if case .dial(let pair) = $0 { pair.to } else { nil } }
    }
    #expect(dialled(used: 0).map(\.port) == [20_001, 20_002, 20_003, 20_004, 20_005, 20_006])
    #expect(dialled(used: 2).map(\.port) == [20_003, 20_004, 20_005, 20_006])
    // Further on than was told: there is nothing better than the whole row.
    #expect(dialled(used: 6).count == 6)
    // Against a router that keeps its port all of the row may be it.
    var step = PlanStepper(restricted.path("203.0.113.1"), row.path("203.0.113.2"), used: 2)
    #expect(step(.start, 100).count == 7)
  }

  @Test("a refused pair is dialled again after a pause that chance chooses; a silent one never")
  func retries() {
    var step = PlanStepper(restricted.path("203.0.113.1", ports: 1), restricted.path("203.0.113.2", ports: 1))
    let only = pair(0, "203.0.113.2:20000")
    #expect(step(.start, 100) == [.dial(only), .wait(until: at(5_100))])
    #expect(step(.timer, 1_000) == [.wait(until: at(5_100))])
    #expect(step(.failed(only, .refused), 1_140) == [.wait(until: at(1_150))])
    step.generator.value = .max
    #expect(step(.timer, 1_150) == [.dial(only), .wait(until: at(5_100))])
    #expect(step(.failed(only, .unreachable), 1_200) == [.wait(until: at(1_290))])
    #expect(step(.timer, 1_290).first == .dial(only))
    #expect(step.plan.attempts[0].attempt.count == 3)
    // What was said about another try of it does not count.
    #expect(step(.failed(pair(1, "203.0.113.2:1"), .refused), 1_300) == [])
  }

  @Test("who is refused again and again asks less often, and not for ever")
  func bounds() {
    var step = PlanStepper(restricted.path("203.0.113.1", ports: 1), RouterKind.all[9].path("203.0.113.2"))
    var time: Int64 = 100
    var dials = 0
    var actions = step(.start, time)
    while !actions.contains(.end), time < 6_000 {
      time += 1
      let dialled = actions.compactMap { if case .dial(let pair) = $0 { pair } else { nil } }
      dials += dialled.count
      actions = step(.timer, time)
      for pair in dialled { actions += step(.failed(pair, .refused), time) }
    }
    #expect(time <= 5_100)
    #expect(dials <= PunchPlan.mostRetries + 6)
    #expect(dials > 100)
  }

  @Test("another socket on the pair, or ourselves: not again; with nothing left it ends at once")
  func stops() {
    var step = PlanStepper(restricted.path("203.0.113.1", ports: 1), restricted.path("203.0.113.2", ports: 1))
    let only = pair(0, "203.0.113.2:20000")
    #expect(step(.start, 100).first == .dial(only))
    #expect(step(.failed(only, .taken), 101) == [.end])
    #expect(step.plan.attempts[0].attempt.seen == .taken)
  }

  @Test("after a connection the other pairs wait until it can have been proven, and go on if it was not")
  func connected() {
    var step = PlanStepper(restricted.path("203.0.113.1"), restricted.path("203.0.113.2"))
    #expect(step(.start, 100).first == .dial(pair(0, "203.0.113.2:20000")))
    #expect(step(.connected(pair(0, "203.0.113.2:20000")), 140) == [.wait(until: at(640))])
    #expect(step(.timer, 350) == [.wait(until: at(640))])
    #expect(step(.timer, 640).count == 4)
    // All connected: the ports stay until the proof, or the end.
    for (port, to) in [(1, 20_001), (0, 20_001), (1, 20_000)] {
      #expect(step(.connected(pair(port, "203.0.113.2:\(to)")), 700) == [.wait(until: at(5_100))])
    }
  }

  @Test("impossible: it ends at once and says why")
  func impossible() {
    let symmetric = RouterKind.all[8]
    var step = PlanStepper(symmetric.path("203.0.113.1"), symmetric.path("203.0.113.2"))
    #expect(step.plan.verdict.isImpossible)
    #expect(step(.start, 40) == [.end])
    #expect(step.plan.attempts.isEmpty)
  }

  @Test("a listener where the peer comes from a port nobody knows; our SYN opens the router for its address")
  func listening() {
    var open = PlanStepper(RouterKind.all[2].path("203.0.113.1"), RouterKind.all[8].path("203.0.113.2"))
    #expect(open(.start, 100) == [.listen(path: 0, port: 0), .listen(path: 0, port: 1), .wait(until: at(5_100))])
    var byAddress = PlanStepper(RouterKind.all[3].path("203.0.113.1"), RouterKind.all[8].path("203.0.113.2"))
    let actions = byAddress(.start, 100)
    #expect(actions.prefix(2) == [.listen(path: 0, port: 0), .listen(path: 0, port: 1)])
    #expect(actions.dropFirst(2).first == .dial(pair(0, "203.0.113.2:20000")))
  }

  @Test("our own mapping is never dialled")
  func itself() {
    var own = restricted.path("203.0.113.1", ports: 1)
    var peer = own
    own.hairpin = .externalSource
    peer.ports = [PunchSide.Port([ep("203.0.113.1:20000")])]
    var step = PlanStepper(own, peer)
    #expect(step(.start, 100) == [.end])
  }

  @Test("a start that is past: what is due is dialled at once, in its order")
  func late() {
    var step = PlanStepper(restricted.path("203.0.113.1"), restricted.path("203.0.113.2"), start: 0)
    #expect(
      step(.start, 300) == [
        .dial(pair(0, "203.0.113.2:20000")), .dial(pair(1, "203.0.113.2:20001")),
        .dial(pair(0, "203.0.113.2:20001")), .dial(pair(1, "203.0.113.2:20000")), .wait(until: at(5_000)),
      ])
    var over = PlanStepper(restricted.path("203.0.113.1"), restricted.path("203.0.113.2"), start: 0)
    #expect(over(.start, 5_000) == [.end])
  }
}
