import NIOCore
import P2PDNet
import Testing

@testable import P2PDSignaling

/// Steps a session by hand and keeps what it did as words.
private struct Stepper {
  var session: MQTTSession
  var now = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
  var log: [String] = []
  var packets: [MQTTPacket] = []

  init(topics: [String] = ["me"], chance: Double = 1) {
    session = MQTTSession(
      .init(name: "b", connect: MQTTConnect(clientID: "c", keepAlive: 75), topics: topics), chance: { chance })
  }

  @discardableResult
  mutating func on(_ event: MQTTSession.Event, after time: TimeAmount = .zero) -> [String] {
    now = now + time
    let words = session.handle(event, now: now).flatMap { action -> [String] in
      switch action {
      case .connect: return ["connect"]
      case .close: return ["close"]
      case .up: return ["up"]
      case .down(let error): return ["down \(error.code.rawValue)"]
      case .deliver(let publish): return ["deliver \(publish.payload)"]
      case .done(let token, .success): return ["done \(token)"]
      case .done(let token, .failure(let error)): return ["failed \(token) \(error.code.rawValue)"]
      case .send(let sent):
        packets += sent
        return sent.map(Self.name)
      }
    }
    log += words
    return words
  }

  /// As the driver does: wakes at the time asked for.
  @discardableResult
  mutating func wake() -> [String] {
    guard let next = session.nextWake else { return ["no wake"] }
    return on(.wake, after: max(.zero, next - now))
  }

  mutating func bringUp() {
    on(.start)
    on(.opened)
    on(.packet(.connack(sessionPresent: false, code: 0)))
    on(.packet(.suback(id: 1, codes: [0])))
  }

  func message(_ token: UInt64, qos: UInt8 = 1, lives: TimeAmount = .seconds(30)) -> MQTTSession.Event {
    .publish(.init(token: token, topic: "you", payload: [UInt8(token & 0xff)], qos: qos, expires: now + lives))
  }

  static func name(_ packet: MQTTPacket) -> String {
    switch packet {
    case .connect: "CONNECT"
    case .subscribe: "SUBSCRIBE"
    case .publish(let publish): "PUBLISH \(publish.id ?? 0)"
    case .puback(let id): "PUBACK \(id)"
    case .pingreq: "PING"
    case .disconnect: "DISCONNECT"
    default: "\(packet)"
    }
  }
}

@Suite struct MQTTSessionTests {
  @Test("greeting, subscription and what waits leave together; up comes with SUBACK")
  func pipelined() {
    var stepper = Stepper()
    stepper.on(stepper.message(7))
    #expect(stepper.on(.start) == ["connect"])
    #expect(stepper.on(.opened) == ["CONNECT", "SUBSCRIBE", "PUBLISH 2"])
    #expect(stepper.on(.packet(.connack(sessionPresent: false, code: 0))).isEmpty)
    #expect(stepper.on(.packet(.suback(id: 1, codes: [0]))) == ["up"])
    #expect(stepper.on(.packet(.puback(id: 2))) == ["done 7"])
    #expect(stepper.session.roundTrip == nil, "what left with the greeting measures the log-in")
    #expect(stepper.on(.packet(.puback(id: 2))).isEmpty, "a second PUBACK confirms nothing")
  }

  @Test("what had no PUBACK goes out again on the next connection, in its order")
  func again() {
    var stepper = Stepper()
    stepper.bringUp()
    stepper.on(stepper.message(1))
    stepper.on(stepper.message(2))
    #expect(stepper.on(.closed(NetError(.reset, "x"))) == ["down reset"])
    stepper.on(stepper.message(3))
    #expect(stepper.wake() == ["connect"])
    let sent = stepper.on(.opened)
    #expect(sent == ["CONNECT", "SUBSCRIBE", "PUBLISH 5", "PUBLISH 6", "PUBLISH 7"])
    let payloads = stepper.packets.suffix(3).compactMap { if case .publish(let p) = $0 { p.payload } else { nil } }
    #expect(payloads == [[1], [2], [3]])
  }

