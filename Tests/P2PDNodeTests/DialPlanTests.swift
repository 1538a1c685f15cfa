import P2PDNet
import Testing

@testable import P2PDNode

@Suite struct DialPlanTests {
  private func local(_ cidr: String, _ interface: UInt32 = 2) throws -> LocalAddress {
    let parts = cidr.split(separator: "/")
    var ip = try #require(IPAddress(String(parts[0])))
    if ip.isLinkLocal, ip.family == .v6 { ip.scopeID = interface }
    return LocalAddress(ip: ip, prefix: try #require(Int(parts[1])), interface: interface)
  }

  private func route(_ ip: String, outside: String? = nil) throws -> NodeRoute {
    NodeRoute(
      interface: 0, nic: try #require(IPAddress(ip)), port: 1000,
      external: try outside.map { .at(try #require(Endpoint($0))) } ?? .unknown)
  }

  /// What is dialled, in order, as `path ip`, scopes as numbers.
  private func plan(_ routes: [NodeRoute], from own: [String]) throws -> (dialled: [String], skipped: [String]) {
    let own = try own.map { text in
      let parts = text.split(separator: "@")
      return try local(String(parts[0]), parts.count > 1 ? try #require(UInt32(parts[1])) : 2)
    }
    let plan = DialPlan(to: routes, from: own)
    let dialled = plan.candidates.map { candidate in
      let ip = candidate.endpoint.ip
      let bare = IPAddress(family: ip.family, high: ip.high, low: ip.low)
      return "\(candidate.path.rawValue) \(bare)\(ip.scopeID == 0 ? "" : "%\(ip.scopeID)") \(candidate.endpoint.port)"
    }
    return (dialled, plan.skipped.map { "\($0.what): \($0.cause)" })
  }

  private static let home = ["127.0.0.1/8@1", "::1/128@1", "192.168.1.5/24", "fe80::5/64", "2001:db8:1::5/64"]

  @Test func aNodeOfThisMachine() throws {
    let (dialled, skipped) = try plan(
      [try route("192.168.1.5"), try route("fe80::5"), try route("2001:db8:1::5"), try route("127.0.0.1")],
      from: Self.home)
    #expect(
      dialled == [
        "same machine 192.168.1.5 1000", "same machine fe80::5%2 1000", "same machine 2001:db8:1::5 1000",
        "same machine 127.0.0.1 1000",
      ])
    #expect(skipped == [])
  }

  @Test func aNodeOnLoopbackOnly() throws {
    #expect(
      try plan([try route("127.0.0.1"), try route("::1")], from: ["127.0.0.1/8@1"]).dialled == [
        "same machine 127.0.0.1 1000", "same machine ::1 1000",
      ])
  }

  @Test func anotherMachinesLoopbackIsNotDialled() throws {
    let (dialled, skipped) = try plan([try route("127.0.0.1"), try route("203.0.113.9")], from: Self.home)
    #expect(dialled == ["ipv4 203.0.113.9 1000"])
    #expect(skipped == ["skip 127.0.0.1:1000: a loopback address of another machine"])
  }

  @Test func theLanComesFirst() throws {
    let (dialled, _) = try plan(
      [try route("192.168.1.9", outside: "203.0.113.9:77"), try route("2001:db8:2::9"), try route("fe80::9")],
      from: Self.home)
    #expect(
      dialled == [
        "lan 192.168.1.9 1000", "link-local fe80::9%2 1000", "ipv6 2001:db8:2::9 1000", "ipv4 203.0.113.9 77",
      ])
  }

  @Test func aStrangersPrivateAddressIsNotDialled() throws {
    let (dialled, skipped) = try plan(
      [try route("10.0.0.9", outside: "203.0.113.9:77"), try route("fd00::9"), try route("100.64.0.9")], from: Self.home
    )
    #expect(dialled == ["ipv4 203.0.113.9 77"])
    #expect(skipped.count == 3)
    #expect(skipped.first == "skip 10.0.0.9:1000: a private address of a network this machine is not in")
  }

  @Test func aPrivateOutsideAddressIsNoBetter() throws {
    #expect(
      try plan([try route("203.0.113.9", outside: "192.168.77.1:5")], from: Self.home).dialled == [
        "ipv4 203.0.113.9 1000"
      ])
  }

  @Test func linkLocalIsTriedOnEachLinkButNotOnMany() throws {
    let own = ["127.0.0.1/8@1"] + (2..<9).map { "fe80::5/64@\($0)" }
    let (dialled, _) = try plan([try route("fe80::9")], from: own)
    #expect(dialled == (2..<6).map { "link-local fe80::9%\($0) 1000" })
    #expect(try plan([try route("fe80::9")], from: ["192.168.1.5/24"]).skipped.count == 1)
  }

  @Test func linkLocalOfAStrangerComesLast() throws {
    #expect(
      try plan([try route("fe80::9"), try route("203.0.113.9")], from: Self.home).dialled == [
        "ipv4 203.0.113.9 1000", "link-local fe80::9%2 1000",
      ])
  }

