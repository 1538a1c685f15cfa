import NIOCore
import P2PDNet
import P2PDTraversal

/// The relay of a race, seen from the node that connects: an allocation of its own, which the peer is told of; or, where
/// it has none or cannot get it in time, one that the peer is asked to open, and that this side dials. Confined to its
/// event loop.
final class RelayWay: @unchecked Sendable {
  /// What a relay of its own has met, and those of the peer's.
  private(set) var attempts: [PathAttempt] = []
  /// Is told, in words, of what was gone round.
  var watch: ((String) -> Void)?

  private let session: SessionID
  private let messenger: any Messenger
  private unowned let node: Node
  private let loop: any EventLoop
  private let deadline: NIODeadline
  private var arrived: ((Transport, Endpoint) -> Void)?
  private var over: (([PathAttempt]) -> Void)?
  private var own: RelayPath?
  private var dials: [Endpoint: RelayDial] = [:]
  private var isAnswered = false
  private var wantsPeers = false
  private var hasAsked = false
  private var isAsking = false
  private var isTold = false
  private var impatience: Scheduled<Void>?

  /// - Parameters:
  ///   - arrived: a raw stream that the peer is at the other end of.
  ///   - over: called once: nothing more will come.
  init(
    _ session: SessionID, _ messenger: any Messenger, of node: Node, deadline: NIODeadline,
    arrived: @escaping (Transport, Endpoint) -> Void, over: @escaping ([PathAttempt]) -> Void
  ) {
    self.session = session
    self.messenger = messenger
    self.node = node
    loop = node.loop
    self.deadline = deadline
    self.arrived = arrived
    self.over = over
  }

  /// - Parameter peers: the peer as seen from outside, as far as it is known: it dials from there.
  func open(for peers: [IPAddress]) {
    let servers = node.configuration.servers.turn
    guard !servers.isEmpty else {
      attempts.append(PathAttempt(.relay, .unsupported, "not tried: this node knows no TURN server"))
      return askPeer()
    }
    let path = RelayPath(servers: servers, family: peers.relayFamily, tls: node.serverTLS, on: loop)
    own = path
    path.connected = { [weak self] stream, peer in self?.arrived?(stream, peer) ?? stream.abort() }
    path.lost = { [weak self] in self?.lostOwn($0) }
    path.open().assumeIsolated().whenComplete { [weak self] result in
      guard let self, own === path else { return }
      switch result {
      case .success: tell()
      case .failure(let error): lostOwn(NetError(error, "relay"))
      }
    }
    impatience = loop.assumeIsolated().scheduleTask(in: Self.patience) { [weak self] in
      guard let self, own?.relayed == nil else { return }
      askPeer()
    }
  }

  func permit(_ peers: [IPAddress]) { own?.permit(peers) }

  /// The peer cannot dial the relay, and comes by these.
  func rounded(_ endpoints: [Endpoint], _ answer: (([UInt8]) -> Void)?) {
    guard let own else { return RelayPath.refuse(session, RelayPath.notThere, answer) }
    watch?("relay: the other side cannot dial \(own.relayed.map { "\($0)" } ?? "it"), and comes by a relay of its own")
    own.welcome(endpoints, session, answer)
  }

  /// The peer takes part: from now on it knows what a word about this session belongs to.
  func answered() {
    isAnswered = true
    if wantsPeers { askPeer() }
    // What was said before may have come before the offer, by another broker.
    if own?.relayed != nil, !isTold { tell() }
  }

  /// A stream of it is the pipe: the allocation ends with the stream, all else now.
  func retire() {
    own?.retire()
    own = nil
    end()
  }

  /// Gives it up. What became of it is in ``attempts``.
  func end() {
    (arrived, over) = (nil, nil)
    impatience?.cancel()
    impatience = nil
    if let own {
      let met = own.failures.map { PathAttempt(.relay, $0) }
      attempts += met
      if met.isEmpty {
        let words = own.relayed == nil ? "no TURN server answered in time" : "the other side did not come to the relay"
        attempts.append(PathAttempt(.relay, remote: own.relayed, .timeout, words))
      }
      own.close()
    }
    own = nil
    if isAsking { attempts.append(PathAttempt(.relay, .timeout, Self.silence)) }
    isAsking = false
    for dial in dials.values {
      attempts += dial.report
      dial.cancel()
    }
    dials = [:]
  }