  @Test("tries come later and later, at most after a minute, and never at once")
  func backoff() {
    for chance in [0.0, 0.5, 0.999] {
      var stepper = Stepper(chance: chance)
      stepper.on(.start)
      var waits: [Double] = []
      for _ in 0..<12 {
        stepper.on(.closed(NetError(.refused, "x")))
        let wait = (stepper.session.nextWake ?? stepper.now) - stepper.now
        waits.append(Double(wait.nanoseconds) / 1e9)
        #expect(stepper.wake() == ["connect"])
      }
      let share = 0.5 + chance / 2
      #expect(abs(waits[0] - 0.5 * share) < 0.001 && abs(waits[3] - 4 * share) < 0.001)
      #expect(abs((waits.last ?? 0) - 60 * share) < 0.01)
    }
  }

  @Test("after half a minute up, the first try comes soon again; after less, it does not")
  func steady() {
    for (up, soon) in [(TimeAmount.seconds(5), false), (.seconds(40), true)] {
      var stepper = Stepper()
      stepper.on(.start)
      for _ in 0..<5 {
        stepper.on(.closed(NetError(.refused, "x")))
        stepper.wake()
      }
      stepper.on(.opened)
      stepper.on(.packet(.connack(sessionPresent: false, code: 0)))
      stepper.on(.packet(.suback(id: 1, codes: [0])))
      stepper.on(.closed(NetError(.reset, "x")), after: up)
      let wait = (stepper.session.nextWake ?? stepper.now) - stepper.now
      #expect((wait <= .milliseconds(500)) == soon)
    }
  }

  @Test("a broker that refuses for good is asked once a minute", arguments: [1, 2, 4, 5] as [UInt8])
  func refused(_ code: UInt8) {
    var stepper = Stepper()
    stepper.on(.start)
    stepper.on(.opened)
    let words = stepper.on(.packet(.connack(sessionPresent: false, code: code)))
    #expect(words == ["close", code >= 4 ? "down permission" : "down refused"])
    #expect((stepper.session.nextWake ?? stepper.now) - stepper.now == .seconds(60))
    #expect(stepper.on(.closed(NetError(.closed, "x"))).isEmpty, "its own close is no news")
  }

  @Test("a subscription that is refused is a failure")
  func subscriptionRefused() {
    var stepper = Stepper()
    stepper.on(.start)
    stepper.on(.opened)
    stepper.on(.packet(.connack(sessionPresent: false, code: 0)))
    #expect(stepper.on(.packet(.suback(id: 1, codes: [0x80]))) == ["close", "down permission"])
  }

  @Test("silence ends a connection: without greeting after 10 s, without an answer to a ping after 10 s")
  func silence() {
    var stepper = Stepper()
    stepper.on(.start)
    stepper.on(.opened)
    #expect(stepper.wake() == ["close", "down timeout"])
    stepper = Stepper()
    stepper.bringUp()
    #expect(stepper.wake() == ["PING"])
    let before = stepper.now
    #expect(stepper.wake() == ["close", "down timeout"])
    #expect(stepper.now - before == .seconds(10))
  }

  @Test("a flood that delays the answer to a ping does not look like silence")
  func flooded() {
    var stepper = Stepper()
    stepper.bringUp()
    stepper.wake()
    stepper.on(.packet(.publish(MQTTPublish(topic: "me", payload: [1]))), after: .seconds(9))
    #expect(stepper.on(.wake, after: .seconds(1)) == ["PING"])
  }

