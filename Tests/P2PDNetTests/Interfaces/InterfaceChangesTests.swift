import Testing

@testable import P2PDNet

@Suite("What changed between two readings")
struct InterfaceChangesTests {
  private let first = InterfaceAddress(ip: ip("192.0.2.2"), prefixLength: 24)
  private let second = InterfaceAddress(ip: ip("2001:db8::2"), prefixLength: 64)

  private func nic(
    _ index: UInt32 = 2, _ name: String = "eth0", mtu: Int = 1500, flags: NetworkInterface.Flags = [.up, .running],
    _ addresses: [InterfaceAddress] = []
  ) -> NetworkInterface {
    NetworkInterface(name: name, index: index, mtu: mtu, flags: flags, addresses: addresses)
  }

  private func events(_ old: [NetworkInterface], _ new: [NetworkInterface]) -> [InterfaceEvent] {
    InterfaceChanges.between(NetworkSnapshot(interfaces: old), NetworkSnapshot(interfaces: new))
  }

  @Test("nothing, where both are the same")
  func same() {
    #expect(events([nic(2, "eth0", [first])], [nic(2, "eth0", [first])]) == [])
    #expect(
      events([nic(2, "eth0", [first, second])], [nic(2, "eth0", [second, first])]) == [],
      "the order of addresses is no change")
  }

  @Test("an interface comes and goes with its addresses")
  func cameAndWent() {
    let it = nic(2, "eth0", [first])
    #expect(events([], [it]) == [.added(it), .addressAdded(first, it)])
    #expect(events([it], []) == [.addressRemoved(first, it), .removed(it)])
  }

  @Test("an interface that changes is told with what it was; its addresses are no change of it")
  func changed() {
    #expect(events([nic()], [nic(mtu: 1400)]) == [.changed(nic(mtu: 1400), from: nic())])
    #expect(events([nic()], [nic(2, "lan0")]) == [.changed(nic(2, "lan0"), from: nic())])
    #expect(events([nic()], [nic(flags: [.up])]) == [.changed(nic(flags: [.up]), from: nic())])
    let both = nic(2, "eth0", [first, second])
    #expect(events([nic(2, "eth0", [first])], [both]) == [.addressAdded(second, both)])
  }

  @Test("what went is told before what came")
  func order() {
    let before = nic(2, "eth0", [first])
    let after = nic(2, "eth0", [second])
    let other = nic(3, "eth1")
    #expect(
      events([before], [after, other]) == [.addressRemoved(first, after), .addressAdded(second, after), .added(other)])
  }

  @Test("an address is there when it can be bound")
  func tentative() {
    let pending = InterfaceAddress(ip: second.ip, prefixLength: 64, flags: .tentative)
    let taken = InterfaceAddress(ip: second.ip, prefixLength: 64, flags: [.tentative, .duplicate])
    let ready = nic(2, "eth0", [second])
    #expect(events([nic()], [nic(2, "eth0", [pending])]) == [])
    #expect(events([nic(2, "eth0", [pending])], [ready]) == [.addressAdded(second, ready)])
    #expect(events([nic(2, "eth0", [pending])], [nic(2, "eth0", [taken])]) == [])
    #expect(events([ready], [nic(2, "eth0", [taken])]) == [.addressRemoved(second, nic(2, "eth0", [taken]))])
    let old = InterfaceAddress(ip: second.ip, prefixLength: 64, flags: .deprecated)
    #expect(events([ready], [nic(2, "eth0", [old])]) == [.addressChanged(old, from: second, nic(2, "eth0", [old]))])
  }

  @Test("a default route that appears, moves and ends, by family")
  func defaultRoutes() {
    let one = DefaultRoute(family: .v4, interfaceIndex: 2, gateway: ip("192.0.2.1"))
    let two = DefaultRoute(family: .v4, interfaceIndex: 3, gateway: ip("198.51.100.1"))
    func hosts(_ routes: [AddressFamily: DefaultRoute]) -> NetworkSnapshot { NetworkSnapshot(defaultRoutes: routes) }
    #expect(InterfaceChanges.between(hosts([:]), hosts([.v4: one])) == [.defaultRouteChanged(.v4, from: nil, to: one)])
    #expect(
      InterfaceChanges.between(hosts([.v4: one]), hosts([.v4: two])) == [.defaultRouteChanged(.v4, from: one, to: two)])
    #expect(InterfaceChanges.between(hosts([.v4: one]), hosts([:])) == [.defaultRouteChanged(.v4, from: one, to: nil)])
  }

  @Test("every event reads as a sentence that names its interface")
  func sentences() {
    let it = nic(2, "eth0", [first])
    let all: [InterfaceEvent] = [
      .added(it), .removed(it), .changed(nic(2, "lan0"), from: it), .addressAdded(first, it),
      .addressRemoved(first, it),
      .addressChanged(first, from: first, it),
    ]
    for event in all { #expect(event.description.contains("eth0")) }
    #expect(InterfaceEvent.defaultRouteChanged(.v6, from: nil, to: nil).description == "there is no IPv6 default route")
  }
}
