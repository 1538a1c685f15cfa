import P2PDNet
import Testing

@testable import P2PDNames

@Suite("Name servers and their sets") struct NameServerURLTests {
  @Test(
    "URLs read and write",
    arguments: [
      ("http://names.example.org", "http://names.example.org"),
      ("HTTPS://Names.Example.ORG/", "https://names.example.org"),
      ("http://192.0.2.1:5300", "http://192.0.2.1:5300"), ("http://[2001:db8::1]:5300", "http://[2001:db8::1]:5300"),
      ("https://[::1]", "https://[::1]"), ("http://h:80", "http://h"), ("https://h:443", "https://h"),
      ("https://h:80", "https://h:80"),
    ])
  func read(text: String, form: String) throws {
    let url = try NameServerURL(text)
    #expect(url.description == form)
    #expect(try NameServerURL(form) == url)
  }

  @Test(
    "what is no name server's URL",
    arguments: [
      "", "h", "h:80", "ftp://h", "http://", "http://h:0", "http://h:65536", "http://h/path", "http://u:p@h",
      "http://h?x=1",
      "http://h#x", "http://a b", "http://[::1", "http://é", "mqtt://h", "http://\"h\"",
      "http://" + String(repeating: "a", count: 400),
    ])
  func refused(text: String) {
    do throws(NetError) {
      _ = try NameServerURL(text)
      Issue.record("taken")
    } catch {
      #expect(error.code == .badAddress)
    }
  }

  @Test("a set: its majority, each server once, and not without any")
  func sets() throws {
    let urls = try (0..<16).map { try NameServerURL("http://h\($0)") }
    for (count, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (15, 8)] {
      #expect(try NameSet(tld: "peer", servers: Array(urls.prefix(count))).majority == majority)
    }
    #expect(try NameSet(tld: "PEER", servers: [urls[0], urls[0]]).servers.count == 1)
    #expect(throws: NetError.self) { try NameSet(tld: "peer", servers: []) }
    #expect(throws: NetError.self) { try NameSet(tld: "peer", servers: urls) }
    #expect(throws: NetError.self) { try NameSet(tld: "pe.er", servers: urls) }
  }
}
