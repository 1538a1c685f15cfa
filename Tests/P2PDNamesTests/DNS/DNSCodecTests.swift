import P2PDNet
import Testing

@testable import P2PDNames

@Suite struct DNSCodecTests {
  private func name(_ text: String) throws -> DNSName { try #require(DNSName(text)) }

  @Test("a question is what the standard writes")
  func question() throws {
    var message = DNSMessage()
    message.id = 0x1234
    message.wantsRecursion = true
    message.questions = [DNSQuestion(name: try name("_p2pd.example.org"), type: .txt)]
    let expected: [UInt8] =
      [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5] + Array("_p2pd".utf8) + [7] + Array("example".utf8) + [3]
      + Array("org".utf8) + [0, 0, 16, 0, 1]
    #expect(message.bytes == expected)
    #expect(DNSMessage(expected) == message)
  }

  @Test("every kind of record comes back as it was, and what names share is written once")
  func roundTrip() throws {
    let (host, instance) = (
      try name("host.local"), try #require(DNSName(Array("my. name\u{7}ü".utf8), in: LocalService.type))
    )
    var message = DNSMessage()
    message.isResponse = true
    message.isAuthoritative = true
    message.code = 5
    message.questions = [DNSQuestion(name: instance, type: .any, rawClass: 0x8001)]
    message.answers = [
      DNSRecord(name: LocalService.type, ttl: 4500, data: .ptr(instance)),
      DNSRecord(name: instance, rawClass: 0x8001, ttl: 120, data: .srv(priority: 1, weight: 2, port: 3, target: host)),
      DNSRecord(
        name: instance, rawClass: 0x8001, ttl: 4500,
        data: .txt([Array("a=1".utf8), [], [UInt8](repeating: 7, count: 255)])),
      DNSRecord(name: instance, ttl: 120, data: .nsec(next: instance, types: [.a, .txt, .aaaa, .srv, DNSType(257)])),
    ]
    message.authorities = [
      DNSRecord(name: host, ttl: 120, data: .a(try #require(IPAddress("192.0.2.1")))),
      DNSRecord(name: host, ttl: 120, data: .aaaa(try #require(IPAddress("2001:db8::1")))),
      DNSRecord(name: try name("alias.local"), ttl: 1, data: .cname(host)),
    ]
    message.additionals = [DNSRecord(name: .root, rawClass: 1232, ttl: 0, data: .other(.opt, [1, 2, 3]))]
    let bytes = message.bytes
    let read = try #require(DNSMessage(bytes))
    #expect(read == message)
    #expect(read.questions.first?.wantsUnicast == true && read.answers[1].isUnique && !read.answers[0].isUnique)
    #expect(bytes.count < 600)
    #expect(instance.description == "my\\. name\\007ü._p2pd._udp.local")
  }

  @Test("names do not mind the case of letters, and know their limits")
  func names() throws {
    #expect(try name("Example.LOCAL.") == name("example.local"))
    #expect(try name("Example.LOCAL").hashValue == name("example.local").hashValue)
    #expect(try name("[.local") != name("{.local"))
    #expect(DNSName("") == nil && DNSName("a..b") == nil && DNSName(".") == .root)
    #expect(DNSName(String(repeating: "x", count: 63)) != nil && DNSName(String(repeating: "x", count: 64)) == nil)
    // 127 labels of a letter are 255 bytes with the zero at the end.
    let most = Array(repeating: "x", count: 127).joined(separator: ".")
    #expect(DNSName(most)?.wire.count == 255 && DNSName("y." + most) == nil)
    #expect(try DNSName([1], in: name(most)) == nil)
    #expect(try name("a.b.local").label(under: name("b.LOCAL")).map { Array($0) } == [0x61])
    #expect(try name("a.b.local").label(under: name("local")) == nil && DNSName.root.label(under: .root) == nil)
  }

  /// A message with one question, whose name is these bytes, and what stands in front of it.
  private func read(_ before: [UInt8] = [], _ name: [UInt8]) -> DNSName? {
    // What is in front is a record's data, of a type that nobody knows.
    let header: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    let record: [UInt8] = [0, 0xff, 0, 0, 1, 0, 0, 0, 0, UInt8(before.count >> 8), UInt8(before.count & 0xff)] + before
    return DNSMessage(header + record + name + [0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4])?.answers.last?.name
  }

  @Test("jumps lead backwards, or nowhere")
  func jumps() throws {
    // The data begins at 23.
    #expect(try read([1, 0x61, 0], [0xc0, 23]) == name("a"))
    #expect(try read([1, 0x61, 0, 1, 0x62, 0xc0, 23], [1, 0x63, 0xc0, 26]) == name("c.b.a"))
    #expect(read([], [0xc0, 23]) == nil, "to itself")
    #expect(read([], [1, 0x61, 0xc0, 23]) == nil, "to its own beginning")
    #expect(read([], [0xc0, 25, 0]) == nil, "forwards")
    #expect(read([0xc0, 25, 0xc0, 23], [0xc0, 25]) == nil, "in a circle")
    #expect(read([], [0xc0, 2]) == nil, "into the header")
    #expect(read([], [0xff, 0xff]) == nil, "beyond the end")
    #expect(read([], [0x41, 0x61, 0]) == nil && read([], [0x80, 0]) == nil, "lengths that mean nothing")
    // A chain of jumps: each leads to the one before.
    func chain(_ count: Int) -> [UInt8] {
      var bytes: [UInt8] = [1, 0x61, 0]
      for index in 0..<count { bytes += [0xc0, index == 0 ? 23 : UInt8(24 + 2 * index)] }
      return bytes
    }
    #expect(try read(chain(31), [0xc0, 26 + 60]) == name("a"))
    #expect(read(chain(32), [0xc0, 26 + 62]) == nil, "too many")
  }

  @Test("a name put together of parts is no longer than any other")
  func longNames() {
    let part: [UInt8] = [63] + [UInt8](repeating: 0x61, count: 63)
    let three = part + part + part
    // 3 * 64 + 62 + 1 = 255.
    let fits: [UInt8] = [61] + [UInt8](repeating: 0x62, count: 61) + [0xc0, 23]
    #expect(read(three + [0], fits)?.wire.count == 255)
    let over: [UInt8] = [62] + [UInt8](repeating: 0x62, count: 62) + [0xc0, 23]
    #expect(read(three + [0], over) == nil)
    #expect(read(three + part, [0xc0, 23]) == nil)
  }

  @Test("whatever is cut off or damaged is no message, and nothing is set aside for what is only announced")
  func damaged() throws {
    var message = DNSMessage()
    message.questions = [DNSQuestion(name: try name("a.b"), type: .a)]
    message.answers = [
      DNSRecord(name: try name("c.b"), ttl: 1, data: .srv(priority: 0, weight: 0, port: 1, target: try name("d.b"))),
      DNSRecord(name: try name("c.b"), ttl: 1, data: .txt([[1, 2, 3]])),
    ]
    let bytes = message.bytes
    for count in 0..<bytes.count { #expect(DNSMessage(Array(bytes.prefix(count))) == nil) }
    #expect(DNSMessage(bytes + [1, 2, 3]) == message)
    #expect(DNSMessage([0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]) == nil)
    var luck = SystemRandomNumberGenerator()
    for _ in 0..<5000 {
      var other = bytes
      for _ in 0..<3 { other[Int.random(in: 0..<other.count, using: &luck)] = .random(in: 0...255, using: &luck) }
      if let read = DNSMessage(other) { #expect(DNSMessage(read.bytes) == read) }
    }
  }

  @Test("a set of types that is written wrongly spoils nothing else, as python-zeroconf 0.47 does")
  func wrongTypes() throws {
    let host = try name("box.local")
    var message = DNSMessage()
    message.answers = [DNSRecord(name: host, ttl: 1, data: .other(DNSType(47), host.wire + [0, 0, 0, 4, 0, 0, 0, 8]))]
    let read = try #require(DNSMessage(message.bytes)?.answers.first)
    #expect(read.data == .nsec(next: host, types: []))
  }

  @Test("resolv.conf: the first three servers that can be read, or this host")
  func resolverFile() {
    let text =
      "# nameserver 9.9.9.9\nsearch example.org\nnameserver 192.0.2.1\nnameserver x\n\tnameserver 2001:db8::1 # yes\n"
    #expect(ResolverFile(text).servers.map(\.description) == ["192.0.2.1:53", "[2001:db8::1]:53"])
    #expect(ResolverFile("").servers.map(\.description) == ["127.0.0.1:53"])
    let many = (1...5).map { "nameserver 192.0.2.\($0)\r\n" }.joined()
    #expect(ResolverFile(many).servers.count == 3)
    #expect(ResolverFile.read("/nowhere").servers.count == 1)
  }
}
