import Crypto
import Logging
import NIOCore
import P2PDNet
import ServerKit
import Testing

@testable import P2PDSignaling

/// One loop for all tests of this target; it lives as long as the process.
let sharedLoop: KernelLoop = {
  do { return try KernelLoop.start(name: "signalling") } catch { preconditionFailure("\(error)") }
}()

/// A node's signalling on a loop, and the few verbs that keep a test's text short.
final class Signaller: @unchecked Sendable {
  let service: SignalingService
  let loop: any EventLoop
  /// Confined to the loop.
  private var got: [IncomingSignal] = []
  var signals: [IncomingSignal] { got }
  private var waiters: [(count: Int, promise: EventLoopPromise<Void>)] = []
  private var upWaiters: [(count: Int, promise: EventLoopPromise<Void>)] = []
  var answers: ((IncomingSignal) -> [UInt8]?)?

  var key: SignalKey { service.key }

  init(
    _ brokers: [Broker], conf: SignalingConf = SignalingConf(), tls: ServerTLS? = nil, seed: [UInt8]? = nil
  ) async throws {
    let loop = sharedLoop
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let identity = try #require(
      SignalIdentity(seed: seed ?? Array(Curve25519.Signing.PrivateKey().rawRepresentation)))
    self.loop = loop
    service = SignalingService(identity, brokers: brokers, conf: conf, tls: tls, logger: logger, on: loop)
    try await on {
      self.service.onMessage = { [unowned self] in self.took($0) }
      self.service.start()
    }
  }

  func on<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await loop.submit(body).get()
  }

  private func took(_ signal: IncomingSignal) {
    got.append(signal)
    if let answer = answers?(signal) { signal.answer(answer) }
    for waiter in waiters where got.count >= waiter.count { waiter.promise.succeed() }
    waiters.removeAll { got.count >= $0.count }
  }

  /// All messages so far, once there are `count`.
  func messages(_ count: Int) async throws -> [(sender: SignalKey, text: String, broker: Broker)] {
    let waiting = loop.makePromise(of: Void.self)
    guardTime(waiting, "\(count) messages")
    try await on {
      if self.got.count >= count { waiting.succeed() } else { self.waiters.append((count, waiting)) }
    }
    try await waiting.futureResult.get()
    return try await on { self.got.map { ($0.sender, String(decoding: $0.bytes, as: UTF8.self), $0.broker) } }
  }

  func send(_ text: String, to other: Signaller, _ brokers: [Broker]) async throws -> Broker {
    try await loop.flatSubmit { self.service.send(Array(text.utf8), to: other.key, brokers: brokers) }.get()
  }

  func ask(_ text: String, _ other: Signaller, _ brokers: [Broker], timeout: TimeAmount = .seconds(10)) async throws
    -> SignalAnswer
  {
    try await loop.flatSubmit {
      self.service.request(Array(text.utf8), to: other.key, brokers: brokers, timeout: timeout)
    }.get()
  }

  /// Waits until the brokers are in these states: asked again whenever the loop has had time for something.
  func until(_ what: String, _ test: @escaping @Sendable ([BrokerStatus]) -> Bool) async throws {
    let done = loop.makePromise(of: Void.self)
    guardTime(done, what)
    let poll = loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(5)) { _ in
      if test(self.service.status) { done.succeed() }
    }
    defer { poll.cancel() }
    try await done.futureResult.get()
  }

  func untilUp(_ count: Int) async throws {
    try await until("\(count) up") { $0.filter { $0.state == .up }.count >= count }
  }

  func stop() async throws { try await loop.flatSubmit { self.service.stop() }.get() }

  /// A test that hangs fails and says at what.
  private func guardTime(_ promise: EventLoopPromise<Void>, _ what: String) {
    let timer = loop.scheduleTask(in: .seconds(20)) { promise.fail(NetError(.timeout, "wait for \(what)")) }
    promise.futureResult.whenComplete { _ in timer.cancel() }
  }
}

/// The signallers and brokers of one test, which end with it however it ends.
final class SignalWorld: @unchecked Sendable {
  private var ends: [() async throws -> Void] = []

