import NIOCore
import P2PDNet
import Testing

@testable import P2PDSignaling

@Suite("Looking at a broker, step by step")
struct BrokerTalkTests {
  private static let broker = Broker(host: "b", port: 1883, tls: false, user: "u", password: "p")
  private static func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(0) + .milliseconds(milliseconds) }

  private func talk() -> BrokerTalk { BrokerTalk(Self.broker, began: Self.at(0), name: "n") }

  private func finding(_ actions: [BrokerTalk.Action]) -> ServerFinding? {
    for case .finish(let finding) in actions { return finding }
    return nil
  }

  @Test("greeting, ping, goodbye: how long each took, and never the password")
  func good() throws {
    var talk = talk()
    let connect = MQTTConnect(clientID: "n", keepAlive: 30, user: "u", password: [0x70])
    #expect(talk.handle(.opened, now: Self.at(40)) == [.send(.connect(connect))])
    #expect(talk.handle(.packet(.connack(sessionPresent: false, code: 0)), now: Self.at(60)) == [.send(.pingreq)])
    let last = talk.handle(.packet(.pingresp), now: Self.at(79))
    let found = try #require(finding(last))
    #expect(found.outcome == .answered && found.setup == .milliseconds(60) && found.roundTrip == .milliseconds(19))
    #expect(found.server == "mqtt://b" && last.first == .send(.disconnect))
    #expect(talk.handle(.timeUp, now: Self.at(99)).isEmpty && talk.handle(.opened, now: Self.at(99)).isEmpty)
  }

  @Test("each way it goes wrong has a name of its own")
  func bad() {
    func outcome(_ events: BrokerTalk.Event...) -> String? {
      var talk = talk()
      var last: [BrokerTalk.Action] = []
      for event in events { last = talk.handle(event, now: Self.at(2300)) }
      return finding(last).map { "\($0.outcome.rawValue): \($0.problem ?? "")" }
    }
    let greeted = BrokerTalk.Event.packet(.connack(sessionPresent: false, code: 0))
    func error(_ code: NetError.Code, _ cause: String) -> BrokerTalk.Event {
      .failed(NetError(code, "x", cause: cause))
    }
    #expect(outcome(error(.refused, "Connection refused")) == "refused: Connection refused")
    #expect(outcome(error(.dns, "no name")) == "no_name: no name")
    #expect(
      outcome(error(.tls, "the peer's certificate is not trusted"))
        == "certificate: the peer's certificate is not trusted")
    #expect(outcome(error(.tls, "the peer does not speak TLS")) == "garbled: the peer does not speak TLS")
    #expect(outcome(error(.unreachable, "no route")) == "unreachable: no route")
    #expect(outcome(.timeUp) == "silent: no answer in 2.3 s")
    #expect(outcome(.opened, .timeUp) == "silent: it took the connection, but does not greet in 2.3 s")
    #expect(outcome(.opened, greeted, .timeUp) == "silent: it greets, but does not answer a ping in 2.3 s")
    #expect(
      outcome(.opened, .packet(.connack(sessionPresent: false, code: 5)))
        == "rejected: the broker lets this client do nothing")
    #expect(outcome(.opened, .packet(.pingresp)) == "garbled: it says something else than an MQTT broker would")
    #expect(outcome(.opened, .garbled("no MQTT")) == "garbled: no MQTT")
    #expect(outcome(.opened, error(.closed, "it ended it")) == "garbled: it ended it")
    #expect(outcome(.opened, greeted, error(.reset, "reset")) == "refused: reset")
  }
}

@Suite("Looking at brokers", .timeLimit(.minutes(1)))
struct BrokerCheckTests {
  private func look(_ broker: Broker, ca: String? = nil, patience: TimeAmount = .seconds(20)) async throws
    -> ServerFinding
  {
    let tls = broker.tls ? try TLSSetup.client(caFile: ca) : nil
    let loop = sharedLoop
    return try await loop.flatSubmit { BrokerCheck.run(broker, tls: tls, patience: patience, on: loop) }.get()
  }

  @Test("a real broker, plain and with TLS", .enabled(if: !Mosquitto.isMissing, Mosquitto.whyMissing))
  func mosquitto() async throws {
    let broker = try await Mosquitto.start(tls: true)
    let plain = try await look(Broker(host: "127.0.0.1", port: broker.port, tls: false))
    #expect(plain.outcome == .answered && plain.problem == nil, "\(plain)")
    let (setup, roundTrip) = (try #require(plain.setup), try #require(plain.roundTrip))
    #expect(setup > .zero && roundTrip > .zero && roundTrip < .seconds(10))
    let port = try #require(broker.tlsPort)
    let own = Mosquitto.fixtures + "/ca.pem"
    let trusted = try await look(Broker(host: "localhost", port: port, tls: true), ca: own)
    #expect(trusted.outcome == .answered, "\(trusted)")
    // The machine's own authorities do not vouch for the fixture.
    let strange = try await look(Broker(host: "localhost", port: port, tls: true))
    #expect(strange.outcome == .certificate && strange.problem?.contains("not trusted") == true, "\(strange)")
    let mixed = try await look(Broker(host: "localhost", port: broker.port, tls: true), patience: .seconds(3))
    #expect([.garbled, .silent, .failed, .refused].contains(mixed.outcome), "\(mixed)")
    await broker.stop()
    let gone = try await look(Broker(host: "127.0.0.1", port: broker.port, tls: false))
    #expect(gone.outcome == .refused, "\(gone)")
  }

  @Test("a broker that is stopped in its tracks is silent", .enabled(if: !Mosquitto.isMissing, Mosquitto.whyMissing))
  func frozen() async throws {
    let broker = try await Mosquitto.start()
    broker.freeze()
    let found = try await look(
      Broker(host: "127.0.0.1", port: broker.port, tls: false), patience: .milliseconds(300))
    broker.thaw()
    #expect(found.outcome == .silent && found.problem?.contains("does not greet") == true, "\(found)")
    await broker.stop()
  }

  @Test("a broker that wants a password", .enabled(if: !Mosquitto.isMissing, Mosquitto.whyMissing))
  func password() async throws {
    let broker = try await Mosquitto.start(extra: "allow_anonymous false")
    let found = try await look(Broker(host: "127.0.0.1", port: broker.port, tls: false))
    #expect(found.outcome == .rejected, "\(found)")
    await broker.stop()
  }
}
