import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Keeping a port open, in a network of memory")
struct PortMapperTests {
  private func mapper(_ house: Household, _ index: Int = 0, memory: PortMappingMemory = .init()) -> PortMapper {
    let mapper = PortMapper(ports: [.init(.tcp, 4000)], memory: memory, on: house.hosts[index].loop)
    mapper.update(house.snapshot(house.hosts[index]))
    return mapper
  }

  @Test("PCP: one round trip to the router, told once, gone when closed")
  func pcp() async throws {
    try await Household.play { house in
      let began = house.time.now
      let mapper = PortMapper(ports: [.init(.tcp, 4000)], on: house.hosts[0].loop)
      let first = house.router.host.loop.makePromise(of: NIODeadline.self)
      mapper.changed = { [unowned mapper] in if !mapper.mappings.isEmpty { first.succeed(house.time.now) } }
      mapper.update(house.snapshot(house.hosts[0]))
      #expect(try await first.futureResult.get() - began == .milliseconds(4))
      let mapping = try #require(mapper.mappings.first)
      #expect(mapping.external == ep("203.0.113.5:4000") && mapping.by == .pcp && mapping.lifetime == .seconds(7200))
      #expect(mapping.trust == .unverified && mapper.external(of: ep("192.168.1.10:0").ip) == mapping.external)
      try await mapper.settled().get()
      #expect(house.time.now - began == .milliseconds(250))
      let finding = try #require(mapper.findings.first)
      #expect(finding.answers == [.pcp: .granted, .natpmp: .answered, .upnp: .silent] && finding.isSettled)
      #expect(house.router.table.keys.sorted() == [4000])
      let closing = house.time.now
      try await mapper.close().get()
      #expect(house.time.now - closing == .milliseconds(4) && house.router.table.isEmpty)
      #expect(house.time.timerCount == 0, "a timer is left")
    }
  }

  @Test("a router that speaks NAT-PMP alone")
  func natpmp() async throws {
    try await Household.play { house in
      house.router.speaksPCP = false
      let mapper = mapper(house)
      try await mapper.settled().get()
      #expect(mapper.mappings.first?.by == .natpmp && house.router.table[4000]?.nonce == nil)
      #expect(mapper.findings.first?.answers[.pcp] == .refused("the router speaks NAT-PMP only"))
      try await mapper.close().get()
      #expect(house.router.table.isEmpty)
    }
  }

  @Test("nobody answers: known after 2.2 s, and the end waits for nobody")
  func silence() async throws {
    try await Household.play { house in
      (house.router.speaksPCP, house.router.speaksNATPMP) = (false, false)
      let began = house.time.now
      let mapper = mapper(house)
      try await mapper.settled().get()
      #expect(house.time.now - began == .milliseconds(2200) && mapper.mappings.isEmpty)
      #expect(mapper.findings.first?.answers == [.pcp: .silent, .natpmp: .silent, .upnp: .silent])
      let closing = house.time.now
      try await mapper.close().get()
      #expect(house.time.now == closing)
    }
  }

  @Test("a day: renewed in time, never lost")
  func day() async throws {
    try await Household.play { house in
      let mapper = mapper(house)
      try await house.pass(.hours(24))
      #expect(house.router.table.count == 1 && mapper.mappings.count == 1)
      let renewals = house.router.heard.filter { $0 == "pcp 7200" }.count
      #expect((19...25).contains(renewals), "\(renewals) requests in a day")
      try await mapper.close().get()
    }
  }

  @Test("the router restarts and has forgotten everything: back within minutes")
  func restart() async throws {
    try await Household.play { house in
      let mapper = mapper(house)
      try await house.pass(.minutes(20))
      house.router.restart()
      #expect(house.router.table.isEmpty)
      try await house.pass(.minutes(5))
      #expect(house.router.table[4000] != nil && mapper.mappings.count == 1)
      try await mapper.close().get()
    }
  }

