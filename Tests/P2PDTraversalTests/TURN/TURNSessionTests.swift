import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// Plays a server for a ``TURNSession`` by hand.
private struct Play {
  var session: TURNSession
  var now: Int64 = 0
  var asked: [(number: Int, message: STUNMessage, signature: STUNSignature?)] = []
  var wakes: NIODeadline?
  var told: [String] = []

  init(_ relaying: TURNSession.Relaying = .tcp, server: String = "198.51.100.1:3478", login: TURNLogin? = ann) {
    session = TURNSession(relaying, at: ep(server), login: login)
  }

  static let ann = TURNLogin(user: "ann", password: "secret")

  mutating func tell(_ event: TURNSession.Event) {
    for action in session.handle(event, now: at(now)) {
      switch action {
      case .ask(let number, let message, let signature): asked.append((number, message, signature))
      case .wait(let time): wakes = time
      case .allocated(let address): told.append("allocated \(address.relayed)")
      case .permitted(let ip): told.append("permitted \(ip)")
      case .refused(let ip, let error): told.append("refused \(ip) \(error.code.rawValue)")
      case .bound(let peer, let channel): told.append("bound \(peer) \(String(channel, radix: 16))")
      case .unbound(let peer, let error): told.append("unbound \(peer) \(error.code.rawValue)")
      case .redirected(let other, _): told.append("redirected \(other)")
      case .needsAnotherPort: told.append("needs another port")
      case .ended(let error): told.append("ended \(error?.code.rawValue ?? "")")
      }
    }
  }

  /// The oldest question that was not answered.
  mutating func next() -> (number: Int, message: STUNMessage, signature: STUNSignature?) {
    asked.isEmpty ? (0, STUNMessage(.request, .binding), nil) : asked.removeFirst()
  }

  mutating func fail(_ code: Int, _ attributes: [STUNAttribute] = []) {
    let question = next()
    tell(
      .answered(
        question.number,
        STUNMessage(.failure, question.message.method, attributes: [.errorCode(code, "")] + attributes)))
  }

  mutating func challenge(
    _ code: Int = 401, nonce: String = "n1", realm: String? = "test", _ more: [STUNAttribute] = []
  ) {
    fail(code, [.nonce(Array(nonce.utf8))] + (realm.map { [.realm($0)] } ?? []) + more)
  }

  mutating func succeed(_ attributes: [STUNAttribute] = []) {
    let question = next()
    tell(.answered(question.number, STUNMessage(.success, question.message.method, attributes: attributes)))
  }

  mutating func allocate(_ relayed: String = "198.51.100.1:40000", lifetime: UInt32 = 600) {
    tell(.start)
    challenge()
    succeed([.xorRelayedAddress(ep(relayed)), .lifetime(lifetime), .xorMappedAddress(ep("203.0.113.1:5000"))])
  }

  /// Lets the time pass until the session wants to be woken.
  mutating func sleep() -> Int64 {
    guard let wakes else { return -1 }
    now = Int64(wakes.uptimeNanoseconds / 1_000_000)
    self.wakes = nil
    tell(.timer)
    return now / 1000
  }
}

private let peer = IPAddress("203.0.113.9") ?? .wildcard(.v4)

