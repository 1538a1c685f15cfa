import P2PDNet
import Testing

@testable import P2PDTraversal

/// A kind of router: how it maps, filters and gives ports.
struct RouterKind: Sendable, CustomStringConvertible {
  let description: String
  let mapping: NATBehaviour.Mapping
  let filtering: NATBehaviour.Filtering
  var step: Int?

  /// What a home behind one tells, at this address.
  func path(_ ip: String, ports count: Int = 2) -> PunchSide.Path {
    let measured = (0..<count).map { PunchSide.Port([ep("\(ip):\(20_000 + $0)")]) }
    let predicted = step.map { step in
      [PunchSide.Port((1...6).map { ep("\(ip):\(20_000 + step * $0)") }, isPredicted: true)]
    }
    return PunchSide.Path(.v4, mapping: mapping, filtering: filtering, ports: predicted ?? measured)
  }

  static let all: [RouterKind] = [
    .init(description: "public", mapping: .none, filtering: .none),
    .init(description: "firewall", mapping: .none, filtering: .addressAndPortDependent),
    .init(description: "fullcone", mapping: .endpointIndependent, filtering: .endpointIndependent),
    .init(description: "addrrestricted", mapping: .endpointIndependent, filtering: .addressDependent),
    .init(description: "portrestricted", mapping: .endpointIndependent, filtering: .addressAndPortDependent),
    .init(description: "symopen", mapping: .addressAndPortDependent, filtering: .endpointIndependent),
    .init(description: "symadf", mapping: .addressAndPortDependent, filtering: .addressDependent),
    .init(description: "symaddr", mapping: .addressDependent, filtering: .addressAndPortDependent),
    .init(description: "symrandom", mapping: .addressAndPortDependent, filtering: .addressAndPortDependent),
    .init(description: "symseq", mapping: .addressAndPortDependent, filtering: .addressAndPortDependent, step: 1),
  ]
}

@Suite("The rule of hole punching")
struct PunchRuleTests {
  /// Word for word what the laboratory found, for each ordered pair.
  static func theory(_ a: RouterKind, _ b: RouterKind) -> Bool {
    func isOpen(_ kind: RouterKind) -> Bool { kind.filtering == .none || kind.filtering == .endpointIndependent }
    func isKnown(_ kind: RouterKind) -> Bool { kind.mapping.isPredictable || kind.step != nil }
    if isOpen(a) || isOpen(b) || (isKnown(a) && isKnown(b)) { return true }
    return isKnown(a) && a.filtering == .addressDependent || isKnown(b) && b.filtering == .addressDependent
  }

  @Test("who lets everybody in and has no port to foresee waits for a peer of unknown filtering")
  func openAndUnforeseen() {
    let open = RouterKind.all[5].path("203.0.113.1")
    var peer = RouterKind.all[4].path("203.0.113.2")
    peer.filtering = nil
    let rule = PunchRule(own: open, peer: peer)
    #expect(rule.verdict == .possible && !rule.dials && rule.listens)
    #expect(PunchRule(own: peer, peer: open).dials)
    peer.filtering = .addressDependent
    #expect(PunchRule(own: open, peer: peer).dials)
  }

  @Test("allows what works between two kinds of router, and nothing else", arguments: RouterKind.all)
  func everyPair(_ a: RouterKind) {
    for b in RouterKind.all {
      let rule = PunchRule(own: a.path("203.0.113.1"), peer: b.path("203.0.113.2"))
      let other = PunchRule(own: b.path("203.0.113.2"), peer: a.path("203.0.113.1"))
      let expected = Self.theory(a, b)
      #expect((rule.verdict == .possible) == expected, "\(a) and \(b): \(rule.verdict)")
      #expect((other.verdict == .possible) == expected, "\(b) and \(a): \(other.verdict)")
      if expected {
        #expect(rule.dials || other.dials, "\(a) and \(b): nobody dials")
        // Who is not dialled at the port it comes from needs a listener at the other side.
        #expect(rule.dials || rule.listens, "\(a) does nothing towards \(b)")
        #expect(other.dials || other.listens, "\(b) does nothing towards \(a)")
      } else {
        #expect(!rule.dials && !rule.listens && rule.verdict.reason?.isEmpty == false)
      }
    }
  }