  @Test("the first pings come soon and then every 25 s, and measure the round trip")
  func roundTrip() {
    var stepper = Stepper()
    stepper.bringUp()
    var gaps: [Int64] = []
    for sample in [40, 80, 40, 20, 60] as [Int64] {
      let before = stepper.now
      #expect(stepper.wake() == ["PING"])
      gaps.append((stepper.now - before).nanoseconds / 1_000_000)
      stepper.on(.packet(.pingresp), after: .milliseconds(sample))
    }
    #expect(gaps == [1000, 960, 920, 24_960, 24_980])
    #expect(stepper.session.roundTrip?.minimum == .milliseconds(20))
    #expect(stepper.session.roundTrip?.samples == 5)
    let smoothed = stepper.session.roundTrip?.smoothed ?? .zero
    #expect(smoothed > .milliseconds(40) && smoothed < .milliseconds(50))
  }

  @Test("queue and window are bounded: the oldest of 256 waiting gives way, 16 go without PUBACK")
  func bounds() {
    var stepper = Stepper()
    for token in 1...262 { stepper.on(stepper.message(UInt64(token))) }
    #expect(stepper.log == (1...6).map { "failed \($0) limit" })
    stepper.on(.start)
    let sent = stepper.on(.opened)
    #expect(sent.count == 2 + MQTTSession.window)
    #expect(stepper.session.pending == 256)
    stepper.on(.packet(.connack(sessionPresent: false, code: 0)))
    #expect(stepper.on(.packet(.puback(id: 2))) == ["done 7", "PUBLISH 18"])
  }

  @Test("what is too old is not sent, and its sender hears why the broker was not reached")
  func expiry() {
    var stepper = Stepper()
    stepper.on(.start)
    stepper.on(.closed(NetError(.refused, "connect")))
    stepper.on(stepper.message(1, lives: .milliseconds(100)))
    #expect(stepper.wake() == ["failed 1 refused"])
    stepper = Stepper()
    stepper.bringUp()
    stepper.on(stepper.message(1, lives: .milliseconds(100)))
    #expect(stepper.wake() == ["failed 1 timeout"], "sent but never confirmed")
  }

  @Test("quality 0 is done when it is handed over; quality 1 from the broker is confirmed")
  func qualities() {
    var stepper = Stepper()
    stepper.bringUp()
    #expect(stepper.on(stepper.message(1, qos: 0)) == ["PUBLISH 0", "done 1"])
    let publish = MQTTPublish(topic: "me", payload: [5], qos: 1, id: 9)
    #expect(stepper.on(.packet(.publish(publish))) == ["PUBACK 9", "deliver [5]"])
  }

  @Test("a broker that breaks the rules is left")
  func rules() {
    var stepper = Stepper()
    stepper.on(.start)
    stepper.on(.opened)
    #expect(stepper.on(.packet(.pingresp)) == ["close", "down io"], "it spoke before CONNACK")
    stepper = Stepper()
    stepper.bringUp()
    #expect(stepper.on(.packet(.connack(sessionPresent: false, code: 0))) == ["close", "down io"])
    stepper = Stepper()
    stepper.bringUp()
    #expect(stepper.on(.packet(.subscribe(id: 1, filters: []))) == ["close", "down io"])
  }

  @Test("stop says goodbye, ends what waits, and nothing happens after it")
  func stop() {
    var stepper = Stepper()
    stepper.bringUp()
    stepper.on(stepper.message(1))
    #expect(stepper.on(.stop) == ["DISCONNECT", "close", "failed 1 cancelled"])
    #expect(stepper.session.nextWake == nil)
    #expect(stepper.on(stepper.message(2)) == ["failed 2 cancelled"])
    #expect(stepper.on(.closed(NetError(.closed, "x"))).isEmpty && stepper.on(.start).isEmpty)
  }

  @Test("a new network is tried at once")
  func networkChanged() {
    var stepper = Stepper()
    stepper.on(.start)
    for _ in 0..<6 {
      stepper.on(.closed(NetError(.unreachable, "x")))
      stepper.wake()
    }
    stepper.on(.closed(NetError(.unreachable, "x")))
    #expect(stepper.on(.networkChanged) == ["connect"])
    stepper = Stepper()
    stepper.bringUp()
    #expect(stepper.on(.networkChanged) == ["PING"])
  }
}