  func signaller(
    _ brokers: [Broker], conf: SignalingConf = SignalingConf(), tls: ServerTLS? = nil
  ) async throws -> Signaller {
    let made = try await Signaller(brokers, conf: conf, tls: tls)
    ends.append { try await made.stop() }
    return made
  }

  /// Two that use the same brokers, and are connected to all of them.
  func pair(
    _ brokers: [Broker], conf: SignalingConf = SignalingConf(), tls: ServerTLS? = nil
  ) async throws -> (Signaller, Signaller) {
    let (alice, bob) = (
      try await signaller(brokers, conf: conf, tls: tls), try await signaller(brokers, conf: conf, tls: tls)
    )
    for one in [alice, bob] { try await one.untilUp(brokers.count) }
    return (alice, bob)
  }

  func mosquitto(tls: Bool = false) async throws -> Mosquitto {
    let made = try await Mosquitto.start(tls: tls)
    ends.append { await made.stop() }
    return made
  }

  /// A broker that answers what it is told to.
  func scripted(_ answer: @escaping (MQTTPacket) -> [MQTTPacket]) async throws -> ScriptedBroker {
    let made = ScriptedBroker(answer)
    _ = try await made.start()
    ends.append { try await made.stop() }
    return made
  }

  /// A broker that is not there.
  func dead() throws -> Broker { Broker(host: "127.0.0.1", port: try FreePort.tcp(), tls: false) }

  fileprivate func end() async throws {
    while let last = ends.popLast() { try await last() }
  }
}

func withSignalling(_ body: (SignalWorld) async throws -> Void) async throws {
  let world = SignalWorld()
  do {
    try await body(world)
  } catch {
    try await world.end()
    throw error
  }
  try await world.end()
}

extension Mosquitto {
  var plain: Broker { Broker(host: "127.0.0.1", port: port, tls: false) }
  var encrypted: Broker { Broker(host: "localhost", port: tlsPort ?? 0, tls: true) }
}

/// A broker played by the test: takes connections and answers what it is told to. Confined to its loop.
final class ScriptedBroker: PipeSink, @unchecked Sendable {
  private let answer: (MQTTPacket) -> [MQTTPacket]
  private var readers: [UInt64: MQTTReader] = [:]
  private var server: P2PDNet.Pipe?
  var seen: [MQTTPacket] = []
  var connections = 0
  private(set) var broker = Broker(host: "127.0.0.1", port: 0, tls: false)

  init(_ answer: @escaping (MQTTPacket) -> [MQTTPacket]) { self.answer = answer }

  func start() async throws -> Broker {
    let loop = sharedLoop
    let server = try await PipeOpener.open(.tcp, bind: Endpoint(ip: .loopback(.v4), port: 0), sink: self, on: loop)
      .get()
    self.server = server
    broker = Broker(host: "127.0.0.1", port: server.localEndpoint?.port ?? 0, tls: false)
    return broker
  }

  func stop() async throws {
    guard let server else { return }
    _ = try await server.loop.flatSubmit { server.close(flush: .zero) }.get()
  }

  func packets() async throws -> [MQTTPacket] {
    guard let server else { return [] }
    return try await server.loop.submit { self.seen }.get()
  }

  func pipeAccepted(_ pipe: P2PDNet.Pipe, by server: P2PDNet.Pipe) -> (any PipeSink)? {
    connections += 1
    readers[pipe.id] = MQTTReader(limit: 1 << 20)
    return self
  }

  func pipe(_ pipe: P2PDNet.Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    try? readers[pipe.id]?.feed(message) { packet, _ in
      seen.append(packet)
      for reply in answer(packet) { _ = MQTTCodec.encode(reply).withUnsafeBytes { pipe.send($0) } }
    }
    return true
  }

  /// What a well-behaved broker says.
  static func polite(_ packet: MQTTPacket) -> [MQTTPacket] {
    switch packet {
    case .connect: [.connack(sessionPresent: false, code: 0)]
    case .subscribe(let id, let filters): [.suback(id: id, codes: filters.map(\.qos))]
    case .publish(let publish): publish.id.map { [.puback(id: $0)] } ?? []
    case .pingreq: [.pingresp]
    default: []
    }
  }
}
