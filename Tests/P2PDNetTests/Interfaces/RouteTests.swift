import Testing

@testable import P2PDNet

@Suite("Routes and route pools")
struct RouteTests {
  private func nic(_ addresses: [InterfaceAddress]) -> NetworkInterface {
    NetworkInterface(name: "eth0", index: 3, addresses: addresses)
  }
  private func address(_ text: String, scope: UInt32 = 0, _ flags: InterfaceAddress.Flags = []) -> InterfaceAddress {
    InterfaceAddress(ip: ip(text, scope: scope), prefixLength: 24, flags: flags)
  }

  @Test("private addresses share a route, a public one has its own; all have the link-local ones")
  func grouping() {
    let host = nic([
      address("10.0.0.2"), address("192.0.2.2"), address("192.168.1.2"), address("169.254.1.1"), address("192.0.2.3"),
    ])
    let pool = host.rp[.v4]
    #expect(pool.map(\.nicIPs) == [[ip("10.0.0.2"), ip("192.168.1.2")], [ip("192.0.2.2")], [ip("192.0.2.3")]])
    #expect(pool.allSatisfy { $0.linkLocals == [ip("169.254.1.1")] && $0.extIPs == [] && $0.interface == host })
    #expect(host.rp[.v6].isEmpty)
    #expect(host.route(.v6) == nil)
    #expect(host.route(.v4) == pool.first)
  }

  @Test("stable addresses first, temporary ones next, deprecated ones last, and what cannot be bound not at all")
  func ranking() {
    let pool = nic([
      address("fd00::4", [.deprecated, .temporary]), address("fd00::3", .deprecated), address("fd00::2", .temporary),
      address("fd00::1"), address("fd00::5", .tentative), address("fd00::6", [.tentative, .duplicate]),
    ]).rp[.v6]
    #expect(pool.map(\.nicIPs) == [[ip("fd00::1"), ip("fd00::2"), ip("fd00::3"), ip("fd00::4")]])
  }

  @Test("an interface with link-local addresses alone has one route, bound with the scope")
  func linkLocalOnly() throws {
    let route = try #require(nic([address("fe80::1", scope: 3)]).route(.v6))
    #expect(route.nicIPs == [])
    #expect(route.nic == ip("fe80::1", scope: 3))
    #expect(try route.bind(port: 80).endpoint == Endpoint(ip: ip("fe80::1", scope: 3), port: 80))
  }

  @Test("bind takes the first address, or one of the route's, and refuses others")
  func bind() throws {
    let route = try #require(nic([address("fd00::1"), address("fd00::2"), address("fe80::1", scope: 3)]).route(.v6))
    #expect(try route.bind().endpoint == Endpoint(ip: ip("fd00::1"), port: 0))
    #expect(try route.bind(port: 9, ip: ip("fd00::2")).endpoint == Endpoint(ip: ip("fd00::2"), port: 9))
    #expect(try route.bind(port: 9, ip: ip("fe80::1", scope: 3)).port == 9)
    #expect(#expect(throws: NetError.self) { try route.bind(ip: ip("fd00::9")) }?.code == .badAddress)
    #expect(throws: NetError.self) { try route.bind(ip: ip("fe80::1", scope: 4)) }
    #expect(throws: NetError.self) { try Route(family: .v4, nicIPs: []).bind() }
  }

  @Test("the wildcard and loopback routes need no interface")
  func special() throws {
    #expect(try Route.any(.v6).bind(port: 1).endpoint.description == "[::]:1")
    #expect(try Route.loopback(.v4).bind(port: 1).endpoint.description == "127.0.0.1:1")
    #expect(Route.any(.v4).isWildcard && !Route.any(.v4).isLoopback)
    #expect(Route.loopback(.v6).isLoopback && !Route.loopback(.v6).isWildcard)
    #expect(Route.any(.v4).description == "any interface IPv4 0.0.0.0")
  }

  @Test("the source for a destination: link-local to link-local, on the same link")
  func source() throws {
    let route = try #require(nic([address("fd00::1"), address("fe80::1", scope: 3)]).route(.v6))
    #expect(route.source(for: ip("2001:db8::1")) == ip("fd00::1"))
    #expect(route.source(for: ip("fe80::9", scope: 3)) == ip("fe80::1", scope: 3))
    #expect(route.source(for: ip("fe80::9", scope: 4)) == nil)
    #expect(route.source(for: ip("192.0.2.1")) == nil)
    #expect(Route.any(.v6).source(for: ip("fe80::9", scope: 4)) == .wildcard(.v6))
  }

  @Test("external addresses are told to the route of an address, and a route is found by any of its addresses")
  func external() {
    let host = nic([address("10.0.0.2"), address("192.168.1.2"), address("192.0.2.2")])
    var pools = host.rp
    pools[.v4].setExternal([ip("203.0.113.5")], for: ip("192.168.1.2"))
    #expect(pools[.v4].map(\.extIPs) == [[ip("203.0.113.5")], []])
    #expect(pools[.v4][0].ext == ip("203.0.113.5"))
    #expect(pools[.v4].locate(ip("203.0.113.5")) == pools[.v4][0])
    #expect(pools[.v4].locate(ip("192.0.2.2")) == pools[.v4][1])
    #expect(pools[.v4].locate(ip("192.0.2.9")) == nil)
    #expect(host.rp[.v4][0].extIPs == [], "the interface's own pool is another value")
  }
}
