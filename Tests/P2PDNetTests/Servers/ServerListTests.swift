import Testing

@testable import P2PDNet

@Suite struct ServerListTests {
  @Test(
    "a URL reads as what it says",
    arguments: [
      ("stun:stun.example.org", "stun", "stun.example.org", 3478, ServerURL.Transport.udp),
      ("STUN://Stun.Example.ORG:19302", "stun", "stun.example.org", 19302, .udp),
      ("stuns:a", "stuns", "a", 5349, .tcp), ("turn:a?transport=tcp", "turn", "a", 3478, .tcp),
      ("turns:a:443?transport=udp", "turns", "a", 443, .tcp), ("mqtt://a/", "mqtt", "a", 1883, .tcp),
      ("mqtts://[2001:db8::1]", "mqtts", "2001:db8::1", 8883, .tcp), ("ntp:192.0.2.1", "ntp", "192.0.2.1", 123, .udp),
      ("mqtt://[::1]:1884", "mqtt", "::1", 1884, .tcp),
    ])
  func url(_ text: String, _ scheme: String, _ host: String, _ port: UInt16, _ transport: ServerURL.Transport) throws {
    let url = try ServerURL(text)
    #expect(url.scheme.rawValue == scheme && url.host == host && url.port == port && url.transport == transport)
    #expect(try ServerURL(url.text) == url)
  }

  @Test("secrets are read, written back, and not shown")
  func secrets() throws {
    let url = try ServerURL("turn://us%20er:p%40ss%3Aw@relay.example:3479?transport=tcp&secret=s%26s")
    #expect(url.user == "us er" && url.password == "p@ss:w" && url.secret == "s&s")
    #expect(try ServerURL(url.text) == url)
    #expect(url.description == "turn:us%20er:***@relay.example:3479?transport=tcp&secret=***")
    #expect(try ServerURL("mqtt://only@b").password == nil)
  }

  @Test(
    "nor are they shown where the URL is wrong",
    arguments: [
      "mqtts://me:hunter2@b:99999", "me:hunter2@b", "turn:me:hunter2@b?transport=x", "turn:me:hunt%zz:hunter2@b",
      "turn:b?what=1&secret=hunter2", "turn:b?secret=hunter2&what=1", "turn:b?secret=hunter2%z", "ftp://hunter2@b",
    ])
  func secretsInMistakes(_ text: String) {
    let error = #expect(throws: NetError.self) { try ServerURL(text) }
    #expect(error?.description.contains("hunter2") == false, "\(String(describing: error))")
    #expect(error?.description.contains("b") == true)
  }

  @Test(
    "what is no server is refused with a reason",
    arguments: [
      "", "a", "ftp://a", "http://a?tld=", "http://a?tld=b.c", "stun:a?tld=b", "https://a/path", "stun:", "stun:a:0",
      "stun:a:65536", "stun:a:x", "mqtt://[::1", "mqtt://[a]", "mqtt://a b",
      "turn:%zz@a", "turn:@a", "turn:u:%2@a", "turn:a?transport=sctp", "turn:a?what=1", "turn:a?secret", "stun:a:b:c",
      "mqtt://a/b", "mqtt://a#b", "stun:ä", "mqtt://" + String(repeating: "a", count: 254),
    ])
  func refused(_ text: String) {
    let error = #expect(throws: NetError.self) { try ServerURL(text) }
    #expect(error?.code == .badAddress && error?.cause.isEmpty == false)
  }

  @Test("without a scheme, the wanted one is meant")
  func plainHost() throws {
    #expect(try ServerURL("203.0.113.1:3479", scheme: .stun).text == "stun:203.0.113.1:3479")
    #expect(try ServerURL("2001:db8::5", scheme: .stun).host == "2001:db8::5")
    #expect(try ServerURL("stuns:a", scheme: .stun).scheme == .stuns)
  }

  @Test("a file has one server a line and comments, and a mistake is named with its line")
  func file() throws {
    let list = try ServerList(
      text: "# mine\nstun:a\n\n  mqtt://b # broker\nmqtt://b\nturn:u:p@c\nntp:d\r\nhttps://e http://f:8?tld=Home\n",
      file: "f")
    #expect(list.stun.count == 1 && list.brokers.map(\.host) == ["b"] && list.turn.count == 1 && list.ntp.count == 1)
    #expect(try ServerList(text: list.text, file: "again") == list)
    let error = #expect(throws: NetError.self) { try ServerList(text: "stun:a\nftp://b\n", file: "my.conf") }
    #expect(error?.what == "read my.conf:2")
    #expect(
      list.summary.map(\.servers) == ["stun:a", "turn:u:***@c", "mqtt://b", "ntp:d", "https://e, http://f:8?tld=home"])
    #expect(list.names.map(\.tld) == [nil, "home"] && list.names.map(\.port) == [443, 8])
  }

  @Test("the environment replaces the groups it names")
  func environment() throws {
    var list = try ServerList.publicServers.overridden(by: [
      "P2PD_STUN": "198.51.100.1:3478, stun:b", "P2PD_BROKERS": "none", "P2PD_TURN": "",
    ])
    #expect(list.stun.map(\.host) == ["198.51.100.1", "b"] && list.brokers.isEmpty)
    #expect(list.ntp == ServerList.publicServers.ntp)
    list = try list.overridden(by: ["P2PD_BROKERS": "mqtt://x mqtts://y"])
    #expect(list.brokers.map(\.scheme) == [.mqtt, .mqtts])
    let error = #expect(throws: NetError.self) { try list.overridden(by: ["P2PD_STUN": "mqtt://x"]) }
    #expect(error?.what == "read P2PD_STUN")
  }

  @Test("a group is bounded")
  func bounded() {
    let urls = (0...ServerList.maximum).map { "stun:s\($0)" }
    #expect(throws: NetError.self) { try ServerList(urls: urls) }
    #expect(throws: Never.self) { try ServerList(urls: urls.dropLast()) }
  }

  @Test("the defaults are whole: several of each kind that has public servers, and every one reads back")
  func defaults() throws {
    let list = ServerList.publicServers
    #expect(
      list.stun.count >= 3 && list.brokers.count >= 2 && list.turn.isEmpty && list.brokers.allSatisfy(\.scheme.isTLS))
    #expect(try ServerList(text: list.text, file: "defaults") == list)
    #expect(ServerList().isEmpty)
  }
}
