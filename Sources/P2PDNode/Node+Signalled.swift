import NIOCore
import P2PDNet
import P2PDTraversal

/// What other nodes say over signalling: an offer makes this node take part in their race, the rest goes to the race it
/// belongs to.
extension Node {
  /// A message came from the node of this key.
  /// - Parameters:
  ///   - oneWay: how long a message to that node takes, where it is known.
  ///   - messenger: leads back to it.
  ///   - answer: answers a request, once; nil for a message that wants no answer.
  func signalled(
    _ bytes: [UInt8], from key: NodeKey, oneWay: TimeAmount?, messenger: any Messenger, answer: (([UInt8]) -> Void)?
  ) {
    guard closing == nil else { return }
    guard let rendezvous = Rendezvous(bytes) else {
      return logger.debug(
        "a signal that cannot be read", metadata: ["key": "\(key.short)", "bytes": "\(bytes.count)"])
    }
    let session = Responder.Session(key: key, id: rendezvous.session)
    switch rendezvous.message {
    case .offer(let offer):
      if let answer { offered(offer, session, oneWay, messenger, answer) }
    case .relay(let endpoints):
      if let responder = responders[session] {
        responder.relayed(endpoints, answer)
      } else if !endpoints.isEmpty, responders.keep(endpoints, for: session) {
        answer?([])
      }
    case .round(let endpoints):
      if let responder = responders[session] { return responder.rounded(endpoints, answer) }
      connector(session)?.rounded(endpoints, answer)
    case .abort: responders[session]?.cancel()
    case .report(let attempts): connector(session)?.reported(attempts)
    case .whereabouts: if let answer { tellAddress(session, answer) }
    // Come as answers to requests only.
    case .answer, .here: break
    }
  }

  private func connector(_ session: Responder.Session) -> Connector? {
    connectors.values.first { $0.key == session.key && $0.session == session.id }
  }

  // MARK: An offer

  private func offered(
    _ offer: Rendezvous.Offer, _ session: Responder.Session, _ oneWay: TimeAmount?, _ messenger: any Messenger,
    _ answer: @escaping ([UInt8]) -> Void
  ) {
    func refuse(_ refusal: Rendezvous.Refusal) {
      var refused = Rendezvous.Answer()
      refused.refusal = refusal
      logger.debug(
        "takes no part in a connect", metadata: ["key": "\(session.key.short)", "why": "\(refusal.words)"])
      answer(Rendezvous(session.id, .answer(refused)).bytes)
    }
    guard offer.protocolName.isEmpty || hosted[offer.protocolName] != nil else { return refuse(.noProtocol) }
    switch responders.admit(session, isRelayed: relayed[session] != nil) {
    case .ignore: return
    case .refuse(let refusal): return refuse(refusal)
    case .begin: break
    }
    let wanted = offer.strategies.subtracting([.direct])
    // Who does not want to be dialled need not hear what could not be.
    let plan = DirectPlan(
      to: wanted.contains(.reverse) ? offer.side.paths : [], from: LocalAddress.all(of: interfaces),
      outside: side(punch: nil).paths.translated,
      trust: .stranger,
      for: .reverse)
    allowed(offer, wanted, plan, session.key).whenComplete { result in
      guard self.closing == nil, (try? result.get()) ?? false else {
        self.responders.end(session)
        return refuse(self.closing == nil ? .notAllowed : .closing)
      }
      self.takePart(offer, wanted, plan, session, oneWay, messenger, answer)
    }
  }

  /// Asks whoever is to be asked.
  private func allowed(
    _ offer: Rendezvous.Offer, _ wanted: Set<ConnectStrategy>, _ plan: DirectPlan, _ key: NodeKey
  ) -> EventLoopFuture<Bool>.Isolated {
    guard let consent else { return loop.makeSucceededFuture(true).assumeIsolated() }
    let punched = wanted.contains(.punch) ? offer.side.punch?.paths.flatMap(\.endpoints) ?? [] : []
    let info = ConsentInfo(
      protocolName: offer.protocolName,
      strategies: ConnectStrategy.allCases.filter { wanted.contains($0) }.map(\.rawValue),
      addresses: (wanted.contains(.reverse) ? plan.candidates.map(\.endpoint) : []) + punched)
    return consent(key, info).assumeIsolated()
  }

  private func takePart(
    _ offer: Rendezvous.Offer, _ wanted: Set<ConnectStrategy>, _ plan: DirectPlan, _ session: Responder.Session,
    _ oneWay: TimeAmount?, _ messenger: any Messenger, _ answer: @escaping ([UInt8]) -> Void
  ) {
    var plan = plan
    let responder: Responder
    do throws(NetError) {
      if wanted.contains(.reverse) {
        plan.limit(to: responders.dials(plan.candidates.count, for: session.key, at: loop.now))
      }
      responder = try Responder(session, offer, plan, messenger: messenger, of: self) { [weak self] in
        self?.responders.end(session)
      }
    } catch {
      return responders.end(session)
    }
    responders.set(responder)
    // What needs no measuring does not wait for it.
    responder.start(wanted)
    if let early = responders.takeKept(session) { responder.relayed(early, nil) }
    logger.debug(
      "takes part in a connect",
      metadata: [
        "key": "\(session.key.short)", "session": "\(session.id)", "protocol": "\(offer.protocolName)",
        "dials": "\(wanted.contains(.reverse) ? plan.candidates.count : 0)",
      ])
    // Both legs make the way, before anything was measured between the two.
    let legs = offer.side.leg.flatMap { a in messenger.leg.map { TimeAmount.nanoseconds((a + $0).nanoseconds / 2) } }
    func tell(_ hand: PunchHand?) {
      guard !responder.isOver else {
        if let hand { punchPorts.giveBack(hand) }
        return
      }
      var told = Rendezvous.Answer()
      told.side = side(punch: hand?.side)
      told.side.leg = messenger.leg
      answer(Rendezvous(session.id, .answer(told)).bytes)
      responder.answered(hand, takes: oneWay ?? legs ?? Self.assumedWay)
    }
    guard wanted.contains(.punch), offer.side.punch != nil else { return tell(nil) }
    guard responders.punch(for: session.key, at: loop.now) else {
      responder.skip(PathAttempt(.punch, .limit, "not tried: this node punches for others already too often"))
      return tell(nil)
    }
    punchPorts.take { tell($0) }
  }

  /// Half of what a message through a broker of the same continent takes there and back.
  private static let assumedWay = TimeAmount.milliseconds(40)

  // MARK: This side

  /// How this node can be found, as of now.
  func side(punch: PunchSide?) -> Rendezvous.Side {
    var side = Rendezvous.Side()
    side.paths = offered.routes.map { route in
      var path = route.path
      let interface = interfaces.first { $0.addresses.contains { $0.ip.isSameHost(as: route.nic) } }
      if let interface, let report = knowledge.report(interface: interface.name, of: route.nic) {
        (path.udp, path.tcp) = (NATWay(report.udp), NATWay(report.tcp))
      }
      return path
    }
    side.punch = punch
    return side
  }
}

extension NodeRoute {
  /// As two nodes tell it each other.
  var path: PeerPath {
    var path = PeerPath(interface: interface, local: Endpoint(ip: nic, port: port))
    if case .at(let seen) = external { path.external = seen }
    return path
  }
}
