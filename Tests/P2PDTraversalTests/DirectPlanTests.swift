import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite struct DirectPlanTests {
  private func local(_ cidr: String, _ interface: UInt32 = 2) throws -> LocalAddress {
    let parts = cidr.split(separator: "/")
    var ip = try #require(IPAddress(String(parts[0])))
    if ip.isLinkLocal, ip.family == .v6 { ip.scopeID = interface }
    return LocalAddress(ip: ip, prefix: try #require(Int(parts[1])), interface: interface)
  }

  private func route(_ ip: String, outside: String? = nil) throws -> PeerPath {
    PeerPath(
      interface: 0, local: Endpoint(ip: try #require(IPAddress(ip)), port: 1000),
      external: try outside.map { try #require(Endpoint($0)) })
  }

  /// What is dialled, in order, as `path ip`, scopes as numbers.
  private func plan(
    _ routes: [PeerPath], from own: [String], outside: [String] = [], trust: DirectPlan.Trust = .own
  ) throws -> (dialled: [String], skipped: [String]) {
    let own = try own.map { text in
      let parts = text.split(separator: "@")
      return try local(String(parts[0]), parts.count > 1 ? try #require(UInt32(parts[1])) : 2)
    }
    let plan = DirectPlan(
      to: routes, from: own, outside: try outside.map { try #require(IPAddress($0)) }, trust: trust)
    let dialled = plan.candidates.map { candidate in
      let ip = candidate.endpoint.ip
      let bare = IPAddress(family: ip.family, high: ip.high, low: ip.low)
      return "\(candidate.path.rawValue) \(bare)\(ip.scopeID == 0 ? "" : "%\(ip.scopeID)") \(candidate.endpoint.port)"
    }
    return (dialled, plan.skipped.map { "\($0.error)" })
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
    #expect(skipped == ["direct 127.0.0.1:1000: not tried: a loopback address of another machine"])
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
    #expect(skipped.first == "direct 10.0.0.9:1000: not tried: a private address of a network this machine is not in")
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
    #expect(skipped == ["direct [2001:db8:2::1]:1000: not tried: this machine has no public IPv6 address"])
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

  // MARK: For strangers

  @Test func aStrangerHasNothingDialledOnThisMachine() throws {
    let (dialled, skipped) = try plan(
      [
        try route("192.168.1.5"), try route("127.0.0.1"), try route("::1"),
        try route("10.9.9.9", outside: "192.168.1.5:25"),
        try route("10.9.9.8", outside: "127.0.0.1:25"),
      ], from: Self.home, trust: .stranger)
    #expect(dialled == [])
    #expect(skipped.contains("direct 192.168.1.5:1000: not tried: this machine has that address"))
    #expect(skipped.contains("direct 127.0.0.1:1000: not tried: a loopback address of another machine"))
  }

  @Test func aStrangerOfOurNetworkIsBelievedWhereNothingSpeaksAgainstIt() throws {
    let near = try route("192.168.1.9", outside: "203.0.113.9:0")
    #expect(try plan([near], from: Self.home, trust: .stranger).dialled.first == "lan 192.168.1.9 1000")
    #expect(
      try plan([near], from: Self.home, outside: ["203.0.113.9"], trust: .stranger).dialled.first
        == "lan 192.168.1.9 1000")
    let (dialled, skipped) = try plan([near], from: Self.home, outside: ["198.51.100.7"], trust: .stranger)
    #expect(dialled == ["ipv4 203.0.113.9 1000"])
    #expect(skipped == ["direct 192.168.1.9:1000: not tried: its network is seen from outside at another address"])
  }

  @Test(arguments: [
    "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "240.0.0.1", "ff02::1", "::", "::ffff:203.0.113.9",
  ])
  func addressesNoHostHas(_ ip: String) throws {
    for trust in [DirectPlan.Trust.own, .stranger] {
      #expect(try plan([try route(ip)], from: Self.home, trust: trust).dialled == [])
      #expect(
        try plan(
          [try route("10.9.9.9", outside: "\(Endpoint(ip: try #require(IPAddress(ip)), port: 5))")], from: Self.home,
          trust: trust
        )
        .dialled == [])
    }
  }

  @Test func theAddressOfAllHostsIsNobodys() throws {
    #expect(try plan([try route("192.168.1.255"), try route("192.168.1.0")], from: Self.home).dialled == [])
  }

  @Test func aStrangerIsDialledAtFewPlaces() throws {
    let many = try (1...16).map { try route("203.0.113.\($0)") }
    #expect(try plan(many, from: Self.home).dialled.count == 16)
    let (dialled, skipped) = try plan(many, from: Self.home, trust: .stranger)
    #expect(dialled.count == 8 && skipped.count == 8)
  }

  @Test func aMappedPortIsDialled() throws {
    var path = try route("10.9.9.9", outside: "203.0.113.9:0")
    path.mapped = Endpoint("203.0.113.9:7777")
    #expect(try plan([path], from: Self.home).dialled == ["ipv4 203.0.113.9 7777", "ipv4 203.0.113.9 1000"])
  }
}
