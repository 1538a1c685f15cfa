import P2PDNet
import Testing

@testable import P2PDNames

@Suite struct LocalServiceTests {
  static let key = [UInt8](1...32)

  @Test("the text carries the key and an address of any length, in strings of at most 255 bytes")
  func text() throws {
    for count in [0, 1, 249, 250, 251, 500, 1024] {
      let value = String(repeating: "a", count: count)
      let strings = LocalText.strings(key: Self.key, value: value)
      #expect(strings.allSatisfy { $0.count <= 255 })
      let read = try #require(LocalText.read(strings))
      #expect(read.key == Self.key && read.value == value)
    }
    let strings = LocalText.strings(key: Self.key, value: String(repeating: "a", count: 300))
    #expect(String(decoding: strings[2].prefix(6), as: UTF8.self) == "p2pd=a")
    #expect(String(decoding: strings[3].prefix(7), as: UTF8.self) == "p2pd2=a")
  }

  @Test("of texts of others the first of each key counts; what is missing, malformed or too long is none")
  func foreignTexts() {
    func read(_ strings: [String]) -> String? { LocalText.read(strings.map { Array($0.utf8) })?.value }
    let key = "key=" + Base64URL.encode(Self.key)
    #expect(read(["other", "P2PD=x", key, "p2pd=y", "=z"]) == "x")
    #expect(read(["p2pd3=c", "p2pd2=b", "p2pd=a", key, "p2pd5=e"]) == "abc")
    #expect(read([key]) == nil && read(["p2pd=x"]) == nil && read([]) == nil)
    #expect(read(["key=AAAA", "p2pd=x"]) == nil && read(["key=!", "p2pd=x"]) == nil)
    #expect(read(["txtvers=2", key, "p2pd=x"]) == nil)
    let long = (1...5).map { "p2pd\($0 == 1 ? "" : "\($0)")=" + String(repeating: "a", count: 240) }
    #expect(read([key] + long) == nil)
    #expect(LocalText.read([Array(key.utf8), Array("p2pd=".utf8) + [0xff]]) == nil)
  }

  @Test("names under the service, hosts with a key in their name, and everything else")
  func names() throws {
    let service = try LocalService(label: "bücher. 1", key: Self.key, value: "", port: 1)
    #expect(LocalService.label(of: service.instance) == "bücher. 1")
    #expect(LocalService.key(of: service.host) == Self.key)
    #expect(LocalService.label(of: LocalService.type) == nil && LocalService.label(of: service.host) == nil)
    #expect(LocalService.key(of: service.instance) == nil)
    #expect(LocalService.key(of: try #require(DNSName("p2pd-aaaa.local"))) == nil)
    for (label, key, value, code) in [
      ("", Self.key, "", NetError.Code.badName), (String(repeating: "x", count: 64), Self.key, "", .badName),
      ("a\nb", Self.key, "", .badName), ("a", [1], "", .badName),
      ("a", Self.key, String(repeating: "x", count: 1025), .tooLarge),
    ] {
      #expect { try LocalService(label: label, key: key, value: value, port: 1) } throws: {
        ($0 as? NetError)?.code == code
      }
    }
  }

  @Test("neighbours are those on the link; loopback, tunnels and what is down are no LAN")
  func neighbours() throws {
    func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
    var nic = NetworkInterface(
      name: "eth0", index: 7, flags: [.up, .running, .multicast],
      addresses: [
        InterfaceAddress(ip: try ip("192.168.1.2"), prefixLength: 24),
        InterfaceAddress(ip: try ip("2001:db8::2"), prefixLength: 64),
      ])
    for text in ["192.168.1.77", "169.254.3.4", "2001:db8::ff"] {
      #expect(LocalNetwork.isNeighbour(try ip(text), on: nic), "\(text)")
    }
    var scoped = try ip("fe80::1")
    scoped.scopeID = 7
    #expect(LocalNetwork.isNeighbour(scoped, on: nic))
    scoped.scopeID = 8
    #expect(!LocalNetwork.isNeighbour(scoped, on: nic))
    for text in ["192.168.2.1", "8.8.8.8", "2001:db8:0:1::1", "127.0.0.1", "224.0.0.251", "0.0.0.0"] {
      #expect(!LocalNetwork.isNeighbour(try ip(text), on: nic), "\(text)")
    }
    #expect(LocalNetwork.isUsed(nic, names: nil) && !LocalNetwork.isUsed(nic, names: ["eth1"]))
    for flags: NetworkInterface.Flags in [
      [.up, .multicast], [.up, .running], [.up, .running, .multicast, .pointToPoint],
    ] {
      nic = NetworkInterface(name: "eth0", index: 7, flags: flags, addresses: nic.addresses)
      #expect(!LocalNetwork.isUsed(nic, names: nil))
    }
  }
}
