import Logging
import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal

/// What the node knows of the world around it, and how the world can tell it something: measured and kept up beside the
/// node's work, which never waits for it.
extension Node {
  /// Begins to measure and to listen at brokers. Contacts nobody where the node is offline.
  func networkStarted() {
    knowledge.changed = { [weak self] in
      guard let self else { return }
      portMapper?.learn(knowledge.reports.values)
      punchPorts.update(knowledge.reports)
      orientation.look(knowledge)
      renewLater()
    }
    knowledge.update(snapshot, only: configuration.interfaces)
    settling = Settling(self)
    guard let signalling else { return }
    signalling.onMessage = { [weak self] in self?.received($0) }
    signalling.onBrokersChanged = { [weak self] _ in self?.renewLater() }
    signalling.onStatusChanged = { [weak self] in self?.brokersChanged() }
    signalling.start()
    // Whoever is told the address before the first answer came shall be able to call.
    renew()
  }

  private func brokersChanged() {
    settling?.look()
    let up = (signalling?.status ?? []).filter { !$0.isForeign && $0.state == .up }.map(\.broker)
    switch contact.look(up: Set(up)) {
    case .none: break
    case .back: knowledge.suspect()
    // There is a way out, which there may not have been when it was measured.
    case .first: if knowledge.isInVain { knowledge.suspect() }
    }
  }

  /// The machine's interfaces, addresses or default routes are others now.
  func networkChanged(_ now: NetworkSnapshot) {
    guard closing == nil else { return }
    snapshot = now
    routes = [:]
    if knowledge.update(now, only: configuration.interfaces) {
      isWalled = false
      signalling?.networkChanged(now.interfaces.filter(\.isUp).flatMap { $0.addresses.map(\.ip) })
      for improvement in Array(improvements.values) { improvement.networkChanged() }
    }
    updatePortMapping()
    naming?.service.networkChanged(now)
    // Its own addresses are known at once; what is seen from outside follows.
    renew()
  }

  /// Completes when the node's address is as good as it gets for now: every path was measured and the brokers are there,
  /// or some seconds have passed. At once where the node is offline.
  public func settled() -> EventLoopFuture<Void> {
    loop.assertInEventLoop()
    return settling?.done ?? loop.makeSucceededVoidFuture()
  }

  /// Whether ``settled()`` has completed.
  public var isSettled: Bool { settling?.isDone ?? true }

  /// Ends what ``networkStarted()`` began.
  func networkStopped() -> EventLoopFuture<Void> {
    renewal?.cancel()
    renewal = nil
    settling?.finish()
    settling = nil
    knowledge.close()
    punchPorts.close()
    orientation.finish()
    let goodbye = naming?.close()
    (addressChanged, consent) = (nil, nil)
    let ends = [portMapper?.close(), signalling?.stop(), goodbye, keeping].compactMap { $0 }
    return EventLoopFuture.andAllComplete(ends, on: loop)
  }

  // MARK: The address

  /// Measuring tells one thing after another: what comes within a moment goes into one address.
  func renewLater() {
    guard closing == nil, renewal == nil else { return }
    renewal = loop.assumeIsolated().scheduleTask(in: Self.renewalDelay) { [weak self] in self?.renew() }
  }

  /// Makes a new address if there is anything new to tell.
  func renew() {
    renewal?.cancel()
    renewal = nil
    guard closing == nil else { return }
    let (routes, servers) = (composedRoutes(), signalServers())
    guard routes != offered.routes || servers != offered.servers else { return }
    do {
      // A later address must be known as the later one, also within a second or after the clock was set back.
      let issued = max(Self.wallClock(), address.issued == .max ? .max : address.issued + 1)
      address = try NodeAddress.fitting(by: identity, issued: issued, routes: routes, signalling: servers)
      offered = (routes, servers)
      // While a node finds out what there is to know, one address follows another.
      let level: Logger.Level = settling?.isDone ?? true ? .info : .debug
      logger.log(level: level, "the node has a new address", metadata: ["address": "\(address)"])
      addressChanged?(address)
      naming?.nicknames.addressChanged(address)
    } catch {
      logger.warning("no new address", metadata: ["error": "\(error)"])
    }
  }

  private func composedRoutes() -> [NodeRoute] {
    AddressComposer.routes(
      configuration.interfaces, port: port, listening: acceptors.map(\.endpoint.ip), on: snapshot.interfaces
    ) { interface, ip in
      OutsideView(
        of: ip, on: interface, port: self.port, by: self.knowledge, mapped: self.mapped(ip, on: interface))
    }
  }

  /// The brokers to be reached at, in an order that stays: which of them answered first is no news.
  private func signalServers() -> [SignalServer] {
    let now = (signalling?.brokers ?? []).prefix(NodeAddress.maximumServers).map {
      SignalServer(host: $0.host, port: $0.port, tls: $0.tls)
    }
    return now.sorted { ($0.host, $0.port) < ($1.host, $1.port) }
  }

  /// Longer than the time in which the answers to one question come in, and too short for anybody to wait for.
  private static let renewalDelay = TimeAmount.milliseconds(200)

  // MARK: Signals

  /// A way to say something to the node of an address. nil: the address names no broker, or this node is offline.
  public func messenger(to address: NodeAddress) -> (any Messenger)? {
    guard signalling != nil, !address.signalling.isEmpty else { return nil }
    let brokers = address.signalling.map { server in
      let broker = Broker(host: server.host, port: server.port, tls: server.tls)
      // With this node's own log-in, where it has one there.
      return ownBrokers.first { $0 == broker } ?? broker
    }
    return SignalMessenger(to: address.key, brokers: brokers, of: self)
  }

  private func received(_ signal: IncomingSignal) {
    guard closing == nil, let key = NodeKey(bytes: signal.sender.bytes) else { return }
    let own = (signalling?.brokers ?? []).filter { $0 != signal.broker }
    let messenger = SignalMessenger(to: key, brokers: [signal.broker] + own, of: self)
    signalled(
      signal.bytes, from: key, oneWay: messenger.oneWay, messenger: messenger,
      answer: signal.wantsAnswer ? { _ = signal.answer($0) } : nil)
  }

  var ownBrokers: [Broker] { configuration.servers.brokers.compactMap(Broker.init) }
}

/// How a node signs what it sends through brokers, and who is asked how it looks from outside.
extension Node {
  static func makeKnowledge(
    _ configuration: NodeConfiguration, _ tls: ServerTLS, on loop: any EventLoop
  ) -> NetworkKnowledge {
    let servers = configuration.offline ? [] : configuration.servers.stun.compactMap(STUNServer.init)
    return NetworkKnowledge(servers: servers, tls: tls, on: loop)
  }

  static func makeSignalling(
    _ configuration: NodeConfiguration, _ identity: Identity, _ tls: ServerTLS, _ logger: Logger,
    on loop: any EventLoop
  ) -> SignalingService? {
    guard !configuration.offline, let identity = SignalIdentity(seed: identity.seed) else { return nil }
    return SignalingService(
      identity, brokers: configuration.servers.brokers.compactMap(Broker.init), tls: tls, logger: logger, on: loop)
  }
}

/// Why no signal can be sent.
enum SignalError {
  static let offline = NetError(.unsupported, "signal", cause: "the node is offline")
}