@Suite("A TURN allocation, step by step")
struct TURNSessionTests {
  @Test("asked without a word, then signed with the realm and nonce of the 401; refreshed a minute before its end")
  func life() throws {
    var play = Play()
    play.tell(.start)
    #expect(play.asked.count == 1 && play.asked[0].signature == nil)
    #expect(play.asked[0].message.attributes == [.requestedTransport(6)])
    play.challenge()
    let signed = play.asked[0]
    #expect(
      signed.message.attributes
        == [.requestedTransport(6), .username("ann"), .realm("test"), .nonce(Array("n1".utf8))])
    let key = try #require(STUNKey.longTerm(username: "ann", realm: "test", password: "secret"))
    #expect(signed.signature == STUNSignature(key: key, sha256: false))
    play.succeed([.xorRelayedAddress(ep("198.51.100.1:40000")), .lifetime(600)])
    #expect(play.told == ["allocated 198.51.100.1:40000"])
    #expect(play.sleep() == 540)
    #expect(play.asked[0].message.method == .refresh && play.asked[0].signature != nil)
    play.succeed([.lifetime(600)])
    #expect(play.sleep() == 1080)
    // A short life is refreshed at its half, one of no length is not believed.
    play.succeed([.lifetime(1)])
    #expect(play.sleep() == 1085)
  }

  @Test("permissions are asked for anew every four minutes, a refused one is told and forgotten")
  func permissions() {
    var play = Play()
    play.tell(.permit(peer))
    #expect(play.told == ["refused \(peer) closed"])
    play.told = []
    play.allocate()
    play.tell(.permit(peer))
    play.tell(.permit(peer))
    #expect(play.asked.count == 1 && play.asked[0].message.peer?.ip == peer)
    play.succeed()
    #expect(play.told.last == "permitted \(peer)")
    #expect(play.sleep() == 240)
    // The server does not answer: once more in five seconds.
    play.tell(.unanswered(play.next().number, NetError(.timeout, "ask")))
    #expect(play.sleep() == 245)
    play.succeed()
    #expect(play.told.count == 2)
    #expect(play.sleep() == 485)
    play.fail(403)
    #expect(play.told.last == "refused \(peer) permission")
    play.tell(.permit(peer))
    #expect(play.asked.count == 1)
    for number in 0..<100 { play.tell(.permit(IPAddress(family: .v4, high: UInt64(number) << 32, low: 0))) }
    #expect(play.asked.count == 64 && play.told.last?.hasSuffix("limit") == true)
  }

  @Test("channels are numbered from 0x4000, kept alive, and there are none with streams")
  func channels() {
    var play = Play(.udp)
    play.allocate()
    let (a, b) = (ep("203.0.113.9:1"), ep("203.0.113.9:2"))
    play.tell(.bind(a))
    play.tell(.bind(b))
    play.tell(.bind(a))
    #expect(play.asked.map(\.message.attributes.first) == [.channelNumber(0x4000), .channelNumber(0x4001)])
    play.succeed()
    play.fail(486)
    #expect(play.told.suffix(2) == ["bound \(a) 4000", "unbound \(b) limit"])
    #expect(play.sleep() == 240)
    #expect(play.asked.count == 1 && play.asked[0].message.attributes.first == .channelNumber(0x4000))
    var streams = Play(.tcp)
    streams.allocate()
    streams.tell(.bind(a))
    #expect(streams.told.last == "unbound \(a) limit")
  }

  @Test("a nonce that went stale is replaced, in the middle and with several questions open")
  func stale() {
    var play = Play()
    play.allocate()
    play.tell(.permit(peer))
    play.challenge(438, nonce: "n2", realm: nil)
    #expect(play.asked[0].message.nonce == Array("n2".utf8) && play.asked[0].message.realm == "test")
    play.succeed()
    #expect(play.told.last == "permitted \(peer)")
    #expect(play.sleep() == 240)
    #expect(play.asked[0].message.nonce == Array("n2".utf8))
  }

  @Test("a server that never lets anybody in is left: the same 401 again, a nonce that is always stale")
  func never() {
    var refused = Play()
    refused.tell(.start)
    refused.challenge()
    refused.challenge(401, nonce: "n2")
    #expect(refused.told == ["ended permission"] && refused.asked.isEmpty)
    for code in [401, 438] {
      var play = Play()
      play.tell(.start)
      for round in 0..<10 where !play.asked.isEmpty { play.challenge(code, nonce: "n\(round)", realm: "r\(round)") }
      #expect(play.told == ["ended permission"])
    }
    var nobody = Play(login: nil)
    nobody.tell(.start)
    nobody.challenge()
    #expect(nobody.told == ["ended permission"])
    var broken = Play()
    broken.tell(.start)
    broken.fail(401)
    #expect(broken.told == ["ended io"])
    var long = Play()
    long.tell(.start)
    long.challenge(nonce: String(repeating: "x", count: 764))
    #expect(long.told == ["ended io"])
  }

  @Test("SHA-256 where it is offered, the user's name hidden where the nonce says so, no way back to the weaker hash")
  func algorithms() throws {
    // The nonce cookie, and the bits for password algorithms and hidden names.
    var play = Play()
    play.tell(.start)
    play.challenge(nonce: "obMatJos2wAAAxyz", [.passwordAlgorithms([.sha256, .md5])])
    let question = play.asked[0]
    let key = try #require(
      STUNKey.longTerm(username: "ann", realm: "test", password: "secret", algorithm: .sha256))
    #expect(question.signature == STUNSignature(key: key, sha256: true))
    #expect(
      question.message.attributes.contains(.userHash(STUNKey.userHash(username: "ann", realm: "test")))
        && question.message.attributes.contains(.passwordAlgorithms([.sha256, .md5]))
        && question.message.attributes.contains(.passwordAlgorithm(.sha256)))
    #expect(!question.message.attributes.contains(.username("ann")))
    var stripped = Play()
    stripped.tell(.start)
    stripped.challenge(nonce: "obMatJos2gAAAxyz")
    #expect(stripped.told == ["ended io"])
    var foreign = Play()
    foreign.tell(.start)
    foreign.challenge(401, [.passwordAlgorithms([STUNPasswordAlgorithm(number: 9)])])
    #expect(foreign.told == ["ended unsupported"])
    // An answer with the weaker check value is none where the stronger was agreed on.
    let answer = try STUNMessage(
      decoding: STUNMessage(.success, .allocate, attributes: [.lifetime(1)]).encoded(key: key))
    #expect(answer.isAuthentic(STUNSignature(key: key)) && !answer.isAuthentic(STUNSignature(key: key, sha256: true)))
  }

  @Test("errors of an Allocate each have their meaning")
  func errors() {
    let meanings: [(Int, String)] = [
      (400, "unsupported"), (403, "permission"), (440, "unsupported"), (441, "permission"), (442, "unsupported"),
      (486, "limit"), (500, "io"), (508, "limit"), (699, "io"),
    ]
    for (code, word) in meanings {
      var play = Play()
      play.tell(.start)
      play.challenge()
      play.fail(code)
      #expect(play.told == ["ended \(word)"], "\(code)")
    }
    var other = Play()
    other.tell(.start)
    other.fail(300, [.alternateServer(ep("198.51.100.2:3478"))])
    #expect(other.told == ["redirected 198.51.100.2:3478"])
    var nowhere = Play()
    nowhere.tell(.start)
    nowhere.fail(300)
    #expect(nowhere.told == ["ended io"])
    var taken = Play()
    taken.tell(.start)
    taken.challenge()
    taken.fail(437)
    #expect(taken.told == ["needs another port"])
  }

  @Test("an allocation the server has forgotten is over, and so is one that nobody answers for")
  func lost() {
    for event in ["permit", "refresh"] {
      var play = Play()
      play.allocate()
      if event == "permit" { play.tell(.permit(peer)) } else { _ = play.sleep() }
      play.fail(437)
      #expect(play.told.last == "ended closed")
    }
    var silent = Play()
    silent.allocate(lifetime: 100)
    #expect(silent.sleep() == 50)
    while silent.told.last != "ended timeout", silent.now < 1_000_000 {
      silent.tell(.unanswered(silent.next().number, NetError(.timeout, "ask")))
      if silent.told.last?.hasPrefix("ended") != true { _ = silent.sleep() }
    }
    #expect(silent.now == 100_000)
  }

  @Test("an address that no peer can use, or that is not the server's to give, is not taken")
  func relayed() {
    func end(_ server: String, _ relayed: String) -> String? {
      var play = Play(server: server)
      play.allocate(relayed)
      return play.told.last
    }
    #expect(end("198.51.100.1:3478", "10.0.0.1:40000") == "ended bad_address")
    #expect(end("198.51.100.1:3478", "127.0.0.1:40000") == "ended bad_address")
    #expect(end("10.0.0.2:3478", "127.0.0.1:40000") == "ended bad_address")
    #expect(end("198.51.100.1:3478", "224.0.0.1:40000") == "ended bad_address")
    #expect(end("198.51.100.1:3478", "0.0.0.0:40000") == "ended bad_address")
    #expect(end("198.51.100.1:3478", "198.51.100.7:0") == "ended bad_address")
    #expect(end("10.0.0.2:3478", "10.0.0.2:40000") == "allocated 10.0.0.2:40000")
    #expect(end("127.0.0.1:3478", "127.0.0.1:40000") == "allocated 127.0.0.1:40000")
    var none = Play()
    none.tell(.start)
    none.succeed()
    #expect(none.told == ["ended io"])
    #expect(!TURNSession.mayRedirect(from: ep("198.51.100.1:1"), to: ep("192.168.1.1:3478")))
    #expect(!TURNSession.mayRedirect(from: ep("192.168.1.1:1"), to: ep("127.0.0.1:3478")))
    #expect(TURNSession.mayRedirect(from: ep("192.168.1.1:1"), to: ep("192.168.1.2:3478")))
  }

  @Test("closed: it is given back, also where its answer was still on the way")
  func close() {
    var play = Play()
    play.allocate()
    play.tell(.permit(peer))
    play.succeed()
    play.tell(.close)
    #expect(play.asked.count == 1 && play.asked[0].message.lifetime == 0)
    play.challenge(438, nonce: "n9")
    #expect(play.asked[0].message.lifetime == 0)
    play.succeed([.lifetime(0)])
    #expect(play.told.last == "ended ")
    play.tell(.timer)
    play.tell(.permit(peer))
    #expect(play.asked.isEmpty)
    var early = Play()
    early.tell(.start)
    early.tell(.close)
    #expect(early.told == ["ended "])
    var late = Play()
    late.tell(.start)
    late.challenge()
    late.tell(.close)
    #expect(late.told.isEmpty)
    late.succeed([.xorRelayedAddress(ep("198.51.100.1:40000")), .lifetime(600)])
    #expect(late.told.isEmpty && late.asked.last?.message.lifetime == 0)
    late.fail(437)
    #expect(late.told == ["ended "])
  }

  @Test("credentials of limited life: a name that is a date, a password made of it")
  func secret() throws {
    let url = try ServerURL("turn:ann@relay.example.org?secret=natlab-secret")
    let login = try #require(TURNCredentials(url)?.login(at: 1_699_913_600))
    #expect(login.user == "1700000000:ann")
    // printf %s 1700000000:ann | openssl dgst -sha1 -hmac natlab-secret -binary | base64
    #expect(login.password == "tsw5SYh3uSlCGslBsFKpML6ght0=")
    let plain = try #require(TURNCredentials(try ServerURL("turn:h?secret=natlab-secret"))?.login(at: 1_699_913_600))
    #expect(plain.user == "1700000000" && plain.password == "He5yzCSHDsCsRIDDLgfJgXlgRtA=")
    #expect(TURNCredentials(try ServerURL("turn:h")) == nil)
    #expect(TURNCredentials(try ServerURL("turn:ann@h")) == nil)
    #expect(
      TURNCredentials(try ServerURL("turn:ann:pw@h"))?.login(at: 0) == TURNLogin(user: "ann", password: "pw"))
    #expect(
      [[], [0], [0, 1], [0, 1, 2], [255, 254, 253, 252]].map(Base64.encode) == ["", "AA==", "AAE=", "AAEC", "//79/A=="])
  }
}