  // MARK: A relay of its own

  /// A word that is lost would make a relay of no use without anybody knowing why: so it is said until it is heard.
  private func tell() {
    guard let relayed = own?.relayed else { return }
    let left = max(.milliseconds(1), deadline - loop.now)
    messenger.request(Rendezvous(session, .relay([relayed])).bytes, timeout: left)
      .assumeIsolated().whenSuccess { [weak self] _ in self?.isTold = true }
  }

  private func lostOwn(_ error: NetError) {
    guard let own else { return }
    let met = own.failures.isEmpty ? [error] : own.failures
    attempts += met.map { PathAttempt(.relay, $0) }
    own.close()
    self.own = nil
    askPeer()
  }

  // MARK: One of the peer's

  private func askPeer() {
    guard over != nil else { return }
    guard isAnswered else { return wantsPeers = true }
    guard !hasAsked else { return finishIfOver() }
    (hasAsked, isAsking) = (true, true)
    let left = max(.milliseconds(1), deadline - loop.now)
    messenger.request(Rendezvous(session, .relay([])).bytes, timeout: left).assumeIsolated().whenComplete {
      [weak self] result in
      guard let self, over != nil else { return }
      isAsking = false
      switch result {
      case .failure(let error):
        attempts.append(PathAttempt(.relay, NetError(error, "relay").code, Self.silence))
      case .success(let (bytes, _)): heard(Rendezvous(bytes))
      }
      finishIfOver()
    }
  }

  private func heard(_ answer: Rendezvous?) {
    switch answer?.message {
    case .relay(let endpoints)? where answer?.session == session && !endpoints.isEmpty:
      // The peer's word, as good as a stranger's: nothing on this machine is dialled for it.
      let plan = DirectPlan(
        to: endpoints.prefix(Self.mostDials).map { PeerPath(interface: 0, local: $0) },
        from: LocalAddress.all(of: node.interfaces), trust: .stranger, for: .relay)
      attempts += plan.skipped
      for candidate in plan.candidates { dial(candidate.endpoint) }
    case .report(let met)? where answer?.session == session:
      attempts += met.map { attempt in
        var attempt = attempt
        attempt.isPeers = true
        return attempt
      }
    default:
      attempts.append(PathAttempt(.relay, .notP2PD, "what the other side said about a relay cannot be read"))
    }
  }

  private func dial(_ endpoint: Endpoint) {
    guard dials[endpoint] == nil else { return }
    let detour = RelayDetour.Plan(of: node, session, messenger, until: deadline)
    dials[endpoint] = RelayDial(to: endpoint, until: deadline, isGreeted: true, detour: detour, on: loop) {
      [weak self] result in
      guard let self, let dial = dials.removeValue(forKey: endpoint) else {
        if case .success(let stream) = result { stream.abort() }
        return
      }
      switch result {
      case .success(let stream):
        node.isWalled = dial.isDetoured
        if dial.isDetoured { for attempt in dial.report { watch?("\(attempt.error)") } }
        arrived?(stream, endpoint) ?? stream.abort()
      case .failure: attempts += dial.report
      }
      finishIfOver()
    }
  }

  private func finishIfOver() {
    guard let over, own == nil, hasAsked, !isAsking, dials.isEmpty else { return }
    let met = attempts
    attempts = []
    end()
    over(met)
  }

  /// A server that has not given an allocation by then, in a few round trips, is as good as dead; the peer's may live.
  private static let patience = TimeAmount.milliseconds(1500)
  private static let mostDials = 2
  private static let silence = "the other side was asked for a relay, and did not say anything"
}

extension [IPAddress] {
  /// The family of a relayed address that a host with these can dial (RFC 8656 §7.1: an allocation has one).
  var relayFamily: AddressFamily { isEmpty || contains { $0.family == .v4 } ? .v4 : .v6 }
}