  @Test("says who is in the way")
  func reasons() {
    func reason(_ a: String, _ b: String) -> String? {
      guard let own = RouterKind.all.first(where: { $0.description == a }),
        let peer = RouterKind.all.first(where: { $0.description == b })
      else { return nil }
      return PunchRule(own: own.path("203.0.113.1"), peer: peer.path("203.0.113.2")).verdict.reason
    }
    #expect(reason("symrandom", "symrandom")?.hasPrefix("both routers use another port for each peer") == true)
    #expect(reason("symrandom", "portrestricted")?.hasPrefix("our router uses another port") == true)
    #expect(reason("portrestricted", "symrandom")?.hasPrefix("the peer's router uses another port") == true)
    #expect(reason("portrestricted", "linux") == nil)
  }

  @Test("a listener is there only for SYNs that no connecting socket answers")
  func listeners() {
    func listens(_ a: String, _ b: String) -> Bool? {
      guard let own = RouterKind.all.first(where: { $0.description == a }),
        let peer = RouterKind.all.first(where: { $0.description == b })
      else { return nil }
      return PunchRule(own: own.path("203.0.113.1"), peer: peer.path("203.0.113.2")).listens
    }
    #expect(listens("portrestricted", "portrestricted") == false)
    #expect(listens("portrestricted", "symseq") == false)
    #expect(listens("fullcone", "portrestricted") == false)
    #expect(listens("fullcone", "symrandom") == true)
    #expect(listens("addrrestricted", "symrandom") == true)
    #expect(listens("public", "portrestricted") == true)
    // Its own SYN would come from a port that the peer lets nothing in from.
    #expect(listens("symopen", "portrestricted") == true)
  }

  @Test("unknown is not no, but two unknown ports are")
  func unknown() {
    var vague = RouterKind.all[4].path("203.0.113.1")
    vague.mapping = nil
    let known = RouterKind.all[4].path("203.0.113.2")
    guard case .uncertain(let doubt) = PunchRule(own: vague, peer: known).verdict else {
      Issue.record("\(PunchRule(own: vague, peer: known).verdict)")
      return
    }
    #expect(doubt == "how our router maps ports was not found out")
    var unfiltered = RouterKind.all[4].path("203.0.113.1")
    unfiltered.filtering = nil
    let symmetric = RouterKind.all[8].path("203.0.113.2")
    let rule = PunchRule(own: unfiltered, peer: symmetric)
    #expect(rule.verdict == .uncertain("whom our router lets in was not found out"))
    #expect(rule.dials && rule.listens)
    var both = symmetric
    both.filtering = nil
    #expect(PunchRule(own: both, peer: RouterKind.all[8].path("203.0.113.9")).verdict.isImpossible)
  }

  @Test("one outside address: this host, or one router with or without hairpin")
  func sameOutside() {
    let host = RouterKind.all[0].path("203.0.113.1")
    #expect(PunchRule(own: host, peer: host).verdict == .impossible("the peer is this host"))
    var one = RouterKind.all[4].path("203.0.113.1")
    var two = RouterKind.all[4].path("203.0.113.1")
    two.ports = [PunchSide.Port([ep("203.0.113.1:30000")])]
    guard case .uncertain = PunchRule(own: one, peer: two).verdict else {
      Issue.record("hairpin unknown: \(PunchRule(own: one, peer: two).verdict)")
      return
    }
    one.hairpin = .no
    #expect(PunchRule(own: one, peer: two).verdict.isImpossible)
    #expect(PunchRule(own: two, peer: one).verdict.isImpossible)
    one.hairpin = .internalSource
    #expect(PunchRule(own: one, peer: two).verdict == .possible)
    #expect(PunchRule(own: one, peer: two).listens)
  }

