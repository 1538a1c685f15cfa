import NIOCore
import NIOSSL
import P2PDNet
import P2PDTraversal

/// The side of the node that connects: performs what ``PathRace`` decides, from the first dial to the pipe, and on to a
/// better way where the pipe is relayed. Confined to its event loop.
final class Connector: @unchecked Sendable {
  /// A way that has been chosen.
  struct Won {
    let proof: HandshakeGate.Proof
    let way: PathRace.Way
  }

  let session: SessionID
  /// Counts up: the one that waits longest has the least.
  let number: UInt64
  let key: NodeKey
  private let name: String
  private let deadline: NIODeadline
  /// Is told each step, in words.
  private let watch: ((String) -> Void)?
  private let context: NIOSSLContext
  private let messenger: (any Messenger)?
  private unowned let node: Node
  private let loop: any EventLoop
  private let network: any Network
  /// What is wanted of the peer.
  private let strategies: Set<ConnectStrategy>
  /// That, and what this side does alone.
  private let wanted: Set<ConnectStrategy>
  private var race: PathRace
  private var won: ((Result<Won, NetError>) -> Void)?
  private var ended: (() -> Void)?

  private var legs: [Int: Leg] = [:]
  private var wake: Scheduled<Void>?
  private var end: Scheduled<Void>?
  private var punch: PunchWay?
  private var relay: RelayWay?
  /// The peer takes part.
  private var isAnswered = false
  /// The peer as seen from outside; empty before its answer.
  private var peers: [IPAddress] = []
  /// What became of strategies that were ended.
  private var leftovers: [PathAttempt] = []
  private var events: [PathRace.Event] = []
  private var isBusy = false
  private var isOver = false
  private var pipe: RelayedPipe?
  /// It goes on on a better way.
  private var moves = false

  /// One stream on its way: a connection, then a handshake, then proven and not chosen yet.
  private struct Leg {
    var began: NIODeadline
    var connection: (any StreamAttempt)?
    var gate: HandshakeGate?
    var proof: HandshakeGate.Proof?

    func giveUp() {
      connection?.cancel()
      gate?.cut()
      proof?.stream.abort()
    }
  }

  /// - Parameters:
  ///   - won: called once, on the loop: the way chosen, which the callee makes the pipe of at once and gives to
  ///     ``handedOut(_:)``; or why there is none.
  ///   - ended: called once, the last of all.
  init(
    _ number: UInt64, session: SessionID = SessionID(), to key: NodeKey, protocol name: String, _ plan: RacePlan,
    deadline: NIODeadline, context: NIOSSLContext,
    messenger: (any Messenger)?, of node: Node, watch: ((String) -> Void)? = nil,
    won: @escaping (Result<Won, NetError>) -> Void,
    ended: @escaping () -> Void
  ) throws(NetError) {
    self.number = number
    self.session = session
    self.key = key
    self.name = name
    self.deadline = deadline
    self.context = context
    self.messenger = messenger
    self.node = node
    self.watch = watch
    self.won = won
    self.ended = ended
    loop = node.loop
    network = try node.loop.requireNetwork("connect")
    wanted = plan.strategies
    strategies = plan.strategies.subtracting([.direct])
    race = PathRace(plan)
  }

