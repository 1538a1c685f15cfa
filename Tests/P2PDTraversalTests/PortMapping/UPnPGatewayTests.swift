import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("A UPnP gateway, in a network of memory")
struct UPnPGatewayTests {
  /// A household whose router speaks UPnP alone.
  private func play(
    hosts: Int = 1, six: Bool = false, _ prepare: @escaping @Sendable (FakeGateway) -> Void = { _ in },
    _ body: @escaping @Sendable (Household, FakeGateway, PortMapper) async throws -> Void
  ) async throws {
    try await Household.play(hosts: hosts) { house in
      (house.router.speaksPCP, house.router.speaksNATPMP) = (false, false)
      let gateway = FakeGateway(house.router.host)
      prepare(gateway)
      try await gateway.start(six ? .v6 : .v4).get()
      let mapper = Self.mapper(house, 0, six)
      try await body(house, gateway, mapper)
      try await mapper.close().get()
    }
  }

  private static func mapper(_ house: Household, _ index: Int, _ six: Bool = false) -> PortMapper {
    let mapper = PortMapper(ports: [.init(.tcp, 4000)], on: house.hosts[index].loop)
    let host = house.hosts[index]
    mapper.update(six ? house.snapshot(host, gateway: nil, six: "fe80::1") : house.snapshot(host))
    return mapper
  }

  private static func isRefused(_ mapper: PortMapper) -> Bool {
    if case .refused? = mapper.findings.first?.answers[.upnp] { true } else { false }
  }

  @Test("found, described, asked; removed at the end", arguments: [1, 2])
  func works(_ version: Int) async throws {
    try await play {
      $0.service = "WANIPConnection:\(version)"
    } _: { house, gateway, mapper in
      let began = house.time.now
      try await mapper.settled().get()
      #expect(house.time.now - began == .milliseconds(250))
      let mapping = try #require(mapper.mappings.first)
      #expect(mapping.external == ep("203.0.113.5:4000") && mapping.by == .upnp && mapping.lifetime == .seconds(7200))
      #expect(gateway.table == [4000: "192.168.1.10:4000 7200"])
      #expect(mapper.findings.first?.router == "Box" && mapper.findings.first?.answers[.upnp] == .granted)
      try await house.pass(.hours(12))
      #expect(gateway.table.count == 1 && mapper.mappings.count == 1)
      try await mapper.close().get()
      #expect(gateway.table.isEmpty)
    }
  }

  @Test("a second host that wants the same port gets another")
  func conflict() async throws {
    try await play(hosts: 2) { house, gateway, mapper in
      let other = Self.mapper(house, 1)
      try await mapper.settled().and(other.settled()).map { _ in }.get()
      #expect(gateway.table.count == 2 && mapper.mappings.first?.external != other.mappings.first?.external)
      try await other.close().get()
      #expect(gateway.table.count == 1)
    }
  }

  @Test("a router that gives mappings without an end only: it is removed at the end")
  func permanent() async throws {
    try await play {
      $0.faults = [725]
    } _: { house, gateway, mapper in
      try await mapper.settled().get()
      #expect(mapper.mappings.count == 1 && mapper.mappings.first?.lifetime == nil)
      #expect(gateway.table == [4000: "192.168.1.10:4000 0"])
      try await mapper.close().get()
      #expect(gateway.table.isEmpty)
    }
  }

  @Test("the router's refusal is told in words")
  func refused() async throws {
    try await play {
      $0.faults = [Int](repeating: 606, count: 9)
    } _: { house, _, mapper in
      try await mapper.settled().get()
      #expect(mapper.findings.first?.answers[.upnp] == .refused("the router does not allow it (UPnP error 606)"))
    }
  }

  @Test("a hole in the IPv6 firewall is asked for from the address itself")
  func hole() async throws {
    try await play(six: true) {
      $0.service = "WANIPv6FirewallControl:1"
    } _: { house, gateway, mapper in
      try await mapper.settled().get()
      let mapping = try #require(mapper.mappings.first)
      #expect(mapping.external == ep("[2001:db8::10]:4000") && mapping.by == .upnp)
      #expect(gateway.table == [1: "2001:db8::10 4000"])
      try await mapper.close().get()
      #expect(gateway.table.isEmpty)
    }
  }

  @Test("an answer that names another host is not followed")
  func elsewhere() async throws {
    for place in ["http://8.8.8.8/x", "http://192.168.1.11:5000/x", "http://router.example/x", "https://192.168.1.1/x"]
    {
      try await play(hosts: 2) {
        $0.location = place
      } _: { house, gateway, mapper in
        let bait = FakeGateway(house.hosts[1])
        try await bait.start().get()
        try await mapper.settled().get()
        #expect(gateway.connections == 0 && bait.connections == 0 && mapper.mappings.isEmpty)
        #expect(Self.isRefused(mapper), "nothing is said")
      }
    }
  }

  @Test("only the router is heard: another host's gateway is nobody")
  func stranger() async throws {
    try await Household.play(hosts: 2) { house in
      (house.router.speaksPCP, house.router.speaksNATPMP) = (false, false)
      let other = FakeGateway(house.hosts[1])
      try await other.start().get()
      let mapper = Self.mapper(house, 0)
      try await mapper.settled().get()
      #expect(other.connections == 0 && mapper.findings.first?.answers[.upnp] == .silent)
      try await mapper.close().get()
    }
  }

  @Test("garbage, a gigabyte that is promised, redirections, endless streams: nothing is opened, nothing is left")
  func hostile() async throws {
    let answers: [FakeGateway.Manner] = [
      .bytes([UInt8](repeating: 0xff, count: 5000), ends: false),
      .bytes(crlf("HTTP/1.1 200 OK\nContent-Length: 1000000000\n\n<root>"), ends: false),
      .bytes(crlf("HTTP/1.1 302 Found\nLocation: http://192.168.1.11:5000/x\nContent-Length: 0\n\n"), ends: true),
      .bytes(crlf("HTTP/1.1 200 OK\n\n") + [UInt8](repeating: 0x20, count: 400_000), ends: false),
      .bytes(crlf("HTTP/1.1 200 OK\nContent-Length: 6\n\n<root>"), ends: true),
      .bytes([], ends: true), .bytes([], ends: false), .drip,
    ]
    for manner in answers {
      try await play(hosts: 2) {
        $0.manner = manner
      } _: { house, gateway, mapper in
        try await mapper.settled().get()
        try await house.pass(.seconds(30))
        #expect(gateway.connections >= 1 && gateway.connections <= 4 && mapper.mappings.isEmpty)
        #expect(Self.isRefused(mapper), "nothing is said")
        try await mapper.close().get()
        try await house.pass(.seconds(5))
        #expect(house.time.timerCount <= 1, "only the drip's own timer is left")
      }
    }
  }

  @Test("closed in the middle: what is being asked for is not left behind")
  func closedEarly() async throws {
    for after in [1, 5, 9, 13, 55, 60, 65, 70, 75] as [Int64] {
      try await play { house, gateway, mapper in
        try await house.pass(.milliseconds(after))
        try await mapper.close().get()
        try await house.pass(.seconds(5))
        #expect(gateway.table.isEmpty && mapper.mappings.isEmpty, "after \(after) ms")
      }
    }
  }
}
