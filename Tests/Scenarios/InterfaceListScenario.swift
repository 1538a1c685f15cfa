import Glibc
import NIOCore
import P2PDNet
import Testing

/// The lists of interfaces, addresses and routes against what ip(8) was told to make.
@Suite(
  "Interfaces in a namespace",
  .enabled(if: InterfaceNamespace.isAvailable, Comment(rawValue: InterfaceNamespace.whyNot)),
  .timeLimit(.minutes(1)))
struct InterfaceListScenario {
  private static func pair(_ name: String) throws {
    try InterfaceNamespace.ip("link add \(name)0 type veth peer name \(name)1")
    try InterfaceNamespace.ip("link set \(name)0 up")
    try InterfaceNamespace.ip("link set \(name)1 up")
  }

  @Test("an empty namespace has loopback alone and no default interface")
  func empty() async throws {
    try await InterfaceNamespace.run {
      let all = try NetworkInterface.list()
      #expect(all.map(\.name) == ["lo"])
      #expect(all[0].supported == [.v4, .v6])
      #expect(#expect(throws: NetError.self) { try NetworkInterface.defaultInterface(.v4) }?.code == .unreachable)
      #expect(try NetworkInterface.preferred().name == "lo")
    }
  }

  @Test("links, addresses, marks, scopes and default routes are as they were made")
  func furnished() async throws {
    try await InterfaceNamespace.run {
      try InterfaceNamespace.ip("link add a0 mtu 1400 address 02:00:00:00:00:aa type veth peer name a1")
      try InterfaceNamespace.ip("link set a0 up")
      try InterfaceNamespace.ip("addr add 10.9.0.1/24 brd + dev a0")
      try InterfaceNamespace.ip("addr add 192.0.2.7/25 dev a0")
      try InterfaceNamespace.ip("addr add 10.9.0.2/24 dev a0")
      try InterfaceNamespace.ip("addr add 2001:db8:9::1/64 dev a0 nodad")
      try InterfaceNamespace.ip("addr add 2001:db8:9::2/64 dev a0 nodad preferred_lft 0")
      try InterfaceNamespace.ip("addr add fe80::9/64 dev a0 nodad")
      try InterfaceNamespace.ip("addr add 10.8.0.1 peer 10.8.0.2/32 dev a0")

      let down = try NetworkInterface.named("a0")
      #expect(down.flags.contains(.up) && !down.isUp, "its other end is down")
      try InterfaceNamespace.ip("link set a1 up")
      // The kernel notices a carrier in its own time.
      let deadline = NIODeadline.now() + .seconds(10)
      while try !NetworkInterface.named("a0").isUp, NIODeadline.now() < deadline { usleep(1000) }
      let nic = try NetworkInterface.named("a0")
      #expect(nic.isUp && !nic.isLoopback)
      #expect(nic.mac == "02:00:00:00:00:aa")
      #expect(nic.mtu == 1400)
      #expect(nic.kind == "veth")
      #expect(nic.flags.isSuperset(of: [.broadcast, .multicast]))

      func address(_ text: String) -> InterfaceAddress? { nic.addresses.first { $0.description == text } }
      #expect(address("10.9.0.1/24")?.broadcast == IPAddress("10.9.0.255"))
      #expect(address("10.9.0.2/24")?.flags == [.secondary, .permanent])
      #expect(address("2001:db8:9::1/64")?.flags == [.permanent])
      #expect(address("2001:db8:9::2/64")?.flags.contains(.deprecated) == true)
      #expect(address("10.8.0.1/32")?.peer == IPAddress("10.8.0.2"))
      let local = try #require(address("fe80::9%a0/64"))
      #expect(local.scope == .link)
      #expect(local.ip.scopeID == nic.index)

      #expect(
        nic.rp[.v4].map { $0.nicIPs.map(\.description) } == [["10.9.0.1", "10.8.0.1", "10.9.0.2"], ["192.0.2.7"]]
          || nic.rp[.v4].map { Set($0.nicIPs.map(\.description)) } == [
            ["10.9.0.1", "10.8.0.1", "10.9.0.2"], ["192.0.2.7"],
          ])
      #expect(nic.rp[.v6].map { $0.nicIPs.map(\.description) } == [["2001:db8:9::1"], ["2001:db8:9::2"]])
      #expect(nic.route(.v6)?.linkLocals.contains(local.ip) == true)
    }
  }

  @Test("the default interface is the one with the lowest metric, in each family")
  func defaults() async throws {
    try await InterfaceNamespace.run {
      try Self.pair("a")
      try Self.pair("b")
      try InterfaceNamespace.ip("addr add 10.1.0.2/24 dev a0")
      try InterfaceNamespace.ip("addr add 10.2.0.2/24 dev b0")
      try InterfaceNamespace.ip("route add default via 10.1.0.1 metric 200")
      try InterfaceNamespace.ip("route add default via 10.2.0.1 metric 100")
      try InterfaceNamespace.ip("route add unreachable default metric 5")
      try InterfaceNamespace.ip("-6 route add default via fe80::1 dev a0 metric 50")
      try InterfaceNamespace.ip("-6 route add default via fe80::2 dev b0 metric 90")
      let hosts = try NetworkSnapshot.current()
      #expect(try NetworkInterface.defaultInterface(.v4).name == "b0")
      #expect(try NetworkInterface.defaultInterface(.v6).name == "a0")
      #expect(try NetworkInterface.preferred().name == "b0")
      #expect(hosts.defaultRoutes[.v4]?.gateway == IPAddress("10.2.0.1"))
      #expect(hosts.defaultRoutes[.v4]?.metric == 100)
      #expect(hosts.defaultRoutes[.v6]?.gateway == IPAddress("fe80::1%a0"))
      try InterfaceNamespace.ip("route del default via 10.2.0.1")
      #expect(try NetworkInterface.defaultInterface(.v4).name == "a0")
    }
  }

  @Test("thousands of addresses are all listed")
  func large() async throws {
    try await InterfaceNamespace.run {
      try Self.pair("a")
      let batch = (0..<4000).map { "addr add 10.\($0 / 200).\($0 % 200).1/32 dev a0" }
      try InterfaceNamespace.ip(batch: batch)
      let ips = try NetworkInterface.named("a0").addresses.map(\.ip).filter { $0.family == .v4 }
      #expect(ips.count == 4000)
      #expect(Set(ips).count == 4000)
    }
  }
}
