import P2PDNet
import Testing

@testable import P2PDTraversal

/// Lines of a text, each ended as the network does.
func crlf(_ text: String) -> [UInt8] {
  Array(text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n").utf8)
}

@Suite("HTTP answers, read as they come")
struct HTTPReaderTests {
  /// Reads the text in pieces of that size; what stands in the answer's body, or the error's name.
  private func read(_ text: [UInt8], limit: Int = 1000, pieces: Int = .max, ends: Bool = true) -> String {
    var reader = HTTPReader(limit: limit)
    do throws(HTTPError) {
      var rest = text[...]
      while !rest.isEmpty {
        let piece = Array(rest.prefix(pieces))
        rest = rest.dropFirst(piece.count)
        var answer: HTTPAnswer?
        var failure: HTTPError?
        piece.withUnsafeBytes { bytes in
          do throws(HTTPError) { answer = try reader.take(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        if let answer { return "\(answer.head.status) \(String(decoding: answer.body, as: UTF8.self))" }
      }
      guard ends else { return "more" }
      let answer = try reader.end()
      return "\(answer.head.status) \(String(decoding: answer.body, as: UTF8.self)) at the end"
    } catch {
      return "\(error)"
    }
  }

  @Test("a length, chunks, the end of the stream; whole, and byte by byte", arguments: [1, 2, 7, 10_000])
  func bodies(_ pieces: Int) {
    func play(_ text: String) -> String { read(crlf(text), pieces: pieces) }
    #expect(play("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello and more") == "200 hello")
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3;x=y\nhel\n2\nlo\n0\nT: 1\n\n") == "200 hello")
    #expect(play("HTTP/1.0 500 No\n\nhello") == "500 hello at the end")
    #expect(play("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 0\n\n") == "200 ")
    #expect(play("HTTP/1.1 204 None\n\n") == "204 ")
    #expect(read(Array("HTTP/1.1 200 OK\ncontent-LENGTH:5\n\nhello".utf8), pieces: pieces) == "200 hello", "LF alone")
  }

  @Test("nothing is read that is too long, broken or something else", arguments: [1, 10_000])
  func hostile(_ pieces: Int) {
    func play(_ text: String, limit: Int = 10) -> String { read(crlf(text), limit: limit, pieces: pieces) }
    #expect(play("HTTP/1.1 200 OK\nContent-Length: 1000000000\n\n") == "\(HTTPError.tooLong)")
    #expect(play("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999999\n\n") == "\(HTTPError.tooLong)")
    #expect(play("HTTP/1.1 200 OK\nContent-Length: -5\n\n") == "\(HTTPError.notHTTP)")
    #expect(play("HTTP/1.1 200 OK\n\nhello world!") == "\(HTTPError.tooLong)")
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n8\nhelloooo\n3\n") == "\(HTTPError.tooLong)")
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nffffffffff\n") == "\(HTTPError.badChunk)")
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n-1\n") == "\(HTTPError.badChunk)")
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nhe") == "\(HTTPError.badChunk)")
    #expect(play("HTTP/1.1 200 OK\nContent-Length: 5\n\nhell") == "\(HTTPError.cutShort)")
    #expect(play("HTTP/1.1 200") == "\(HTTPError.cutShort)")
    #expect(play("") == "\(HTTPError.notHTTP)")
    #expect(play("SSH-2.0-OpenSSH_9.2\n") == "\(HTTPError.notHTTP)")
    #expect(play("HTTP/1.1 200 OK\nX: \(String(repeating: "x", count: 9000))\n\n") == "\(HTTPError.tooLong)")
    let drops = (0..<70_000).map { _ in "1\nx\n" }.joined()
    #expect(play("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n\(drops)", limit: 1 << 20) == "\(HTTPError.tooLong)")
  }

  @Test("heads: fields by name, oddities passed over")
  func heads() {
    let head = HTTPHead(
      crlf("HTTP/1.1 200 OK\nLOCATION:  http://x/ \n folded\nbad line\nlocation: second\n\nST: after"))
    #expect(head?.status == 200 && head?["Location"] == "http://x/" && head?["st"] == nil)
    for text in ["", "HTTP/1.1", "HTTP/1.1 20 OK", "HTTP/2 200 OK", "NOTIFY * HTTP/1.1\nST: x", "HTTP/1.1 2x0 OK"] {
      #expect(HTTPHead(crlf(text)) == nil, "\(text)")
    }
  }
}

@Suite("XML, the part that UPnP needs")
struct XMLElementTests {
  private func shape(_ element: XMLElement) -> String {
    "\(element.name)[\(element.text)]" + element.children.map { "(" + shape($0) + ")" }.joined()
  }

  private func parse(_ text: String) -> String {
    do throws(XMLError) { return shape(try XMLElement.parse(Array(text.utf8))) } catch { return "\(error)" }
  }

  @Test("elements, prefixes, attributes, comments, literal text, references")
  func documents() {
    #expect(parse("<a/>") == "a[]")
    #expect(
      parse("\u{feff}<?xml version=\"1.0\"?>\n<!-- <b> --><s:a x='>' y=\"/>\"> t <b>u</b><c/>v</s:a> after")
        == "a[t v](b[u])(c[])")
    #expect(parse("<a>&lt;&#65;&#x42;&amp;lt; AT&T &nbsp; &unknown;</a>") == "a[<AB&lt; AT&T &nbsp; &unknown;]")
    #expect(parse("<a><![CDATA[<b>&amp;]]></a>") == "a[<b>&amp;]")
  }

  @Test("what is broken, too deep, too large or wants entities is refused")
  func hostile() {
    for text in [
      "", "x", "<", "<a", "<a>", "</a>", "<a></b>", "<a b=\"", "<a <b>", "< a/>", "<!-- ", "<![CDATA[x]]>",
      "<a><![CDATA[x</a>",
    ] {
      #expect(parse(text) == "\(XMLError.malformed)", "\(text)")
    }
    let laughs = "<!DOCTYPE a [<!ENTITY b \"ha\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>"
    #expect(parse(laughs) == "\(XMLError.documentType)")
    let deep = String(repeating: "<a>", count: 100) + String(repeating: "</a>", count: 100)
    #expect(parse(deep) == "\(XMLError.tooDeep)")
    #expect(parse("<a>" + String(repeating: "<b/>", count: 5000) + "</a>") == "\(XMLError.tooLong)")
    #expect(parse("<a>" + String(repeating: "x", count: 300_000) + "</a>") == "\(XMLError.tooLong)")
  }
}

@Suite("UPnP's documents")
struct UPnPDocumentTests {
  private let router = ep("192.168.1.1:0").ip

  @Test("places on the router, and none elsewhere")
  func places() {
    func place(_ text: String, _ base: HTTPPlace? = nil) -> String? {
      HTTPPlace(text, host: router, base: base).map { "\($0.port)\($0.path)" }
    }
    #expect(place("http://192.168.1.1:5000/root.xml") == "5000/root.xml" && place("HTTP://192.168.1.1") == "80/")
    let base = HTTPPlace("http://192.168.1.1:5000/", host: router)
    #expect(place("/ctl/IP", base) == "5000/ctl/IP" && place("ctl/IP?x#y", base) == "5000/ctl/IP?x")
    for text in [
      "http://192.168.1.2:5000/root.xml", "http://8.8.8.8/", "http://router/", "https://192.168.1.1/",
      "http://user@192.168.1.1/", "http://192.168.1.1:0/", "http://192.168.1.1:99999/", "ftp://192.168.1.1/",
      "/a b", "/a\r\nHost: evil", "/\(String(repeating: "x", count: 300))", "http://192.168.1.1@8.8.8.8/", "http://",
    ] { #expect(place(text) == nil, "\(text)") }
    // Over IPv6 the router names another of its addresses; the request goes to the one we know.
    let six = ep("[fe80::1]:0").ip
    #expect(HTTPPlace("http://[2001:db8::1]:5000/x", host: six)?.port == 5000)
    #expect(HTTPPlace("http://192.168.1.1:5000/x", host: six) == nil)
  }

  @Test("answers to a search")
  func search() {
    let text = """
      HTTP/1.1 200 OK
      CACHE-CONTROL: max-age=120
      ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1
      LOCATION: http://192.168.1.1:5000/rootDesc.xml
      SERVER: Debian/12 UPnP/1.1 MiniUPnPd/2.3.1


      """
    let answer = SSDPAnswer(crlf(text))
    #expect(answer?.isGateway == true && answer?.location == "http://192.168.1.1:5000/rootDesc.xml")
    #expect(SSDPAnswer(crlf(text.replacing("InternetGatewayDevice", with: "MediaServer")))?.isGateway == false)
    #expect(SSDPAnswer(crlf("HTTP/1.1 200 OK\nST: x\n\n")) == nil && SSDPAnswer(crlf("NOTIFY * HTTP/1.1\n\n")) == nil)
    let searches = SSDP.searches(router)
    #expect(searches.map { "\($0.to)" } == ["239.255.255.250:1900", "239.255.255.250:1900", "192.168.1.1:1900"])
    #expect(String(decoding: searches[0].bytes, as: UTF8.self).hasSuffix("InternetGatewayDevice:1\r\n\r\n"))
  }

  @Test("a description: its name, its services, the best first; those elsewhere and of other kinds are left out")
  func description() throws {
    func service(_ type: String, _ control: String) -> String {
      "<service><serviceType>urn:schemas-upnp-org:service:\(type)</serviceType><controlURL>\(control)</controlURL></service>"
    }
    let services = [
      service("Layer3Forwarding:1", "/l3"), service("WANPPPConnection:1", "/ppp"), service("WANIPConnection:1", "/ip1"),
      service("WANIPConnection:2", "http://192.168.1.1:5000/ip2"), service("WANIPConnection:2", "http://8.8.8.8/ip3"),
      service("WANIPv6FirewallControl:1", "six"), service("WANIPConnection:99999", "/x"),
      service("WANIPConnection", "/x"),
    ].joined()
    let text = """
      <root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://192.168.1.1:5001/</URLBase><device>
      <friendlyName>My\u{1b}[31m router</friendlyName><deviceList><device><deviceList><device>
      <serviceList>\(services)</serviceList></device></deviceList></device></deviceList></device></root>
      """
    let place = try #require(HTTPPlace("/root.xml", host: router))
    let found = try UPnPDescription(Array(text.utf8), host: router, at: place)
    #expect(found.name == "My [31m router")
    #expect(
      found.services(.v4).map { "\($0.type) \($0.place.port)\($0.place.path)" } == [
        "urn:schemas-upnp-org:service:WANIPConnection:2 5000/ip2",
        "urn:schemas-upnp-org:service:WANIPConnection:1 5001/ip1",
        "urn:schemas-upnp-org:service:WANPPPConnection:1 5001/ppp",
      ])
    #expect(found.services(.v6).map(\.place.path) == ["/six"])
    #expect(throws: XMLError.self) { try UPnPDescription(Array("<root/>".utf8), host: router, at: place) }
  }

  @Test("calls and answers, with errors")
  func soap() throws {
    let place = try #require(HTTPPlace("http://192.168.1.1:5000/ctl", host: router))
    let service = try #require(UPnPService("urn:schemas-upnp-org:service:WANIPConnection:1", at: place))
    let call = SOAPCall(service, "Do", ["A": "1 < 2 & 3", "B": ""])
    #expect(call.body.contains("<A>1 &lt; 2 &amp; 3</A><B></B></u:Do>"))
    let request = String(decoding: call.request(host: "192.168.1.1:5000"), as: UTF8.self)
    #expect(request.contains("SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#Do\"\r\n"))
    #expect(
      request.contains("Content-Length: \(call.body.utf8.count)\r\n") && request.hasPrefix("POST /ctl HTTP/1.1\r\n"))
    func answer(_ inner: String) -> SOAPAnswer? {
      try? SOAPAnswer(Array("<s:Envelope><s:Body>\(inner)</s:Body></s:Envelope>".utf8), to: "Do")
    }
    #expect(answer("<u:DoResponse><X>1</X><Y/></u:DoResponse>") == .done(["X": "1", "Y": ""]))
    #expect(
      answer(
        "<s:Fault><faultstring>UPnPError</faultstring><detail><UPnPError><errorCode>718</errorCode><errorDescription>Conflict</errorDescription></UPnPError></detail></s:Fault>"
      ) == .failed(UPnPFault(code: 718, text: "Conflict")))
    #expect(answer("<s:Fault/>") == .failed(UPnPFault(code: 0)))
    #expect(answer("<u:OtherResponse/>") == nil && answer("") == nil)
  }
}