  @Test("a router that says it has restarted, and says it very often: asked again once, within five seconds")
  func announced() async throws {
    try await Household.play { house in
      let mapper = mapper(house)
      try await house.pass(.minutes(1))
      house.router.restart(announced: true)
      try await house.pass(.seconds(6))
      #expect(house.router.table[4000] != nil && house.router.heard.filter { $0 == "pcp 7200" }.count == 2)
      try await mapper.close().get()
    }
  }

  @Test("killed and started anew: the same mapping, found by its nonce; without the memory another protocol helps")
  func memory() async throws {
    try await Household.play { house in
      house.router.speaksNATPMP = true
      let first = mapper(house)
      try await first.settled().get()
      let nonce = house.router.table[4000]?.nonce
      // As after a crash: nothing was removed.
      let second = mapper(house, memory: PortMappingMemory(text: first.memory.text))
      try await second.settled().get()
      #expect(house.router.table.keys.sorted() == [4000] && house.router.table[4000]?.nonce == nonce)
      #expect(second.mappings.first?.by == .pcp)
      let third = mapper(house)
      try await third.settled().get()
      #expect(third.mappings.first?.by == .natpmp)
      try await first.close().and(second.close()).and(third.close()).map { _ in }.get()
    }
  }

  @Test("after a clean end the same outside port is asked for again")
  func samePort() async throws {
    try await Household.play(hosts: 2) { house in
      let other = mapper(house, 1)
      try await other.settled().get()
      let first = mapper(house)
      try await first.settled().get()
      #expect(first.mappings.first?.external.port == 4001, "two hosts want the same port: one gets another")
      #expect(other.mappings.first?.external.port == 4000)
      try await first.close().and(other.close()).map { _ in }.get()
      let again = mapper(house, memory: first.memory)
      try await again.settled().get()
      #expect(again.mappings.first?.external.port == 4001)
      try await again.close().get()
    }
  }

  @Test("IPv6: a hole is asked for from the very address, at the link-local router")
  func pinhole() async throws {
    try await Household.play { house in
      let mapper = PortMapper(ports: [.init(.tcp, 4000)], on: house.hosts[0].loop)
      mapper.update(house.snapshot(house.hosts[0], gateway: nil, six: "fe80::1"))
      try await mapper.settled().get()
      let mapping = try #require(mapper.mappings.first)
      #expect(mapping.external == ep("[2001:db8::10]:4000") && mapping.path.family == .v6 && mapping.isTrusted)
      #expect(mapper.findings.first?.answers[.natpmp] == nil)
      try await mapper.close().get()
      #expect(house.router.table.isEmpty)
    }
  }

  @Test("what STUN says decides whether others are told")
  func trust() async throws {
    try await Household.play { house in
      let mapper = mapper(house)
      try await mapper.settled().get()
      let local = ep("192.168.1.10:0").ip
      func learn(_ outside: String) -> PortMapping? {
        var report = NATReport(interface: "eth0", family: .v4, local: local)
        report.udp.reach = .answered
        report.udp.mapped = [ep(outside)]
        mapper.learn([report])
        return mapper.mappings.first
      }
      #expect(learn("203.0.113.5:777")?.trust == .verified)
      let contradicted = learn("198.51.100.9:777")
      #expect(contradicted?.trust == .contradicted(by: ep("198.51.100.9:0").ip))
      #expect(contradicted?.distrust?.contains("198.51.100.9") == true && mapper.external(of: local) == nil)
      try await mapper.close().get()
    }
  }

  @Test("an outside address that is private, of a carrier, or none is not told to anybody")
  func privateOutside() async throws {
    for outside in ["192.168.178.20", "100.64.3.2", "10.1.1.1", "0.0.0.0", "127.0.0.1", "224.0.0.1"] {
      try await Household.play { house in
        house.router.outside = ep("\(outside):0").ip
        let mapper = mapper(house)
        try await mapper.settled().get()
        #expect(mapper.mappings.count == 1 && mapper.mappings.first?.isTrusted == false)
        #expect(mapper.external(of: ep("192.168.1.10:0").ip) == nil && mapper.mappings.first?.distrust != nil)
        try await mapper.close().get()
      }
    }
  }

