import Logging
import NIOCore
import P2PDNet

/// Sealed messages between nodes that need no path to each other yet, over MQTT brokers. A message goes out through
/// several brokers at once, the first copy that arrives counts, and all that makes it trusted is in the message: brokers
/// only carry it.
///
/// Confined to its event loop: make it anywhere, call everything else there.
public final class SignalingService: @unchecked Sendable {
  public let key: SignalKey
  public let loop: any EventLoop
  /// Gets each message once. Requests can be answered, see ``IncomingSignal/answer(_:)``.
  public var onMessage: ((IncomingSignal) -> Void)?
  /// Gets the brokers this node can be reached at, each time they change: what its address should name.
  public var onBrokersChanged: (([Broker]) -> Void)?
  /// Called whenever one of the node's own brokers came up, went down or could not be had.
  public var onStatusChanged: (() -> Void)?

  let pool: BrokerPool
  private let identity: SignalIdentity
  private let conf: SignalingConf
  private let logger: Logger
  private var inbox: Inbox
  private var answers = SentAnswers()
  private var requests: [Gate.Label: OutgoingRequest] = [:]

  /// - Parameters:
  ///   - brokers: the node's own, in any order; may be empty, and then it can send but not be reached.
  ///   - tls: with brokers over TLS; nil checks their certificates against the machine's roots.
  public init(
    _ identity: SignalIdentity, brokers: [Broker], conf: SignalingConf = SignalingConf(), tls: ServerTLS? = nil,
    logger: Logger, on loop: any EventLoop
  ) {
    key = identity.key
    self.identity = identity
    self.conf = conf
    self.logger = logger
    self.loop = loop
    inbox = Inbox(identity, conf, at: loop.now)
    pool = BrokerPool(
      brokers, key: identity.key, conf: conf, tls: tls ?? ServerTLS(on: loop), logger: logger, on: loop)
  }

  /// Begins to listen. Does not wait for a broker.
  public func start() {
    loop.assertInEventLoop()
    pool.received = { [weak self] in self?.received($0, $1) }
    pool.advertisedChanged = { [weak self] in self?.onBrokersChanged?($0) }
    pool.statusChanged = { [weak self] in self?.onStatusChanged?() }
    pool.start()
  }

  /// Ends every connection and every request that waits. Call it before letting go: connections keep themselves alive.
  @discardableResult
  public func stop() -> EventLoopFuture<Void> {
    loop.assertInEventLoop()
    let error = NetError(.cancelled, "signal", cause: "signalling was stopped")
    for label in Array(requests.keys) { finish(label, .failure(error)) }
    onMessage = nil
    onBrokersChanged = nil
    onStatusChanged = nil
    return pool.stop()
  }

  /// The machine's network is another one: tries at once what was waiting for its next try, and joins anew where a
  /// connection came from an address that is gone.
  /// - Parameter addresses: all that the machine has now.
  public func networkChanged(_ addresses: [IPAddress]) { pool.networkChanged(addresses) }

  /// The brokers this node can be reached at.
  public var brokers: [Broker] { pool.advertised }
  public var status: [BrokerStatus] { pool.status }
  public var stats: SignalStats { inbox.stats }
  /// To a broker and back; nil while it is not known.
  public func roundTrip(of broker: Broker) -> RoundTrip? { pool.roundTrip(of: broker) }

  /// The topic on which a node listens at a broker: for whoever runs a broker, and for measurements.
  public static func topic(of node: SignalKey, at broker: Broker) -> String { Gate.topic(of: node, at: broker) }

  // MARK: Sending

  /// Sends a message that wants no answer.
  /// - Parameter brokers: those of the receiver's address.
  /// - Returns: the first broker that took it; fails with ``NetError`` and every broker's failure in `attempts`. That a
  ///   broker took it does not mean that the receiver got it.
  public func send(_ bytes: [UInt8], to receiver: SignalKey, brokers: [Broker]) -> EventLoopFuture<Broker> {
    loop.assertInEventLoop()
    return publish(SignalContent(kind: .message, payload: bytes), to: receiver, brokers, gate: Gate(of: receiver))
  }

