import Testing

@testable import P2PDNet

@Suite("What a host's text is")
struct HostTextTests {
  @Test("addresses written out", arguments: ["192.0.2.1", "::1", "[2001:db8::1]", "::ffff:192.0.2.1"])
  func literals(_ text: String) {
    guard case .addresses(let found) = HostText(text) else {
      Issue.record("\(text) is an address")
      return
    }
    #expect(found.count == 1)
  }

  @Test("a zone is kept as the scope, by name and by number")
  func zones() throws {
    let loopback = try #require(try NetworkInterface.list().first { $0.isLoopback })
    let expected = HostText.addresses([IPAddress(family: .v6, high: 0xfe80 << 48, low: 1, scopeID: loopback.index)])
    #expect(HostText("fe80::1%\(loopback.name)") == expected)
    #expect(HostText("[fe80::1%\(loopback.index)]") == expected)
  }

  @Test("localhost and the names under it never leave the host", arguments: ["localhost", "LocalHost.", "a.localhost"])
  func localhost(_ text: String) {
    #expect(HostText(text) == .addresses([.loopback(.v6), .loopback(.v4)]))
  }

  @Test(
    "names",
    arguments: ["example.org", "example.org.", "a", "3com.example", "_srv._tcp.example", "münchen.example", "x-1"])
  func names(_ text: String) { #expect(HostText(text) == .name(text)) }

  @Test("names are the same in capitals")
  func capitals() { #expect(HostText("Example.ORG") == .name("example.org")) }

  @Test(
    "neither",
    arguments: [
      "", ".", "a..b", ".a", "a b", "a\u{0}b", "a\n", "127.1", "2130706433", "1.2.3.4.5", "256.1.1.1",
      "fe80::1%nosuchif0",
      "192.0.2.1%1", "[::1", "12:34", String(repeating: "a", count: 64) + ".example",
      String(repeating: "a.", count: 127) + "aa",
    ])
  func invalid(_ text: String) {
    guard case .invalid(let reason) = HostText(text) else {
      Issue.record("\(text) is no host")
      return
    }
    #expect(!reason.isEmpty)
  }
}
