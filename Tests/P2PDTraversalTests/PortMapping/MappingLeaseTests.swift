import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// A lease, and a clock that the test sets. Luck is always in the middle.
final class Stepper {
  var lease: MappingLease
  var now: Int64 = 0
  var due: Int64?

  init(_ local: String = "192.168.1.10:0", port: UInt16 = 4000, suggested: Endpoint? = nil) {
    lease = MappingLease(
      .init(local: ep(local).ip, transport: .tcp, port: port), suggested: suggested, random: { 0.5 })
  }

  /// As it is now, to go another way.
  func copy() -> Stepper {
    let other = Stepper()
    (other.lease, other.now, other.due) = (lease, now, due)
    return other
  }

  /// What it does, but for the times it waits for and the notes.
  func on(_ event: MappingLease.Event, at time: Int64? = nil) -> [MappingLease.Action] {
    all(event, at: time).filter { if case .noted = $0 { false } else { true } }
  }

  func all(_ event: MappingLease.Event, at time: Int64? = nil) -> [MappingLease.Action] {
    now = time ?? now
    return lease.handle(event, now: P2PDTraversalTests.at(now)).filter {
      if case .wait(let until) = $0 {
        due = (until - P2PDTraversalTests.at(0)).nanoseconds / 1_000_000
        return false
      }
      return true
    }
  }

  /// Lets the time pass until the next thing it does by itself.
  func wait() -> [MappingLease.Action] { on(.timer, at: due) }

  /// Everything it does by itself up to that time.
  func pass(until end: Int64) -> [MappingLease.Action] {
    var done: [MappingLease.Action] = []
    while let due, due <= end, !lease.isOver { done += wait() }
    now = end
    return done
  }

  func pcp(
    _ result: PCPResult = .success, _ external: String = "203.0.113.5:4000", lifetime: UInt32 = 7200, epoch: UInt32 = 10
  ) -> MappingLease.Event {
    .pcp(
      PCPResponse(
        result, lifetime: lifetime, epoch: epoch,
        operation: .map(
          PCPMap(nonce: lease.nonce, transport: 6, internalPort: lease.want.port, external: ep(external)))))
  }

  func announce(epoch: UInt32) -> MappingLease.Event {
    .pcp(PCPResponse(.success, lifetime: 0, epoch: epoch, operation: .announce))
  }

  func address(_ ip: String = "203.0.113.5:0", epoch: UInt32 = 10) -> MappingLease.Event {
    .natpmp(NATPMPResponse(.success, epoch: epoch, content: .address(ep(ip).ip)))
  }

  func mapped(_ port: UInt16 = 4000, lifetime: UInt32 = 7200, epoch: UInt32 = 10) -> MappingLease.Event {
    .natpmp(
      NATPMPResponse(
        .success, epoch: epoch,
        content: .map(.tcp, internalPort: lease.want.port, externalPort: port, lifetime: lifetime)))
  }

  func refused(_ result: NATPMPResult, _ opcode: UInt8, epoch: UInt32 = 10) -> MappingLease.Event {
    .natpmp(NATPMPResponse(result, epoch: epoch, content: .refused(opcode)))
  }

  func upnp(_ external: String = "203.0.113.5:4000", lifetime: TimeAmount? = .seconds(7200)) -> MappingLease.Event {
    .upnpGranted(.init(by: .upnp, external: ep(external), lifetime: lifetime))
  }
}

extension MappingLease.Action {
  /// "pcp map 7200 4000", "natpmp address", ...: short enough to compare at a glance.
  var word: String {
    switch self {
    case .pcp(let request):
      switch request.operation {
      case .announce: "pcp announce"
      case .map(let map): "pcp map \(request.lifetime) \(map.external.port)"
      }
    case .natpmp(.address): "natpmp address"
    case .natpmp(.map(_, _, let port, let lifetime)): "natpmp map \(lifetime) \(port)"
    case .search: "search"
    case .addUPnP(let port): "add \(port)"
    case .removeUPnP(let grant): "remove \(grant.external.port)"
    case .wait: "wait"
    case .granted(let grant): "granted \(grant.by.rawValue) \(grant.external)"
    case .lost: "lost"
    case .noted(let name, let answer): "\(name.rawValue) \(answer)"
    case .settled: "settled"
    case .over: "over"
    }
  }
}

extension [MappingLease.Action] {
  var words: [String] { map(\.word) }
}

@Suite("The race for a mapping, stepped by hand")
struct MappingRaceTests {
  @Test("all three are asked at once; PCP's answer wins at once")
  func pcpWins() {
    let it = Stepper()
    #expect(it.on(.start).words == ["pcp map 7200 4000", "natpmp address", "search"])
    #expect(it.on(it.pcp(), at: 8).words == ["granted pcp 203.0.113.5:4000"])
    // What the others say is only noted.
    #expect(it.all(it.address(), at: 9).words == ["natpmp answered"])
    #expect(it.pass(until: 300).words == ["settled"])
  }

