import Logging
import NIOCore
import P2PDNet

/// The connections to brokers: this node's own, kept up, and those of the nodes it speaks to, for a while. On each of them
/// it listens on its own topic, so that an answer comes back the way the question went. Confined to its loop.
final class BrokerPool: @unchecked Sendable {
  private let key: SignalKey
  private let conf: SignalingConf
  private let plain: PipeConf
  private let tls: ServerTLS
  private let loop: any EventLoop
  private let logger: Logger
  private var choice: BrokerChoice
  private var links: [Broker: BrokerLink] = [:]
  private var timer: Scheduled<Void>?
  private var known: [Broker] = []
  private var isStopped = false

  /// A message came on this node's topic.
  var received: ((MQTTPublish, Broker) -> Void)?
  /// The brokers an address should name are others now.
  var advertisedChanged: (([Broker]) -> Void)?
  /// One of this node's own brokers came up, went down or could not be had.
  var statusChanged: (() -> Void)?

  init(
    _ brokers: [Broker], key: SignalKey, conf: SignalingConf, tls: ServerTLS, logger: Logger, on loop: any EventLoop
  ) {
    self.key = key
    self.conf = conf
    self.loop = loop
    self.logger = logger
    choice = BrokerChoice(brokers, key: key, inUse: conf.brokersInUse, wanted: conf.brokersWanted)
    var plain = PipeConf()
    plain.conTimeout = conf.brokerTimeout
    plain.interface = conf.interface
    plain.sendHighWater = 256 << 10
    self.plain = plain
    self.tls = tls
  }

  func start() { perform(choice.handle(.start, now: loop.now)) }

  func stop() -> EventLoopFuture<Void> {
    isStopped = true
    timer?.cancel()
    timer = nil
    let ends = links.values.map { $0.stop() }
    links = [:]
    return EventLoopFuture.andAllComplete(ends, on: loop)
  }

  func networkChanged(_ addresses: [IPAddress]) {
    for link in Array(links.values) { link.networkChanged(addresses) }
  }

  var advertised: [Broker] { choice.advertised(at: loop.now) }
  var own: [Broker] { choice.active }
  var status: [BrokerStatus] { links.values.map(\.status).sorted { $0.broker.description < $1.broker.description } }

  func roundTrip(of broker: Broker) -> RoundTrip? { links[broker]?.roundTrip }

  /// Whether a broker would take a message soon, the likeliest first: those that are up, those nobody has tried, those that
  /// have not answered yet, those that failed.
  enum Likelihood: CaseIterable { case isUp, unknown, connecting, failed }

  func likelihood(of broker: Broker) -> Likelihood {
    guard let link = links[broker] else { return .unknown }
    if link.isUp { return .isUp }
    return link.status.error == nil ? .connecting : .failed
  }

  /// Publishes a message for `receiver` at one broker, connecting to it first if need be.
  func publish(
    _ message: [UInt8], for receiver: SignalKey, at broker: Broker, expires: NIODeadline,
    _ answer: @escaping (Result<Void, NetError>) -> Void
  ) {
    guard !isStopped else {
      return answer(.failure(NetError(.cancelled, "publish at \(broker)", cause: "signalling was stopped")))
    }
    guard let link = link(to: broker) else {
      let why = "\(conf.foreignBrokers) brokers of others are in use; try again"
      return answer(.failure(NetError(.limit, "publish at \(broker)", cause: why)))
    }
    link.publish(message, topic: Gate.topic(of: receiver, at: broker), expires: expires, answer)
  }

  // MARK: Links

  private func link(to broker: Broker) -> BrokerLink? {
    if let link = links[broker] { return link }
    let foreign = links.values.filter(\.isForeign)
    if foreign.count >= conf.foreignBrokers {
      guard let oldest = foreign.filter(\.isIdle).min(by: { $0.lastUse < $1.lastUse }) else { return nil }
      close(oldest.broker)
    }
    return open(broker, foreign: true)
  }

  @discardableResult
  private func open(_ broker: Broker, foreign: Bool) -> BrokerLink {
    let random = UInt64.random(in: 0 ... .max)
    let link = BrokerLink(
      broker, foreign: foreign, topics: [Gate.topic(of: key, at: broker)],
      // A name for this connection only, at most 23 characters (§3.1.3.1): it tells the broker nothing.
      clientID: "p2pd" + String(random, radix: 36), conf: { [unowned self] in settings(broker) },
      settings: conf, logger: logger, on: loop, owner: self)
    links[broker] = link
    link.start()
    arm()
    return link
  }

  private func settings(_ broker: Broker) -> EventLoopFuture<PipeConf> {
    guard broker.tls else { return loop.makeSucceededFuture(plain) }
    let plain = plain
    return tls.setup().map { setup in
      var conf = plain
      conf.tls = setup
      return conf
    }
  }

  private func close(_ broker: Broker) { _ = links.removeValue(forKey: broker)?.stop() }

  private func perform(_ actions: [BrokerChoice.Action]) {
    for action in actions {
      switch action {
      case .open(let broker):
        // One spoken to for another's sake becomes one's own.
        if links[broker] != nil { close(broker) }
        open(broker, foreign: false)
      case .close(let broker): close(broker)
      }
    }
    let now = advertised
    if now != known {
      known = now
      advertisedChanged?(now)
    }
    arm()
  }

  private func arm() {
    timer?.cancel()
    timer = nil
    let ends = links.values.filter(\.isForeign).map { $0.lastUse + conf.foreignIdle }
    guard !isStopped, let next = (ends + [choice.nextWake].compactMap { $0 }).min() else { return }
    timer = loop.assumeIsolated().scheduleTask(deadline: max(next, loop.now + .milliseconds(50))) { [weak self] in
      self?.wake()
    }
  }

  private func wake() {
    let now = loop.now
    for link in links.values where link.isForeign && link.isIdle && now - link.lastUse >= conf.foreignIdle {
      close(link.broker)
    }
    perform(choice.handle(.wake, now: now))
  }
}

extension BrokerPool: BrokerLinkOwner {
  func link(_ link: BrokerLink, received publish: MQTTPublish) { received?(publish, link.broker) }

  func linkChanged(_ link: BrokerLink) {
    guard !isStopped, !link.isForeign else { return }
    perform(choice.handle(link.isUp ? .up(link.broker) : .down(link.broker), now: loop.now))
    statusChanged?()
  }
}