  @Test("ways of both families, and none in common")
  func families() {
    let four = RouterKind.all[4].path("203.0.113.1")
    let six = PunchSide.Path(
      .v6, mapping: NATBehaviour.Mapping.none, filtering: .addressAndPortDependent,
      ports: [PunchSide.Port([ep("[2001:db8::1]:20000")])])
    #expect(
      PunchRule.verdict(own: PunchSide([four]), peer: PunchSide([six]))
        == .impossible("we have IPv4 only and the peer has IPv6 only"))
    var far = six
    far.ports = [PunchSide.Port([ep("[2001:db8::2]:20000")])]
    let symmetric = RouterKind.all[8].path("203.0.113.9")
    #expect(PunchRule.verdict(own: PunchSide([four, six]), peer: PunchSide([symmetric, far])) == .possible)
    #expect(PunchRule.verdict(own: PunchSide(), peer: PunchSide([four])).isImpossible)
    // The same pairs from both ends.
    let many = PunchSide([four, four, six, four])
    let few = PunchSide([six, four])
    let there = PunchRule.pairs(many, few).map { "\($0.own)-\($0.peer)" }
    let back = PunchRule.pairs(few, many).map { "\($0.peer)-\($0.own)" }
    #expect(Set(there) == Set(back) && there.count == 4)
  }

  @Test("of what a stranger tells only what can be meant is believed, and not too much of it")
  func believing() {
    let own = PunchSide([RouterKind.all[4].path("203.0.113.1")])
    let places = [
      "0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5", "127.0.0.1:22", "192.168.1.1:80", "100.64.0.1:80",
      "203.0.113.2:0", "[2001:db8::1]:5", "203.0.113.2:5",
    ].map(ep)
    let path = PunchSide.Path(.v4, ports: places.map { PunchSide.Port([$0]) })
    #expect(PunchSide([path]).believed(by: own).paths.flatMap(\.endpoints) == [])
    let one = PunchSide.Path(.v4, ports: [PunchSide.Port(Array(places.suffix(8)))])
    #expect(PunchSide([one]).believed(by: own).paths.flatMap(\.endpoints) == [ep("203.0.113.2:5")])
    let many = PunchSide.Path(
      .v4, ports: (0..<50).map { _ in PunchSide.Port((1..<50).map { ep("203.0.113.2:\($0)") }) })
    let believed = PunchSide(Array(repeating: many, count: 50)).believed(by: own)
    #expect(believed.paths.count == PunchSide.mostPaths)
    #expect(believed.paths[0].ports.count == PunchSide.mostPorts)
    #expect(believed.paths[0].ports[0].endpoints.count == PunchSide.mostEndpoints)
    // Where we are seen at a private address ourselves, the two share that network.
    let inside = PunchSide([RouterKind.all[4].path("10.0.0.1")])
    let near = PunchSide([PunchSide.Path(.v4, ports: [PunchSide.Port([ep("10.0.0.2:5"), ep("127.0.0.1:5")])])])
    #expect(near.believed(by: inside).paths[0].endpoints == [ep("10.0.0.2:5")])
    // Not where theirs is another one, nor where it is IPv4 in IPv6's clothes, nor this machine by any address of it.
    let carrier = PunchSide([RouterKind.all[4].path("100.64.0.9")])
    let homes = ["192.168.1.1:80", "10.0.0.1:80", "100.127.0.1:80", "172.16.0.1:80", "240.0.0.1:80", "0.1.2.3:80"].map(
      ep)
    func told(_ family: AddressFamily, _ places: [Endpoint]) -> PunchSide {
      PunchSide([PunchSide.Path(family, ports: [PunchSide.Port(places)])])
    }
    #expect(told(.v4, homes).believed(by: carrier).paths[0].endpoints == [ep("100.127.0.1:80")])
    let far = PunchSide([RouterKind.all[4].path("2001:db8::9")])
    let clothed = ["[::ffff:127.0.0.1]:22", "[::ffff:192.168.1.1]:80", "[fd00::1]:80", "[::1]:22", "[2001:db8::2]:5"]
    #expect(told(.v6, clothed.map(ep)).believed(by: far).paths[0].endpoints == [ep("[2001:db8::2]:5")])
    let hosts = ["203.0.113.1:25", "203.0.113.2:5"].map(ep)
    #expect(told(.v4, hosts).believed(by: own, except: [hosts[0].ip]).paths[0].endpoints == [hosts[1]])
  }
}