  @Test("over IPv6 there is no NAT-PMP")
  func six() {
    let it = Stepper("[2001:db8::5]:0")
    #expect(it.on(.start).words == ["pcp map 7200 4000", "search"])
  }

  @Test("NAT-PMP waits 50 ms for PCP, which may still win")
  func grace() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(it.address(), at: 10) == [])
    #expect(it.due == 60)
    let other = it.copy()
    #expect(it.wait().words == ["natpmp map 7200 4000"])
    #expect(it.on(it.mapped(4001), at: 70).words == ["granted natpmp 203.0.113.5:4001"])
    #expect(other.on(other.pcp(), at: 40).words == ["granted pcp 203.0.113.5:4000"])
  }

  @Test("a router that answers PCP with version 0 is given to NAT-PMP at once")
  func versionZero() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(it.address(), at: 5) == [])
    #expect(it.on(it.refused(.unsupportedVersion, 1), at: 6).words == ["natpmp map 7200 4000"])
  }

  @Test("UPnP gets the task 50 ms after it is found, at 250 ms at the latest")
  func upnp() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(.upnpReady, at: 100) == [] && it.due == 150)
    #expect(it.wait().words == ["add 4000"])
    #expect(it.on(it.upnp(), at: 170).words == ["granted upnp 203.0.113.5:4000"])

    let late = Stepper()
    _ = late.on(.start)
    _ = late.on(.upnpReady, at: 230)
    #expect(late.due == 250 && late.wait().words == ["natpmp address", "add 4000"])
  }

  @Test("a PCP server that is slower than the rest takes over, and UPnP's other port is given back")
  func late() {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.on(.upnpReady, at: 60)
    _ = it.pass(until: 120)
    _ = it.on(it.upnp("203.0.113.5:4002"), at: 150)
    #expect(it.on(it.pcp(), at: 400).words == ["remove 4002", "granted pcp 203.0.113.5:4000"])
  }

  @Test("ADDRESS_MISMATCH: the next protocol is asked")
  func mismatch() {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.on(it.address(), at: 5)
    let done = it.all(it.pcp(.addressMismatch), at: 6)
    #expect(done.words.last == "natpmp map 7200 4000")
    #expect(done.first == .noted(.pcp, .refused(PCPResult.addressMismatch.words)))
  }

  @Test("PCP is repeated after 3 s and 6 s, NAT-PMP after 250 ms and doubling, the search each second, twice")
  func retransmission() {
    let it = Stepper()
    _ = it.on(.start)
    var times: [String: [Int64]] = [:]
    while let due = it.due, due < 70_000, !it.lease.isOver {
      for word in it.wait().words { times[String(word.split(separator: " ")[0]), default: []].append(due) }
    }
    #expect(times["pcp"] == [3000, 9000, 21_000, 45_000])
    #expect(times["natpmp"] == [250, 750, 1750, 3750, 7750, 15_750, 31_750, 63_750])
    #expect(times["search"] == [1000, 2000])
    #expect(times["settled"] == [2200])
  }

  @Test("silence is given up after 64 s and tried again 5 minutes later, then less often")
  func silence() {
    let it = Stepper()
    _ = it.on(.start)
    _ = it.pass(until: 64_000)
    let first = it.due ?? 0
    #expect((300_000...345_000).contains(first - 64_000))
    #expect(it.wait().words == ["pcp map 7200 4000", "natpmp address", "search"])
    _ = it.pass(until: first + 64_000)
    #expect((it.due ?? 0) - first - 64_000 > 600_000)
  }

  @Test("all refuse: settled at once, tried again after the time that the refusal stands, a minute at least")
  func allRefuse() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(it.pcp(.noResources, lifetime: 5), at: 5) == [])
    #expect(it.on(it.refused(.outOfResources, 0), at: 6) == [])
    #expect(it.on(.upnpUnfit("no"), at: 7).words == ["settled"])
    #expect((60_000...70_000).contains(it.due ?? 0))
  }

  @Test("answers that nobody asked for, or of another mapping, are nothing")
  func strangers() {
    let it = Stepper()
    _ = it.on(.start)
    let other = PCPMap(nonce: .random(), transport: 6, internalPort: 4000, external: ep("6.6.6.6:6"))
    #expect(it.on(.pcp(PCPResponse(.success, lifetime: 60, epoch: 1, operation: .map(other))), at: 1) == [])
    #expect(it.on(it.mapped(666), at: 2) == [], "no mapping was asked of NAT-PMP yet")
    #expect(it.lease.grant == nil)
    _ = it.on(it.address(), at: 3)
    _ = it.pass(until: 60)
    _ = it.on(it.mapped(4000), at: 61)
    #expect(it.on(it.mapped(666), at: 62) == [], "the answer to the one request is in")
    #expect(it.on(it.address("6.6.6.6:0"), at: 63) == [] && it.lease.grant?.external == ep("203.0.113.5:4000"))
  }

  @Test("a mapping for seconds only is refused")
  func short() {
    let it = Stepper()
    _ = it.on(.start)
    #expect(it.on(it.pcp(lifetime: 3), at: 5) == [] && it.lease.grant == nil)
  }
}
