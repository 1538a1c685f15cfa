import Glibc
import Testing

@testable import P2PDNet

@Suite("Interfaces of the host")
struct NetworkSnapshotTests {
  private typealias Make = NetlinkBytes

  private func snapshot(_ datagrams: [UInt8]...) -> NetworkSnapshot {
    let all = datagrams.flatMap { NetlinkCodec.messages(in: $0).map(\.content) }
    return NetworkSnapshot(links: all, addresses: all, routes: all)
  }

  @Test("links and addresses are joined by index; an address without a link is left out")
  func join() throws {
    let found = snapshot(
      Make.link(7, "eth1") + Make.link(2, "eth0", flags: 0x1043),
      Make.address(2, ip("192.0.2.2"), prefix: 24) + Make.address(2, ip("fe80::2"), prefix: 64, scope: 253)
        + Make.address(5, ip("10.0.0.1"), prefix: 8))
    #expect(found.interfaces.map(\.name) == ["eth0", "eth1"])
    let first = try #require(found.interfaces.first)
    #expect(first.addresses.map(\.ip) == [ip("192.0.2.2"), ip("fe80::2", scope: 2)])
    #expect(first.addresses.map(\.scope) == [.global, .link])
    #expect(first.flags == [.up, .broadcast, .running, .multicast])
    #expect(first.mac == "02:00:00:00:00:01")
    #expect(first.supported == [.v4, .v6])
    #expect(found.interface(at: 7)?.supported == [])
  }

  @Test("the marks of an address, read as its family means them")
  func flags() throws {
    let found = snapshot(
      Make.link(2, "eth0"), Make.address(2, ip("192.0.2.2"), prefix: 24, flags: 0x81),
      Make.address(2, ip("2001:db8::1"), prefix: 64, flags: 0x01),
      Make.address(2, ip("2001:db8::2"), prefix: 64, flags: 0x60),
      Make.address(2, ip("2001:db8::3"), prefix: 64, flags: 0x48),
      Make.address(2, ip("2001:db8::4"), prefix: 64, flags: 0x44))
    let addresses = try #require(found.interfaces.first).addresses
    #expect(
      addresses.map(\.flags) == [
        [.secondary, .permanent], .temporary, [.deprecated, .tentative], [.tentative, .duplicate], [],
      ])
    #expect(addresses.map(\.isUsable) == [true, true, false, false, true])
  }

  @Test("the default route in use is the live one with the lowest metric")
  func defaultRoutes() throws {
    let links = Make.link(2, "eth0") + Make.link(3, "wlan0") + Make.link(4, "wg0")
    func chosen(_ routes: [UInt8]) -> UInt32? { snapshot(links, routes).defaultRoutes[.v4]?.interfaceIndex }
    let slow = Make.route(.v4, Make.via(ip("192.0.2.1"), 2, metric: 600))
    let fast = Make.route(.v4, Make.via(ip("198.51.100.1"), 3, metric: 100))
    #expect(chosen(slow + fast) == 3)
    #expect(chosen(fast + slow) == 3)
    #expect(chosen(slow + Make.route(.v4, flags: 1, Make.via(ip("198.51.100.1"), 3))) == 2, "a dead one does not count")
    let unplugged = Make.route(.v4, flags: 16, Make.via(ip("198.51.100.1"), 3, metric: 1))
    #expect(chosen(slow + unplugged) == 2, "one without a carrier comes last")
    #expect(chosen(unplugged) == 3)
    #expect(chosen(Make.route(.v4, length: 8, Make.via(ip("192.0.2.1"), 2))) == nil, "a route to one network")
    #expect(chosen(Make.route(.v4, table: 100, Make.via(ip("192.0.2.1"), 2))) == nil, "another table")
    #expect(chosen(Make.route(.v4, type: 7, Make.via(ip("192.0.2.1"), 2))) == nil, "an unreachable route")
  }

  @Test("of equal IPv6 routers the preferred one")
  func preference() {
    let medium = Make.route(.v6, Make.via(ip("fe80::1"), 2, metric: 1024))
    let high = Make.route(.v6, Make.via(ip("fe80::2"), 3, metric: 1024) + Make.attribute(20, [1]))
    #expect(snapshot(medium, high).defaultRoutes[.v6]?.gateway == ip("fe80::2", scope: 3))
    #expect(snapshot(high, medium).defaultRoutes[.v6]?.gateway == ip("fe80::2", scope: 3))
  }

  @Test("the interface to use where none is named")
  func preferred() throws {
    let loopback = NetworkInterface(
      name: "lo", index: 1, flags: [.up, .running, .loopback], addresses: [.init(ip: .loopback(.v4), prefixLength: 8)])
    let down = NetworkInterface(
      name: "eth0", index: 2, flags: [.up], addresses: [.init(ip: ip("192.0.2.2"), prefixLength: 24)])
    let bare = NetworkInterface(name: "eth1", index: 3)
    let lan = NetworkInterface(name: "eth2", index: 4, addresses: [.init(ip: ip("10.0.0.2"), prefixLength: 24)])
    var hosts = NetworkSnapshot(interfaces: [loopback, down, bare, lan])
    #expect(try hosts.preferredInterface().name == "eth2")
    hosts.defaultRoutes[.v6] = DefaultRoute(family: .v6, interfaceIndex: 3)
    #expect(try hosts.preferredInterface().name == "eth1")
    hosts.defaultRoutes[.v4] = DefaultRoute(family: .v4, interfaceIndex: 2)
    #expect(try hosts.preferredInterface().name == "eth0")
    #expect(try NetworkSnapshot(interfaces: [loopback, bare]).preferredInterface().name == "lo")
    #expect(throws: NetError.self) { try NetworkSnapshot(interfaces: [bare]).preferredInterface() }
  }

  @Test("names that are not there are refused with those that are")
  func unknownName() {
    let hosts = NetworkSnapshot(interfaces: [NetworkInterface(name: "eth0", index: 2)])
    let error = #expect(throws: NetError.self) { try hosts.interface(named: "eth9") }
    #expect(error?.code == .badAddress)
    #expect(error?.cause.contains("eth0") == true)
    #expect(#expect(throws: NetError.self) { try hosts.defaultInterface(.v6) }?.code == .unreachable)
  }

  @Test("this host's own list has the loopback interface as the kernel numbers it")
  func live() throws {
    let all = try NetworkInterface.list()
    let loopback = try #require(all.first { $0.isLoopback })
    #expect(loopback.index == if_nametoindex(loopback.name))
    #expect(try NetworkInterface.named(loopback.name) == loopback)
    #expect(loopback.mac == nil)
    #expect(loopback.mtu > 0)
    #expect(Set(all.map(\.index)).count == all.count)
    for address in all.flatMap(\.addresses) where address.ip.family == .v6 && address.ip.isLinkLocal {
      #expect(address.ip.scopeID != 0)
    }
  }
}