  /// Sends a message and waits for its answer.
  /// - Parameter timeout: for the answer; the request itself is good for the conf's lifetime at most.
  /// - Returns: the answer with the time it took; fails with ``NetError``: `timeout`, or why no broker took it.
  public func request(_ bytes: [UInt8], to receiver: SignalKey, brokers: [Broker], timeout: TimeAmount)
    -> EventLoopFuture<SignalAnswer>
  {
    loop.assertInEventLoop()
    var generator = SystemRandomNumberGenerator()
    let secret = (0..<SignalContent.secretLength).map { _ in UInt8.random(in: 0...255, using: &generator) }
    guard let label = inbox.expect(secret, from: receiver) else {
      return loop.makeFailedFuture(
        NetError(.limit, "signal to \(receiver)", cause: "\(conf.requests) requests wait for answers already"))
    }
    let request = OutgoingRequest(loop.makePromise(of: SignalAnswer.self), at: loop.now)
    requests[label] = request
    request.timer = loop.assumeIsolated().scheduleTask(in: timeout) {
      let cause = "no answer in \(Double(timeout.nanoseconds) / 1e9) s"
      self.finish(label, .failure(NetError(.timeout, "signal to \(receiver)", cause: cause)))
    }
    let content = SignalContent(kind: .request(secret: secret), payload: bytes)
    do throws(NetError) {
      let message = try seal(content, to: receiver, gate: Gate(of: receiver))
      deliver(message, to: receiver, brokers, timeout: timeout).assumeIsolated().whenFailure { error in
        // Out by another broker since: then an answer may be on its way.
        guard self.requests[label]?.wasRepeated == false else { return }
        self.finish(label, .failure(NetError(error, "signal to \(receiver)")))
      }
      repeatLater(message, to: receiver, brokers, label, SignalingConf.repeats[...])
    } catch {
      finish(label, .failure(error))
    }
    return request.promise.futureResult
  }

  /// Sends the very same message again while no answer has come: the receiver may have been away from its broker for a
  /// moment, and those that did not take it make room for others of its address. One that has got it knows it again.
  private func repeatLater(
    _ message: [UInt8], to receiver: SignalKey, _ brokers: [Broker], _ label: Gate.Label,
    _ waits: ArraySlice<TimeAmount>
  ) {
    guard let wait = waits.first, let request = requests[label] else { return }
    request.repetition = loop.assumeIsolated().scheduleTask(in: wait) { [weak self] in
      guard let self, requests[label] != nil else { return }
      deliver(message, to: receiver, brokers).assumeIsolated().whenSuccess { _ in
        self.requests[label]?.wasRepeated = true
      }
      repeatLater(message, to: receiver, brokers, label, waits.dropFirst())
    }
  }

