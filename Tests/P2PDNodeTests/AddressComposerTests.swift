import P2PDNet
import Testing

@testable import P2PDNode

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
