import NIOCore
import NIOHTTP1
import P2PDNames
import P2PDNet
import Testing

@testable import P2PDNameServer

@Suite struct HTTPConnectionTests {
  private let wire: Wire
  private var service: ScriptedService { wire.service }

  init() throws { wire = try Wire() }

  private func get(_ path: String = "/v1/status", _ headers: String = "") -> String {
    "GET \(path) HTTP/1.1\r\nHost: a\r\n\(headers)\r\n"
  }

  @Test func aConnectionServesOneRequestAfterTheOther() throws {
    #expect(try wire.send(get()).hasSuffix("answer 1"))
    let got = try wire.send(get("/v1/names/n.peer"))
    #expect(got.hasPrefix("HTTP/1.1 200 OK\r\n") && got.contains("\r\ndate: Sun, 06 Nov 1994"))
    #expect(service.asked == [.status, .lookup(try PeerName("n.peer"))])
    #expect(wire.isOpen)
  }

  @Test func aRequestMayComeByteByByte() throws {
    let body = #"{"x":1}"#
    let text = "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    for character in text { try wire.send(String(character)) }
    #expect(service.asked == [.push(try PeerName("n.peer"), body: Array(body.utf8), isDeletion: false)])
    try wire.send(
      "DELETE /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    #expect(service.asked.last == .push(try PeerName("n.peer"), body: Array("abcde".utf8), isDeletion: true))
  }

  @Test("requests sent ahead are answered in their order, one at a time")
  func pipelining() throws {
    service.answersAtOnce = false
    try wire.send(get() + get("/metrics") + get("/v1/names/n.peer"))
    #expect(service.asked == [.status])
    service.waiting[0](.text("first", type: "text/plain"))
    #expect(service.asked.count == 2)
    service.waiting[1](.text("second", type: "text/plain"))
    service.waiting[2](.notFound)
    let got = try wire.look()
    let places = try ["first", "second", "nobody holds"].map { try #require(got.range(of: $0)?.lowerBound) }
    #expect(places == places.sorted())
    service.answersAtOnce = true
    #expect(try wire.send(String(repeating: get(), count: 200)).count(of: "HTTP/1.1 200 OK") == 200)
  }

  @Test func theLastRequestEndsTheConnectionWithItsAnswer() throws {
    let got = try wire.send(get("/v1/status", "Connection: close\r\n") + get())
    #expect(got.count(of: "HTTP/1.1") == 1 && got.contains("connection: close"))
    wire.pass(.seconds(3))
    #expect(!wire.isOpen)
  }

  private static let wrong: [(String, String, Int)] = [
    ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n", 400), ("TLS", "\u{16}\u{3}\u{1}\u{2}\r\n", 400),
    ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", 400), ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("no host", "GET /v1/status HTTP/1.1\r\n\r\n", 400),
    ("two hosts", "GET /v1/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("no such path", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    ("a path that climbs", "GET /v1/names/../status HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a bad name", "GET /v1/names/a%20b.peer HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a broken escape", "GET /v1/names/%zz.peer HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("bytes that are no UTF-8", "GET /v1/names/%ff.peer HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no ending", "GET /v1/names/n HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a name of the DNS", "GET /v1/names/a.b.peer HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("another method", "POST /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
    ("a proxy's request", "CONNECT example.org:80 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    ("a long body", "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 4097\r\n\r\n", 413),
    (
      "a body longer than it may be, in chunks",
      "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n"
        + String(repeating: "x", count: 4097),
      413
    ),
    ("an endless line", "GET /" + String(repeating: "x", count: 9000), 431),
    ("an endless header", "GET / HTTP/1.1\r\nX: " + String(repeating: "x", count: 9000), 431),
    ("many headers", "GET / HTTP/1.1\r\n" + String(repeating: "X: y\r\n", count: 100), 431),
    ("a length that is none", "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    (
      "two lengths",
      "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400
    ),
  ]

  @Test(arguments: wrong) func refuses(_ what: String, _ text: String, _ status: Int) throws {
    let got = try wire.send(text)
    #expect(got.hasPrefix("HTTP/1.1 \(status) "), "\(what): \(got.prefix(300))")
    #expect(got.contains(#"{"error":{"code":""#), "\(what)")
    #expect(service.asked.isEmpty, "\(what)")
    // Whatever comes now, it is open for seconds at most, or serves on.
    try wire.send(String(repeating: "z", count: 50_000))
    wire.pass(.seconds(61))
    #expect(!wire.isOpen, "\(what)")
  }

  @Test func aRefusalWithoutABodyDoesNotEndTheConnection() throws {
    try wire.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try wire.send(get()).hasSuffix("answer 1"))
  }

  @Test("a request to change the protocol is answered as if it did not ask, and ends the connection")
  func upgrade() throws {
    let got = try wire.send(get("/v1/status", "Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    #expect(got.hasPrefix("HTTP/1.1 200 ") && got.contains("connection: close"))
    for _ in 0..<100 { try wire.send(String(repeating: "x", count: 10_000)) }
    wire.pass(.seconds(3))
    #expect(!wire.isOpen)
  }

  @Test func headHasNoBody() throws {
    let got = try wire.send("HEAD /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(got.hasSuffix("\r\n\r\n") && got.contains("content-length: 8"))
    #expect(try wire.send("HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n").hasSuffix("\r\n\r\n"))
  }

  @Test func whoAsksBeforeItSendsABodyIsToldToGoOn() throws {
    let head = "PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    #expect(try wire.send(head) == "HTTP/1.1 100 Continue\r\n\r\n")
    #expect(try wire.send("abc").hasPrefix("HTTP/1.1 200 OK"))
  }

  // MARK: Time

  @Test func whoSaysNothingIsHungUpOn() throws {
    wire.pass(.seconds(9))
    #expect(wire.isOpen)
    wire.pass(.seconds(2))
    #expect(!wire.isOpen && wire.got.isEmpty)
  }

  @Test func headersThatDripInHaveNoMoreTimeThanOthers() throws {
    try wire.send("GET / HTTP/1.1\r\n")
    for number in 0..<12 where wire.isOpen {
      wire.pass(.seconds(1))
      try wire.send("X-\(number): y\r\n")
    }
    #expect(!wire.isOpen)
  }

  @Test func aBodyThatDripsInIsToldSo() throws {
    try wire.send("PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    for _ in 0..<9 {
      wire.pass(.seconds(1))
      #expect(try wire.send("x") == "")
    }
    wire.pass(.seconds(2))
    #expect(try wire.look().hasPrefix("HTTP/1.1 408 "))
    wire.pass(.seconds(3))
    #expect(!wire.isOpen)
  }

  @Test func aConnectionMayRestBetweenRequestsForAMinute() throws {
    try wire.send(get())
    wire.pass(.seconds(59))
    #expect(try wire.send(get()).hasSuffix("answer 2"))
    wire.pass(.seconds(61))
    #expect(!wire.isOpen)
  }

  @Test func anAnswerThatTakesLongIsWaitedFor() throws {
    service.answersAtOnce = false
    try wire.send(get())
    wire.pass(.seconds(300))
    service.waiting[0](.text("late", type: "text/plain"))
    #expect(try wire.look().hasSuffix("late"))
  }

  @Test func aClientThatIsGoneGetsNoAnswer() throws {
    service.answersAtOnce = false
    try wire.send(get())
    try wire.channel.close().wait()
    service.waiting[0](.text("late", type: "text/plain"))
    #expect(try wire.look() == "")
  }

  // MARK: The end

  @Test func theEndOfTheServerEndsWhatRests() throws {
    try wire.send(get())
    wire.connection.stop()
    _ = try wire.look()
    #expect(!wire.isOpen)
  }

  @Test func theEndOfTheServerWaitsForAnAnswer() throws {
    service.answersAtOnce = false
    try wire.send(get() + get())
    wire.connection.stop()
    #expect(wire.isOpen)
    service.waiting[0](.text("last", type: "text/plain"))
    let got = try wire.look()
    #expect(got.hasSuffix("last") && got.contains("connection: close"))
    #expect(service.asked.count == 1, "what was sent ahead is not begun")
  }

  @Test func theEndOfTheServerTellsWhoIsStillSending() throws {
    try wire.send("PUT /v1/names/n.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    wire.connection.stop()
    #expect(try wire.look().hasPrefix("HTTP/1.1 503 "))
  }
}

@Suite struct HTTPDateTests {
  @Test(arguments: [
    (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
    (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (UInt64.max, ""),
  ]) func dates(_ seconds: UInt64, _ text: String) {
    var date = HTTPDate()
    #expect(date.at(seconds) == text)
    #expect(date.at(seconds) == text)
  }
}

@Suite struct SourceTests {
  @Test(arguments: [
    ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false), ("::ffff:192.0.2.1", "192.0.2.1", true),
    ("2001:db8::1", "2001:db8::ffff:2", true), ("2001:db8::1", "2001:db8:0:1::1", false),
  ]) func sources(_ one: String, _ other: String, _ isSame: Bool) throws {
    let (one, other) = (Source(try #require(IPAddress(one))), Source(try #require(IPAddress(other))))
    #expect((one == other) == isSame && (one.bytes == other.bytes) == isSame)
  }

  @Test func theProxyIsBelievedForItsOwnWordOnly() throws {
    let seen = Source(try #require(IPAddress("192.0.2.7")))
    #expect(Source.forwarded(["192.0.2.7"]) == seen)
    #expect(Source.forwarded(["10.0.0.1, 1.1.1.1,  192.0.2.7 "]) == seen)
    #expect(Source.forwarded(["1.1.1.1", "192.0.2.7"]) == seen)
    for lines in [
      [], [""], ["192.0.2.7,"], ["unknown"], ["fe80::1%lo"], ["192.0.2.7:80"], [String(repeating: "1", count: 99)],
    ] {
      #expect(Source.forwarded(lines) == nil, "\(lines)")
    }
  }

  @Test(arguments: [
    ("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false), ("2001:db8::1", false),
  ])
  func loopbackIsThisHost(_ text: String, _ isLoopback: Bool) throws {
    #expect(Source(try #require(IPAddress(text))).isLoopback == isLoopback)
  }

  @Test func addressesToListenOn() throws {
    #expect(try NameServerConfiguration.endpoints("*:80").map(\.description) == ["0.0.0.0:80", "[::]:80"])
    #expect(try NameServerConfiguration.endpoints("[::1]:0").map(\.description) == ["[::1]:0"])
    for text in ["", "80", "::1:80", "*:", "*:99999", "name:80", ":-1"] {
      #expect(throws: NetError.self, "\(text)") { try NameServerConfiguration.endpoints(text) }
    }
  }
}