  @discardableResult
  fileprivate func publish(
    _ content: SignalContent, to receiver: SignalKey, _ brokers: [Broker], gate: Gate
  ) -> EventLoopFuture<Broker> {
    do throws(NetError) {
      return deliver(try seal(content, to: receiver, gate: gate), to: receiver, brokers)
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  private func seal(_ content: SignalContent, to receiver: SignalKey, gate: Gate) throws(NetError) -> [UInt8] {
    try SealedMessage.seal(
      content, from: identity, to: receiver, issued: conf.clock(), lifetime: conf.lifetime, gate: gate)
  }

  private func deliver(
    _ message: [UInt8], to receiver: SignalKey, _ brokers: [Broker], timeout: TimeAmount? = nil
  ) -> EventLoopFuture<Broker> {
    let what = "signal to \(receiver)"
    guard !brokers.isEmpty else {
      return loop.makeFailedFuture(NetError(.unsupported, what, cause: "its address names no broker"))
    }
    let lifetime = TimeAmount.seconds(Int64(conf.lifetime))
    // A little before the request's own end, so that its failure can say what the brokers met.
    let patience = timeout.map { TimeAmount.nanoseconds($0.nanoseconds / 20 * 19) } ?? lifetime
    let expires = loop.now + min(patience, lifetime)
    // An address with many brokers is no reason to call them all: the likeliest first, and others with each repetition.
    let ranks = Dictionary(brokers.map { ($0, pool.likelihood(of: $0)) }) { first, _ in first }
    let chosen = BrokerPool.Likelihood.allCases.flatMap { rank in brokers.filter { ranks[$0] == rank } }
      .prefix(Self.brokersAtOnce)
    let delivery = Delivery(loop.makePromise(of: Broker.self), open: chosen.count, what)
    for broker in chosen {
      pool.publish(message, for: receiver, at: broker, expires: expires) { delivery.add(broker, $0) }
    }
    return delivery.promise.futureResult
  }

  // MARK: Receiving

  private func received(_ publish: MQTTPublish, _ broker: Broker) {
    // Nobody of ours asks a broker to keep a message: it would greet every new subscription for ever.
    guard !publish.isRetained else { return inbox.refuse(.form) }
    let door: Inbox.Door = pool.own.contains(broker) ? .own(broker) : .foreign
    switch inbox.receive(publish.payload, by: door, now: loop.now, clock: conf.clock()) {
    case .refused: break
    case .repeated(let request):
      guard let answer = answers.again(request, at: loop.now) else { return }
      deliver(answer.message, to: answer.receiver, answer.brokers).assumeIsolated().whenComplete { _ in }
    case .message(let sender, let payload):
      onMessage?(IncomingSignal(sender, payload, broker, at: loop.now, self))
    case .request(let sender, let payload, let secret, let id):
      onMessage?(IncomingSignal(sender, payload, asking: (secret, id), broker, at: loop.now, self))
    case .answer(let label, let payload, let held):
      guard let request = requests[label] else { return }
      let total = loop.now - request.sent
      let away = TimeAmount.nanoseconds(max(0, total.nanoseconds - Int64(held) * 1000))
      finish(label, .success(SignalAnswer(bytes: payload, roundTrip: away, total: total, broker: broker)))
    }
  }

  fileprivate func answer(
    _ signal: IncomingSignal, _ bytes: [UInt8], _ asking: IncomingSignal.Asking
  ) -> EventLoopFuture<Broker> {
    let held = (loop.now - signal.arrived).nanoseconds / 1000
    // The asker wrote to this node's brokers and listens there; which copy came first says little of the way back. A broker
    // that is away gets it when it is back: the one that is up may be lost with the answer in its hands.
    let others = pool.own.filter { $0 != signal.broker }
    let content = SignalContent(kind: .answer(held: UInt32(clamping: held)), payload: bytes)
    let brokers = [signal.broker] + others
    do throws(NetError) {
      let message = try seal(content, to: signal.sender, gate: Gate(answering: asking.secret))
      answers.keep(message, to: signal.sender, brokers, for: asking.id, at: loop.now)
      return deliver(message, to: signal.sender, brokers)
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  private func finish(_ label: Gate.Label, _ result: Result<SignalAnswer, NetError>) {
    guard let request = requests.removeValue(forKey: label) else { return }
    request.timer?.cancel()
    request.repetition?.cancel()
    // Copies of the answer through other brokers are still to come: known as such for a while.
    loop.assumeIsolated().scheduleTask(in: Self.copies) { [weak self] in self?.inbox.forget(label) }
    request.promise.completeWith(result.mapError { $0 as any Error })
  }

  /// Of an address; four independent services seldom fail together.
  private static let brokersAtOnce = 4
  private static let copies = TimeAmount.seconds(5)
}

/// An answer, and how long it took.
public struct SignalAnswer: Sendable {
  public let bytes: [UInt8]
  /// There and back through the brokers, without the time the other side took to answer.
  public let roundTrip: TimeAmount
  public let total: TimeAmount
  /// The broker whose copy came first.
  public let broker: Broker
}

/// A message that arrived. Confined to the service's loop.
public final class IncomingSignal: @unchecked Sendable {
  /// Who signed it.
  public let sender: SignalKey
  public let bytes: [UInt8]
  /// The broker whose copy came first.
  public let broker: Broker
  /// By the loop's clock.
  public let arrived: NIODeadline
  fileprivate typealias Asking = (secret: [UInt8], id: SeenFilter.Digest)
  private var asking: Asking?
  private weak var service: SignalingService?

  fileprivate init(
    _ sender: SignalKey, _ bytes: [UInt8], asking: Asking? = nil, _ broker: Broker, at now: NIODeadline,
    _ service: SignalingService
  ) {
    self.sender = sender
    self.bytes = bytes
    self.asking = asking
    self.broker = broker
    self.service = service
    arrived = now
  }

  /// Whether an answer is waited for and was not given yet.
  public var wantsAnswer: Bool { asking != nil }

  /// Answers it, once. Without ``wantsAnswer`` it does nothing and returns nil.
  @discardableResult
  public func answer(_ bytes: [UInt8]) -> EventLoopFuture<Broker>? {
    guard let asking, let service else { return nil }
    // A second answer would use the gate's nonce again.
    self.asking = nil
    return service.answer(self, bytes, asking)
  }
}

/// A request that waits. Confined to the service's loop.
private final class OutgoingRequest: @unchecked Sendable {
  let promise: EventLoopPromise<SignalAnswer>
  let sent: NIODeadline
  var timer: Scheduled<Void>?
  var repetition: Scheduled<Void>?
  /// A broker took a repetition.
  var wasRepeated = false

  init(_ promise: EventLoopPromise<SignalAnswer>, at now: NIODeadline) {
    self.promise = promise
    sent = now
  }
}

/// One message on its way through several brokers: the first that takes it settles it. Confined to the service's loop.
private final class Delivery: @unchecked Sendable {
  let promise: EventLoopPromise<Broker>
  private let what: String
  private var open: Int
  private var failures: [NetError] = []
  private var isSettled = false

  init(_ promise: EventLoopPromise<Broker>, open: Int, _ what: String) {
    self.promise = promise
    self.open = open
    self.what = what
  }

  func add(_ broker: Broker, _ result: Result<Void, NetError>) {
    open -= 1
    guard !isSettled else { return }
    switch result {
    case .success:
      isSettled = true
      promise.succeed(broker)
    case .failure(let error):
      failures.append(error)
      guard open == 0 else { return }
      isSettled = true
      promise.fail(NetError(failures[0].code, what, cause: "no broker took it", attempts: failures))
    }
  }
}
