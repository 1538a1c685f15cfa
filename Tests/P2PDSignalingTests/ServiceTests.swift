import Foundation
import NIOCore
import P2PDNet
import Testing

@testable import P2PDSignaling

/// Signalling over real mosquitto brokers.
@Suite(.disabled(if: Mosquitto.isMissing, Mosquitto.whyMissing)) struct ServiceTests {
  @Test("a message and an answer, over TCP and over TLS", arguments: [false, true])
  func oneBroker(_ tls: Bool) async throws {
    try await withSignalling { world in
      let mosquitto = try await world.mosquitto(tls: true)
      let broker = tls ? mosquitto.encrypted : mosquitto.plain
      let roots = ServerTLS(caFile: Mosquitto.fixtures + "/ca.pem", on: sharedLoop)
      let (alice, bob) = try await world.pair([broker], tls: roots)
      #expect(try await bob.on { bob.service.brokers } == [broker])
      #expect(try await alice.send("hello", to: bob, [broker]) == broker)
      let got = try await bob.messages(1)
      #expect(got[0].sender == alice.key && got[0].text == "hello" && got[0].broker == broker)
      try await bob.on { bob.answers = { $0.wantsAnswer ? Array("re: ".utf8) + $0.bytes : nil } }
      let answer = try await alice.ask("how are you", bob, [broker])
      #expect(String(decoding: answer.bytes, as: UTF8.self) == "re: how are you" && answer.broker == broker)
      #expect(answer.roundTrip > .zero && answer.roundTrip <= answer.total && answer.total < .seconds(2))
    }
  }

  @Test("a broker whose certificate nobody vouches for is not used, and the reason is told")
  func untrusted() async throws {
    try await withSignalling { world in
      let broker = try await world.mosquitto(tls: true).encrypted
      let (alice, bob) = (try await world.signaller([broker]), try await world.signaller([]))
      let error = await #expect(throws: NetError.self) {
        try await alice.ask("x", bob, [broker], timeout: .seconds(1))
      }
      #expect(error?.code == .tls && error?.description.contains("not trusted") == true, "\(String(describing: error))")
    }
  }

  @Test("over two brokers each message arrives once, whichever is faster")
  func twoBrokers() async throws {
    try await withSignalling { world in
      let brokers = [try await world.mosquitto().plain, try await world.mosquitto().plain]
      let (alice, bob) = try await world.pair(brokers)
      for n in 0..<50 { _ = try await alice.send("\(n)", to: bob, brokers) }
      let got = try await bob.messages(50)
      #expect(Set(got.map(\.text)) == Set((0..<50).map(String.init)))
      // The second copies are on their way: all of them come, and none is handed out.
      try await bob.until("the second copies") { _ in bob.service.stats[.duplicate] >= 50 }
      #expect(try await bob.messages(50).count == 50)
    }
  }

  @Test("one broker dead, one refusing, one that never answers: the fourth carries it at once")
  func badCompany() async throws {
    try await withSignalling { world in
      let mosquitto = try await world.mosquitto()
      let dead = try world.dead()
      let refusing = try await world.scripted(Self.refusal(code: 5)).broker
      let silent = try await world.scripted { _ in [] }.broker
      let brokers = [dead, refusing, silent, mosquitto.plain]
      var conf = SignalingConf()
      conf.brokersInUse = 4
      let (alice, bob) = (
        try await world.signaller(brokers, conf: conf), try await world.signaller(brokers, conf: conf)
      )
      try await bob.untilUp(1)
      try await bob.on { bob.answers = { _ in [1] } }
      let began = Date()
      #expect(try await alice.ask("x", bob, brokers).broker == mosquitto.plain)
      #expect(Date().timeIntervalSince(began) < 2)
      let states = try await bob.on { bob.service.status }
      let reasons = Dictionary(uniqueKeysWithValues: states.map { ($0.broker, $0.error?.code) })
      #expect(reasons[dead] == .refused && reasons[refusing] == .permission)
      #expect(reasons[mosquitto.plain] == .some(nil))
      // The one that never answers is still expected to.
      #expect(try await bob.on { Set(bob.service.brokers) } == [mosquitto.plain, silent])
    }
  }

  @Test("of an address with eight brokers the last one lives, the others refuse or are silent: it is found")
  func lastOne() async throws {
    try await withSignalling { world in
      var brokers: [Broker] = []
      for _ in 0..<4 { brokers.append(try world.dead()) }
      for _ in 0..<3 { brokers.append(try await world.scripted { _ in [] }.broker) }
      let mosquitto = try await world.mosquitto().plain
      brokers.append(mosquitto)
      let (alice, bob) = (try await world.signaller([]), try await world.signaller([mosquitto]))
      try await bob.untilUp(1)
      try await bob.on { bob.answers = { _ in [1] } }
      #expect(try await alice.ask("x", bob, brokers).broker == mosquitto)
    }
  }

  @Test("without any broker that works, a request says what each of them met")
  func noBroker() async throws {
    try await withSignalling { world in
      let brokers = [try world.dead(), try await world.scripted(Self.refusal(code: 4)).broker]
      let (alice, bob) = (try await world.signaller([]), try await world.signaller([]))
      let error = await #expect(throws: NetError.self) {
        try await alice.ask("x", bob, brokers, timeout: .milliseconds(700))
      }
      #expect(
        error?.attempts.count == 2 && error?.description.contains("user name") == true, "\(String(describing: error))")
      let none = await #expect(throws: NetError.self) { try await alice.send("x", to: bob, []) }
      #expect(none?.code == .unsupported)
    }
  }

  @Test("a broker that is restarted is found again, and what waited for it arrives")
  func restarted() async throws {
    try await withSignalling { world in
      let mosquitto = try await world.mosquitto()
      let broker = mosquitto.plain
      var conf = SignalingConf()
      conf.firstRetry = .milliseconds(50)
      let (alice, bob) = try await world.pair([broker], conf: conf)
      await mosquitto.stop()
      for one in [alice, bob] { try await one.until("down") { $0.allSatisfy { $0.state != .up } } }
      #expect(try await bob.on { bob.service.brokers } == [broker], "its address goes on naming it")
      #expect(await mosquitto.run())
      try await bob.untilUp(1)
      _ = try await alice.send("after", to: bob, [broker])
      #expect(try await bob.messages(1).map(\.text) == ["after"])
    }
  }

  @Test("a broker dies in the middle: the other one carries on without a loss")
  func diesInTheMiddle() async throws {
    try await withSignalling { world in
      let one = try await world.mosquitto()
      let brokers = [one.plain, try await world.mosquitto().plain]
      let (alice, bob) = try await world.pair(brokers)
      try await bob.on { bob.answers = { $0.bytes } }
      for n in 0..<20 {
        if n == 10 { await one.stop() }
        let answer = try await alice.ask("\(n)", bob, brokers, timeout: .seconds(5))
        #expect(String(decoding: answer.bytes, as: UTF8.self) == "\(n)")
      }
      #expect(try await bob.messages(20).count == 20)
    }
  }

  @Test("an answer that is lost with its broker is given again when the question comes again")
  func lostAnswer() async throws {
    try await withSignalling { world in
      let mosquitto = try await world.mosquitto()
      let broker = mosquitto.plain
      var (slow, quick) = (SignalingConf(), SignalingConf())
      (slow.firstRetry, quick.firstRetry) = (.milliseconds(900), .milliseconds(20))
      let (alice, bob) = (
        try await world.signaller([broker], conf: slow), try await world.signaller([broker], conf: quick)
      )
      for one in [alice, bob] { try await one.untilUp(1) }
      async let answer = alice.ask("x", bob, [broker])
      #expect(try await bob.messages(1).map(\.text) == ["x"])
      await mosquitto.stop()
      for one in [alice, bob] { try await one.until("down") { $0.allSatisfy { $0.state != .up } } }
      // The broker takes it before anybody listens for it there, and forgets it.
      _ = try await bob.on { bob.signals[0].answer([7]) }
      #expect(await mosquitto.run())
      #expect(try await answer.bytes == [7])
    }
  }

  @Test("a frozen broker holds nobody up, and is left after its silence")
  func frozen() async throws {
    try await withSignalling { world in
      let (one, two) = (try await world.mosquitto(), try await world.mosquitto())
      let brokers = [one.plain, two.plain]
      var conf = SignalingConf()
      conf.brokerTimeout = .milliseconds(400)
      conf.pingEvery = .milliseconds(300)
      let (alice, bob) = try await world.pair(brokers, conf: conf)
      try await bob.on { bob.answers = { $0.bytes } }
      one.freeze()
      let began = Date()
      #expect(try await alice.ask("x", bob, brokers).broker == two.plain)
      #expect(Date().timeIntervalSince(began) < 1)
      let frozen = one.plain
      try await alice.until("the frozen one is down") { states in
        states.contains { $0.broker == frozen && $0.state != .up && $0.error?.code == .timeout }
      }
      one.thaw()
      try await alice.untilUp(2)
    }
  }

  @Test("a node with no broker of its own asks through the other's, and the answer finds it there")
  func foreign() async throws {
    try await withSignalling { world in
      let broker = try await world.mosquitto().plain
      var conf = SignalingConf()
      conf.foreignIdle = .milliseconds(300)
      let (alice, bob) = (try await world.signaller([], conf: conf), try await world.signaller([broker]))
      try await bob.untilUp(1)
      try await bob.on { bob.answers = { $0.bytes } }
      #expect(try await alice.ask("x", bob, [broker]).bytes == Array("x".utf8))
      #expect(try await alice.on { alice.service.status.map(\.isForeign) } == [true])
      #expect(try await alice.on { alice.service.brokers } == [], "it is not where alice can be found")
      try await alice.until("the connection is given up") { $0.isEmpty }
    }
  }

  @Test("the round trip to a broker is known soon after it is up")
  func roundTrip() async throws {
    try await withSignalling { world in
      let broker = try await world.mosquitto().plain
      let alice = try await world.signaller([broker])
      try await alice.until("a ping") { $0.contains { $0.roundTrip != nil } }
      let measured = try await alice.on { alice.service.roundTrip(of: broker) }
      #expect((measured?.minimum ?? .hours(1)) < .milliseconds(200))
    }
  }

  @Test("a hundred requests at once are all answered")
  func hundred() async throws {
    try await withSignalling { world in
      let broker = try await world.mosquitto().plain
      let (alice, bob) = try await world.pair([broker])
      try await bob.on { bob.answers = { $0.bytes } }
      let answers = try await withThrowingTaskGroup(of: [UInt8].self) { group in
        for n in 0..<100 as Range<UInt8> {
          group.addTask { try await alice.ask(String(n), bob, [broker]).bytes }
        }
        return try await group.reduce(into: [[UInt8]]()) { $0.append($1) }
      }
      #expect(Set(answers) == Set((0..<100).map { Array(String($0).utf8) }))
    }
  }

  /// A broker that lets nobody in (§3.2.2.3).
  private static func refusal(code: UInt8) -> (MQTTPacket) -> [MQTTPacket] {
    { packet in if case .connect = packet { [.connack(sessionPresent: false, code: code)] } else { [] } }
  }
}