  func start() {
    end = loop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.handle(
        .stop(NetError(.timeout, "connect to node \(self.key.short)", cause: "no way led there in time")))
    }
    handle(.start)
  }

  /// Gives everything up; `won` hears `cancelled` unless there is a pipe already, which stays.
  func cancel() {
    // Where there is a pipe, it has ended, and nobody wants to know what else there was.
    pipe = nil
    handle(.stop(NetError(.cancelled, "connect to node \(key.short)", cause: "it was called off")))
  }

  /// The pipe, where it can move to a better way.
  func handedOut(_ pipe: RelayedPipe) { self.pipe = pipe }

  func way(_ id: Int) -> PathRace.Way? { race.way(id) }

  // MARK: From the peer

  /// Whether a stream that the peer has dialled would be welcome.
  var awaitsReverse: Bool { !isOver && strategies.contains(.reverse) && race.awaitsReverse }

  /// The peer has dialled back.
  func reversed(_ proof: HandshakeGate.Proof, from peer: Endpoint, by path: DialPath) {
    let id = race.add(PathRace.Way(.reverse, path, peer))
    legs[id] = Leg(began: loop.now, proof: proof)
    handle(.proven(id, took: .zero))
  }

  func reported(_ attempts: [PathAttempt]) { handle(.reported(attempts)) }

  /// The peer cannot dial this side's relay, and comes by one of its own.
  func rounded(_ endpoints: [Endpoint], _ answer: (([UInt8]) -> Void)?) {
    guard let relay else { return RelayPath.refuse(session, RelayPath.notThere, answer) }
    relay.rounded(endpoints, answer)
  }

  // MARK: The race

  /// Events that come while others are performed wait for their turn.
  private func handle(_ event: PathRace.Event) {
    if watch != nil, won != nil || !isStop(event), let words = words(of: event) { watch?(words) }
    events.append(event)
    guard !isBusy else { return }
    isBusy = true
    defer { isBusy = false }
    while !events.isEmpty {
      for action in race.handle(events.removeFirst(), now: loop.now) { perform(action) }
    }
  }

  private func perform(_ action: PathRace.Action) {
    if watch != nil, let words = words(of: action) { watch?(words) }
    switch action {
    case .dial(let id, let candidate): dial(id, candidate)
    case .offer: offer()
    case .punch(let side): startPunch(side)
    case .relay: openRelay()
    case .permit(let peers): relay?.permit(peers)
    case .use(let id): use(id)
    case .move(let id): move(to: id)
    case .cancel(let id): legs.removeValue(forKey: id)?.giveUp()
    case .end(.punch): endPunch()
    case .end(.relay): endRelay()
    case .end: break
    case .abort: messenger?.tell(Rendezvous(session, .abort).bytes)
    case .fail(let failure):
      finish(.failure(why(failure).error))
    case .finish:
      if watch != nil, pipe != nil, let why = whyRelayed { watch?(words(of: why)) }
      finish(nil)
    case .wake(let time):
      wake?.cancel()
      wake = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.tick) }
    }
  }

  /// Why the relayed pipe has found no better way; nil where it moves to one. To be asked when the race is over.
  var whyRelayed: NetError? {
    moves ? nil : why(PathRace.Failure(attempts: race.met, wasAnswered: isAnswered)).whyRelayed
  }

  private func why(_ failure: PathRace.Failure) -> ConnectFailure {
    var failure = failure
    failure.attempts.insert(
      contentsOf: leftovers, at: failure.attempts.firstIndex(where: \.isPeers) ?? failure.attempts.endIndex)
    return ConnectFailure(failure, to: key, by: wanted, hasRelay: !node.configuration.servers.turn.isEmpty)
  }

  private func finish(_ failure: Result<Won, NetError>?) {
    guard !isOver else { return }
    isOver = true
    wake?.cancel()
    end?.cancel()
    endPunch()
    endRelay()
    for leg in legs.values { leg.giveUp() }
    legs = [:]
    pipe = nil
    let (won, ended) = (won, ended)
    (self.won, self.ended) = (nil, nil)
    if let failure { won?(failure) }
    ended?()
  }

  // MARK: Streams

  private func dial(_ id: Int, _ candidate: DialCandidate) {
    let what = "\(candidate.path.rawValue) \(candidate.endpoint)"
    legs[id] = Leg(
      began: loop.now,
      connection: network.connectStream(to: .ip(candidate.endpoint), StreamOptions()) { result in
        guard self.legs[id] != nil else { return }
        switch result {
        case .success(let stream): self.prove(id, stream, what)
        case .failure(let error): self.failed(id, error)
        }
      })
  }

  /// This node is TLS's client on all streams but those that the peer has dialled.
  private func prove(_ id: Int, _ stream: Transport, _ what: String) {
    let began = legs[id]?.began ?? loop.now
    let gate = HandshakeGate(what, expected: key) { result in
      // Given up, and cut.
      guard self.legs[id] != nil else {
        if case .success(let proof) = result { proof.stream.abort() }
        return
      }
      switch result {
      case .failure(let error): self.failed(id, error)
      case .success(let proof): self.proven(id, proof)
      }
    }
    legs[id] = Leg(began: began, gate: gate)
    gate.start(
      over: stream, context: context, isServer: false, time: max(.milliseconds(1), deadline - loop.now), on: loop)
  }

  private func failed(_ id: Int, _ error: NetError) {
    legs[id] = nil
    handle(.failed(id, error))
  }

  private func proven(_ id: Int, _ proof: HandshakeGate.Proof) {
    switch proof.agreed {
    case .hosted:
      let began = legs[id]?.began ?? loop.now
      legs[id] = Leg(began: began, proof: proof)
      handle(.proven(id, took: loop.now - began))
    case .notHosted:
      proof.stream.close(linger: true)
      let error = NetError(.noProtocol, "", cause: "the node does not host this protocol")
      failed(id, error)
      // The right node: no other way to it can have another answer.
      handle(.stop(error))
    case .reversed, .notANode:
      proof.stream.close(linger: true)
      failed(id, NetError(.notP2PD, "", cause: "what answered agreed on no p2pd protocol"))
    }
  }

  private func use(_ id: Int) {
    guard let proof = legs.removeValue(forKey: id)?.proof, let way = race.way(id) else {
      return handle(.failed(id, NetError(.closed, "", cause: "it ended before it was chosen")))
    }
    if let error = proof.stream.sendPreface(Nomination(.use, session).bytes) {
      proof.stream.close(linger: false)
      return handle(.failed(id, error))
    }
    let won = won
    self.won = nil
    end?.cancel()
    if way.strategy == .relay {
      // It ends with the stream.
      relay?.retire()
      relay = nil
    }
    won?(.success(Won(proof: proof, way: way)))
    handle(.used(id))
  }

  private func move(to id: Int) {
    guard let proof = legs.removeValue(forKey: id)?.proof, let way = race.way(id) else { return }
    guard let pipe, proof.stream.sendPreface(Nomination(.move, session).bytes) == nil else {
      return proof.stream.abort()
    }
    moves = true
    pipe.move(to: proof.stream, way)
  }

  // MARK: Signalling

  private func offer() {
    // A node that has just started does not know yet what to tell.
    node.whenOriented {
      guard !self.isOver else { return }
      guard self.strategies.contains(.punch) else { return self.sendOffer() }
      let punch = PunchWay(of: self.node) { stream, attempt in
        self.punched(stream, attempt)
      } over: { met in
        self.handle(.over(.punch, met))
      }
      self.punch = punch
      punch.prepare { self.sendOffer() }
    }
  }

  private func sendOffer() {
    guard let messenger else { return }
    var offer = Rendezvous.Offer()
    offer.protocolName = name
    offer.strategies = strategies
    offer.side = node.side(punch: punch?.side)
    offer.side.leg = messenger.leg
    let left = max(.milliseconds(1), deadline - loop.now)
    messenger.request(Rendezvous(session, .offer(offer)).bytes, timeout: left).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error):
        let error = NetError(error, "signal")
        let silence = NetError(.timeout, "signal", cause: "the other side did not answer through its brokers")
        self.handle(.unanswered(error.code == .timeout ? silence : error))
      case .success(let (bytes, _)): self.answered(bytes)
      }
    }
  }

  private func answered(_ bytes: [UInt8]) {
    guard !isOver else { return }
    guard let rendezvous = Rendezvous(bytes), rendezvous.session == session,
      case .answer(let answer) = rendezvous.message
    else {
      return handle(.unanswered(NetError(.notP2PD, "signal", cause: "the other side's answer cannot be read")))
    }
    let plan = DirectPlan(to: answer.side.paths, from: LocalAddress.all(of: node.interfaces))
    peers = answer.side.outside
    handle(.answered(answer, plan))
    isAnswered = answer.refusal == nil
    if isAnswered { relay?.answered() }
  }

  // MARK: Punching

  private func startPunch(_ side: PunchSide) {
    let verdict = punch?.start(side)
    if let verdict {
      watch?(words(ofPunch: side))
      if case .uncertain = verdict { handle(.unlikely(.punch)) }
    }
  }

  private func punched(_ stream: Transport, _ attempt: PunchReport.Attempt) {
    let id = race.add(PathRace.Way(.punch, node.path(of: attempt.to.ip), attempt.to))
    legs[id] = Leg(began: loop.now)
    prove(id, stream, "punched \(attempt.to)")
  }

  private func endPunch() {
    leftovers += punch?.end() ?? []
    punch = nil
  }

  // MARK: Relaying

  private func openRelay() {
    guard relay == nil, let messenger else { return }
    let relay = RelayWay(session, messenger, of: node, deadline: deadline) { stream, peer in
      let id = self.race.add(PathRace.Way(.relay, .relay, peer))
      self.legs[id] = Leg(began: self.loop.now)
      self.prove(id, stream, "relayed \(peer)")
    } over: { met in
      self.relay = nil
      self.handle(.over(.relay, met))
    }
    self.relay = relay
    relay.watch = watch
    if isAnswered { relay.answered() }
    relay.open(for: peers)
  }

  private func endRelay() {
    guard let relay else { return }
    relay.end()
    leftovers += relay.attempts
    self.relay = nil
  }
}
