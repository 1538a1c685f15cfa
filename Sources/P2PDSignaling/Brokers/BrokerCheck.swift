import NIOCore
import P2PDNet

/// Looks at one broker once, as a node would use it: connects (with TLS where it has it), greets, sends one ping, and
/// leaves. Subscribes to nothing and publishes nothing. Confined to its loop.
public final class BrokerCheck: PipeSink, @unchecked Sendable {
  private let broker: Broker
  private let loop: any EventLoop
  private let promise: EventLoopPromise<ServerFinding>
  private let began: NIODeadline
  private var talk: BrokerTalk
  private var reader = MQTTReader(limit: BrokerCheck.longestPacket)
  private var pipe: Pipe?
  private var deadline: Scheduled<Void>?

  /// - Parameters:
  ///   - tls: for a broker that wants it.
  ///   - patience: for all of it.
  /// - Returns: never fails: what went wrong is what is told.
  public static func run(
    _ broker: Broker, tls: TLSSetup?, interface: String? = nil, patience: TimeAmount, on loop: any EventLoop
  ) -> EventLoopFuture<ServerFinding> {
    let check = BrokerCheck(broker, on: loop)
    check.start(tls, interface, patience)
    return check.promise.futureResult
  }

  private init(_ broker: Broker, on loop: any EventLoop) {
    self.broker = broker
    self.loop = loop
    promise = loop.makePromise()
    began = loop.now
    talk = BrokerTalk(broker, began: loop.now, name: "p2pd" + String(UInt64.random(in: 0...UInt64.max), radix: 36))
  }

  private func start(_ tls: TLSSetup?, _ interface: String?, _ patience: TimeAmount) {
    deadline = loop.assumeIsolated().scheduleTask(in: patience) { self.handle(.timeUp) }
    var conf = PipeConf()
    conf.conTimeout = patience
    conf.dnsTimeout = patience
    conf.interface = interface
    if broker.tls { conf.tls = tls }
    PipeOpener.open(.tcp, to: broker.destination, conf: conf, on: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.handle(.failed(NetError(error, "connect to \(self.broker)")))
      case .success(let pipe):
        guard !self.talk.isOver else {
          pipe.close(flush: .zero)
          return
        }
        self.pipe = pipe
        pipe.sink = self
        self.handle(.opened)
      }
    }
  }

  private func handle(_ event: BrokerTalk.Event) {
    for action in talk.handle(event, now: loop.now) {
      switch action {
      case .send(let packet): _ = MQTTCodec.encode(packet).withUnsafeBytes { pipe?.send($0) }
      case .finish(let finding):
        deadline?.cancel()
        deadline = nil
        let pipe = pipe
        self.pipe = nil
        pipe?.sink = nil
        pipe?.close(flush: Self.goodbye)
        promise.succeed(finding)
      }
    }
  }

  public func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    do throws(MQTTError) {
      try reader.feed(message) { packet, _ in self.handle(.packet(packet)) }
    } catch {
      handle(.garbled("it does not speak MQTT 3.1.1"))
    }
    return true
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    self.pipe = nil
    if case .error(let error) = reason { return handle(.failed(error)) }
    handle(.failed(NetError(.closed, "ask \(broker)", cause: "it took the connection and ended it: \(reason.code)")))
  }

  /// A greeting and an answer to a ping have four and two bytes.
  private static let longestPacket = 256
  private static let goodbye = TimeAmount.milliseconds(200)
}

/// What is said to a broker that is looked at, and what its answers mean.
struct BrokerTalk {
  enum Event {
    /// The pipe stands (TLS done).
    case opened
    case packet(MQTTPacket)
    case garbled(String)
    case failed(NetError)
    case timeUp
  }

  enum Action: Equatable {
    case send(MQTTPacket)
    case finish(ServerFinding)
  }

  private enum Phase { case connecting, greeting, pinging, over }

  private let broker: Broker
  private let began: NIODeadline
  private let name: String
  private var phase = Phase.connecting
  private var setup: TimeAmount?
  private var pinged: NIODeadline?

  var isOver: Bool { phase == .over }

  /// - Parameter name: the client's, for this connection only.
  init(_ broker: Broker, began: NIODeadline, name: String) {
    self.broker = broker
    self.began = began
    self.name = name
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    switch (phase, event) {
    case (.over, _): return []
    case (.connecting, .opened):
      phase = .greeting
      return [
        .send(
          .connect(
            MQTTConnect(
              clientID: name, keepAlive: Self.keepAlive, user: broker.user,
              password: broker.password.map { Array($0.utf8) })))
      ]
    case (.greeting, .packet(.connack(_, let code))):
      // Not good-bye: the broker closes what it refuses (§3.2.2.3).
      guard code == 0 else { return finish(.rejected, MQTTRefusal.words(code)) }
      phase = .pinging
      setup = now - began
      pinged = now
      return [.send(.pingreq)]
    case (.pinging, .packet(.pingresp)):
      var finding = ServerFinding(broker.description, .answered)
      finding.setup = setup
      finding.roundTrip = pinged.map { now - $0 }
      phase = .over
      return [.send(.disconnect), .finish(finding)]
    case (_, .packet): return finish(.garbled, "it says something else than an MQTT broker would")
    case (_, .garbled(let why)): return finish(.garbled, why)
    case (_, .failed(let error)): return finish(error)
    case (.connecting, .timeUp): return finish(.silent, "no answer in \(seconds(now))")
    case (.greeting, .timeUp): return finish(.silent, "it took the connection, but does not greet in \(seconds(now))")
    case (.pinging, .timeUp): return finish(.silent, "it greets, but does not answer a ping in \(seconds(now))")
    case (_, .opened): return []
    }
  }

  private mutating func finish(_ outcome: ServerFinding.Outcome, _ problem: String) -> [Action] {
    phase = .over
    var finding = ServerFinding(broker.description, outcome)
    finding.setup = setup
    finding.problem = problem
    return [.finish(finding)]
  }

  private mutating func finish(_ error: NetError) -> [Action] {
    // A broker that closes before it has greeted is there, which a refused connection is not.
    let hungUp = phase == .greeting && (error.code == .closed || error.code == .reset)
    phase = .over
    return [.finish(ServerFinding(broker.description, failed: error, as: hungUp ? .garbled : nil))]
  }

  private func seconds(_ now: NIODeadline) -> String {
    "\(Double((now - began).nanoseconds / 100_000_000) / 10) s"
  }

  /// Seconds; longer than the look takes.
  private static let keepAlive: UInt16 = 30
}