  @Test func linkLocalV4() throws {
    #expect(try plan([try route("169.254.9.9")], from: ["169.254.1.1/16"]).dialled == ["link-local 169.254.9.9 1000"])
  }

  @Test func familiesTakeTurns() throws {
    let (dialled, _) = try plan(
      [try route("203.0.113.1"), try route("203.0.113.2"), try route("2001:db8:2::1"), try route("2001:db8:2::2")],
      from: Self.home)
    #expect(dialled.map { String($0.prefix(4)) } == ["ipv6", "ipv4", "ipv6", "ipv4"])
  }

  @Test func familiesThisMachineLacksAreSkipped() throws {
    let (dialled, skipped) = try plan(
      [try route("203.0.113.1"), try route("2001:db8:2::1")], from: ["127.0.0.1/8@1", "fe80::5/64", "192.168.1.5/24"])
    #expect(dialled == ["ipv4 203.0.113.1 1000"])
    #expect(skipped == ["skip [2001:db8:2::1]:1000: this machine has no public IPv6 address"])
    #expect(try plan([try route("203.0.113.1")], from: ["::1/128"]).dialled == [])
  }

  @Test func anOutsideAddressWithoutAPortIsALastGuess() throws {
    let routes = [try route("10.0.0.9", outside: "203.0.113.9:0"), try route("203.0.113.8")]
    #expect(try plan(routes, from: Self.home).dialled == ["ipv4 203.0.113.8 1000", "ipv4 203.0.113.9 1000"])
  }

  @Test func eachEndpointOnce() throws {
    let same = try route("203.0.113.8")
    #expect(
      try plan([same, same, try route("203.0.113.8", outside: "203.0.113.8:1000")], from: Self.home).dialled.count == 1)
  }

  @Test func aPointToPointPrefixSaysNothing() throws {
    #expect(try plan([try route("10.0.0.9")], from: ["10.0.0.1/32"]).dialled == [])
    #expect(try plan([try route("10.0.0.9")], from: ["10.0.0.1/0"]).dialled == [])
  }

  @Test func noRoutes() throws {
    let (dialled, skipped) = try plan([], from: Self.home)
    #expect(dialled == [] && skipped == [])
  }
}

@Suite struct AddressComposerTests {
  private func interface(
    _ name: String, _ index: UInt32, _ addresses: [String], kind: String = "", flags: InterfaceAddress.Flags = []
  ) throws -> NetworkInterface {
    NetworkInterface(
      name: name, index: index, kind: kind,
      addresses: try addresses.map { InterfaceAddress(ip: try #require(IPAddress($0)), prefixLength: 24, flags: flags) }
    )
  }

  private func compose(
    _ all: [NetworkInterface], _ names: [String]? = nil, listening: [IPAddress] = [.wildcard(.v4), .wildcard(.v6)]
  ) -> [String] {
    AddressComposer.routes(names, port: 5, listening: listening, on: all).map { "\($0.interface) \($0.nic)" }
  }

  @Test func everyInterfaceAndFamily() throws {
    let all = [
      try interface("lo", 1, ["127.0.0.1", "::1"]), try interface("docker0", 2, ["172.17.0.1"], kind: "bridge"),
      try interface("eth0", 3, ["fe80::1", "fd00::1", "192.168.1.2", "2001:db8::2"]),
    ]
    #expect(compose(all) == ["1 2001:db8::2", "1 192.168.1.2", "1 fd00::1", "1 fe80::1", "2 172.17.0.1"])
    #expect(compose(all, ["docker0"]) == ["0 172.17.0.1"])
    #expect(compose(all, listening: [.wildcard(.v4)]) == ["1 192.168.1.2", "2 172.17.0.1"])
    #expect(compose(all, listening: [try #require(IPAddress("192.168.1.2"))]) == ["1 192.168.1.2"])
    #expect(compose(all, listening: [.loopback(.v4)]) == ["0 127.0.0.1"])
  }

  @Test func loopbackIsForThoseWhoHaveNothingElse() throws {
    #expect(compose([try interface("lo", 1, ["127.0.0.1", "::1"])]) == ["0 127.0.0.1", "0 ::1"])
  }

  @Test func whatTheKernelBoundIsThereWithoutATable() throws {
    #expect(compose([], listening: [try #require(IPAddress("192.0.2.1"))]) == ["15 192.0.2.1"])
    #expect(compose([]) == [])
  }

  @Test func manyAddressesAreCut() throws {
    let many = try interface("eth0", 1, (1...9).map { "2001:db8::\($0)" })
    #expect(compose([many]).count == 4)
    #expect(
      compose(try (1...9).map { try interface("e\($0)", UInt32($0), ["10.0.\($0).1", "10.0.\($0).2"]) }).count == 16)
  }

  @Test func addressesInDoubtAreLeftOut() throws {
    #expect(compose([try interface("eth0", 1, ["2001:db8::1"], flags: .tentative)]) == [])
  }
}