  @Test("another router: the old one is told goodbye, the new one is asked")
  func moved() async throws {
    try await Household.play { house in
      let two = FakeRouter(house.net.addHost("two", addresses: ["192.168.1.2"].compactMap { IPAddress($0) }))
      two.outside = ep("203.0.113.77:0").ip
      try await two.start().get()
      let mapper = mapper(house)
      try await mapper.settled().get()
      mapper.update(house.snapshot(house.hosts[0], gateway: "192.168.1.2"))
      try await mapper.settled().get()
      #expect(mapper.mappings.map(\.external) == [ep("203.0.113.77:4000")] && house.router.table.isEmpty)
      mapper.update(NetworkSnapshot())
      #expect(mapper.mappings.isEmpty && mapper.findings.isEmpty)
      try await mapper.close().get()
      #expect(two.table.isEmpty)
    }
  }

  @Test("garbage, and answers of others than the router, are nothing")
  func garbage() async throws {
    try await Household.play(hosts: 2) { house in
      for bytes in [[UInt8](repeating: 0xff, count: 1400), hex("0282"), hex("0081"), [UInt8](repeating: 0, count: 64)] {
        house.router.garbage = bytes
        let mapper = mapper(house)
        try await house.pass(.seconds(3))
        #expect(mapper.mappings.isEmpty)
        try await mapper.close().get()
      }
      // What the router answers to the last goodbye is still on its way.
      try await house.pass(.seconds(1))
      #expect(house.time.timerCount == 0)
    }
  }

  @Test("an answer that is lost is asked for again")
  func loss() async throws {
    try await Household.play { house in
      house.net.change(house.router.host, house.hosts[0]) { $0.loss = 0.6 }
      let mapper = mapper(house)
      try await house.pass(.minutes(2))
      #expect(mapper.mappings.count == 1)
      try await mapper.close().get()
    }
  }
}

@Suite("Which routers are asked")
struct PortMappingPathTests {
  private func paths(_ ips: [(String, InterfaceAddress.Flags)], four: String?, six: String? = nil) -> [String] {
    let interface = NetworkInterface(
      name: "eth0", index: 2,
      addresses: ips.compactMap { text, flags in
        IPAddress(text).map { InterfaceAddress(ip: $0, prefixLength: $0.family == .v4 ? 24 : 64, flags: flags) }
      })
    var routes: [AddressFamily: DefaultRoute] = [:]
    if let four { routes[.v4] = DefaultRoute(family: .v4, interfaceIndex: 2, gateway: IPAddress(four)) }
    if let six { routes[.v6] = DefaultRoute(family: .v6, interfaceIndex: 2, gateway: IPAddress(six)) }
    return PortMapper.paths(NetworkSnapshot(interfaces: [interface], defaultRoutes: routes)).map(\.description)
  }

  @Test("the private address on the router's link; a public one is not translated; without a router nobody is asked")
  func four() {
    #expect(
      paths([("10.9.9.9", []), ("192.168.1.5", [])], four: "192.168.1.1") == ["eth0 192.168.1.5 by 192.168.1.1"])
    #expect(paths([("203.0.113.9", [])], four: "203.0.113.1") == [])
    #expect(paths([("192.168.1.5", [])], four: nil) == [])
  }

  @Test("of IPv6 addresses the global, stable ones")
  func six() {
    let all: [(String, InterfaceAddress.Flags)] = [
      ("fe80::5", []), ("fd00::5", []), ("2001:db8::1", .temporary), ("2001:db8::2", .deprecated), ("2001:db8::3", []),
    ]
    #expect(paths(all, four: nil, six: "2001:db8::ff") == ["eth0 2001:db8::3 by 2001:db8::ff"])
    #expect(paths(Array(all.prefix(3)), four: nil, six: "2001:db8::ff") == ["eth0 2001:db8::1 by 2001:db8::ff"])
  }
}
