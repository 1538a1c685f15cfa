import NIOCore
import P2PDNet
import P2PDTraversal

/// The other side of a race: takes part in the strategies that need it, for one node that has asked. It dials what the plan
/// lets through, and every stream it opens waits for that node's nomination. Confined to its event loop.
final class Responder: @unchecked Sendable {
  struct Session: Hashable {
    let key: NodeKey
    let id: SessionID
  }

  let session: Session
  /// What the pipe is to speak.
  let name: String
  private let offer: Rendezvous.Offer
  private let plan: DirectPlan
  private let messenger: any Messenger
  private unowned let node: Node
  private let loop: any EventLoop
  private let network: any Network
  private let deadline: NIODeadline
  private var ended: (() -> Void)?

  private var waiting: [DialCandidate] = []
  private var running: [Int: Leg] = [:]
  private var lastLeg = 0
  private var relayLegs = 0
  /// Those the peer has told of.
  private var relays: Set<Endpoint> = []
  private var takesPart: Set<ConnectStrategy> = []
  private var attempts: [PathAttempt]
  private var pace: Scheduled<Void>?
  private var end: Scheduled<Void>?
  private var hand: PunchHand?
  private var punch: TCPPunch?
  private var lent: LentRelay?
  private var held: (stream: TLSTransport, way: PathRace.Way)?
  /// How many attempts the peer was told of.
  private var told = -1
  private var isAnswered = false

  private struct Leg {
    var way: PathRace.Way
    var connection: (any StreamAttempt)?
    var relay: RelayDial?
    var arrival: Arrival?

    /// What the peer has a stream of stays for it to close: it may have taken it for another connect of its own.
    func giveUp() {
      connection?.cancel()
      relay?.cancel()
      if let arrival, !arrival.isProven { arrival.cut() }
    }
  }

  /// - Parameter ended: called once, the last of all.
  init(
    _ session: Session, _ offer: Rendezvous.Offer, _ plan: DirectPlan, messenger: any Messenger, of node: Node,
    ended: @escaping () -> Void
  ) throws(NetError) {
    self.session = session
    self.offer = offer
    self.plan = plan
    self.messenger = messenger
    self.node = node
    self.ended = ended
    name = offer.protocolName
    loop = node.loop
    network = try node.loop.requireNetwork("answer")
    deadline = node.loop.now + Self.patience
    attempts = plan.skipped
  }

  /// Something it takes no part in; told with the rest.
  func skip(_ attempt: PathAttempt) { attempts.append(attempt) }

  /// Begins: dials, where it may, while the answer is still being made.
  /// - Parameter strategies: those it takes part in.
  func start(_ strategies: Set<ConnectStrategy>) {
    takesPart = strategies
    end = loop.assumeIsolated().scheduleTask(deadline: deadline) { self.lastCall() }
    guard strategies.contains(.reverse) else { return }
    waiting = plan.candidates
    dialNext()
  }

  /// The peer is told on which ports this side punches, and has them when the answer has come.
  /// - Parameter way: how long the answer takes.
  func answered(_ hand: PunchHand?, takes way: TimeAmount) {
    isAnswered = true
    self.hand = hand
    if let hand, let side = offer.side.punch { startPunch(hand, side, at: loop.now + way) }
    reportIfDone()
  }

  /// Nothing more comes of it.
  var isOver: Bool { ended == nil }

  /// The peer has opened relays, or, where there are none, wants one of this node's.
  /// - Parameter answer: says that it was heard; nil: nobody waits for that.
  func relayed(_ endpoints: [Endpoint], _ answer: (([UInt8]) -> Void)?) {
    guard ended != nil else { return }
    guard !endpoints.isEmpty else { return lend(answer) }
    answer?([])
    guard takesPart.contains(.relay) else { return }
    for endpoint in endpoints.prefix(Self.mostRelays) where !relays.contains(endpoint) {
      guard relayLegs < Self.mostRelays else { return }
      relays.insert(endpoint)
      // A stranger's word: nothing on this machine is dialled for it.
      let plan = DirectPlan(
        to: [PeerPath(interface: 0, local: endpoint)], from: LocalAddress.all(of: node.interfaces), trust: .stranger,
        for: .relay)
      attempts += plan.skipped
      guard plan.candidates.contains(where: { $0.endpoint == endpoint }) else { continue }
      guard node.responders.dials(1, for: session.key, at: loop.now) == 1 else { continue }
      relayLegs += 1
      let id = nextLeg(PathRace.Way(.relay, .relay, endpoint))
      dial(endpoint, id)
    }
    reportIfDone()
  }

  private func dial(_ endpoint: Endpoint, _ id: Int) {
    let until = deadline - Self.patienceForReport
    // An allocation that is opened for others, like one that is lent.
    let (owner, key, loop) = (node, session.key, loop)
    let detour = RelayDetour.Plan(
      of: node, session.id, messenger, until: until,
      refusal: { [weak owner] in
        owner?.responders.lend(to: key, at: loop.now) ?? false ? nil : Self.busy
      }, closed: { [weak owner] in owner?.responders.gotBack(from: key) })
    running[id]?.relay = RelayDial(to: endpoint, until: until, detour: detour, on: loop) { result in
      guard let dial = self.running[id]?.relay else {
        if case .success(let stream) = result { stream.abort() }
        return
      }
      switch result {
      case .success(let stream):
        self.node.isWalled = dial.isDetoured
        if dial.isDetoured { self.attempts += dial.report }
        self.receive(id, stream, isServer: true)
        self.reportIfDone()
      case .failure:
        self.running[id] = nil
        self.attempts += dial.report
        self.reportIfDone()
      }
    }
  }

  /// The peer cannot dial the relay that this node has opened for it, and comes by these.
  func rounded(_ endpoints: [Endpoint], _ answer: (([UInt8]) -> Void)?) {
    guard let lent else { return RelayPath.refuse(session.id, RelayPath.notThere, answer) }
    lent.rounded(endpoints, session.id, answer)
  }

  /// Opens a relay at this node's server, for a peer that knows none.
  private func lend(_ answer: (([UInt8]) -> Void)?) {
    guard let answer, lent == nil else { return }
    func refuse(_ code: NetError.Code, _ why: String) {
      answer(Rendezvous(session.id, .report([PathAttempt(.relay, code, "not tried: \(why)")])).bytes)
    }
    guard takesPart.contains(.relay) else { return refuse(.unsupported, "it was not offered") }
    guard !node.configuration.servers.turn.isEmpty else { return refuse(.unsupported, "it knows no TURN server") }
    guard node.responders.lend(to: session.key, at: loop.now) else {
      return refuse(.limit, Self.busy.cause)
    }
    let (owner, id, key) = (node, session.id, session.key)
    lent = LentRelay(
      owner, for: offer.side.outside,
      opened: { endpoint, failures in
        let met = Rendezvous.Message.report(failures.map { PathAttempt(.relay, $0) })
        answer(Rendezvous(id, endpoint.map { Rendezvous.Message.relay([$0]) } ?? met).bytes)
      },
      arrived: { [weak self] stream, peer in
        guard let self, ended != nil else { return stream.abort() }
        receive(nextLeg(PathRace.Way(.relay, .relay, peer)), stream, isServer: true)
      },
      closed: { [weak owner] in owner?.responders.gotBack(from: key) })
  }

  /// The peer nominates a stream of this session. A relayed one may be followed by a better one.
  func chosen(_ strategy: ConnectStrategy) {
    if strategy == .relay { lent?.retire() } else { cancel() }
  }

  /// The peer moves the pipe here, and the pipe has not come yet.
  func hold(_ stream: TLSTransport, _ way: PathRace.Way) {
    guard held == nil, ended != nil else { return stream.abort() }
    held = (stream, way)
  }

  func takeHeld() -> (stream: TLSTransport, way: PathRace.Way)? {
    defer { held = nil }
    return held
  }

  /// Ends it, and whatever of it the peer has not nominated.
  func cancel() {
    guard let ended else { return }
    self.ended = nil
    pace?.cancel()
    end?.cancel()
    punch?.cancel()
    punch = nil
    if let hand { node.punchPorts.giveBack(hand) }
    hand = nil
    lent?.retire()
    lent = nil
    waiting = []
    held?.stream.abort()
    held = nil
    let legs = running.values
    running = [:]
    for leg in legs { leg.giveUp() }
    ended()
  }

  // MARK: Streams

  private func dialNext() {
    pace?.cancel()
    pace = nil
    guard ended != nil, !waiting.isEmpty else { return reportIfDone() }
    let candidate = waiting.removeFirst()
    let id = nextLeg(PathRace.Way(.reverse, candidate.path, candidate.endpoint))
    running[id]?.connection = network.connectStream(to: .ip(candidate.endpoint), StreamOptions()) { result in
      guard self.running[id] != nil else { return }
      switch result {
      case .success(let stream): self.receive(id, stream, isServer: false)
      case .failure(let error): self.failed(id, error)
      }
    }
    if !waiting.isEmpty {
      pace = loop.assumeIsolated().scheduleTask(in: PathRace.headStart) { self.dialNext() }
    }
  }

  private func nextLeg(_ way: PathRace.Way) -> Int {
    lastLeg += 1
    running[lastLeg] = Leg(way: way)
    return lastLeg
  }

  /// The handshake, and the wait to be nominated.
  private func receive(_ id: Int, _ stream: Transport, isServer: Bool) {
    guard let way = running[id]?.way else { return stream.abort() }
    let left = max(.milliseconds(1), deadline - loop.now + Self.patienceForNomination)
    do throws(NetError) {
      let arrival = try node.receive(
        stream, by: way, from: session.key, isServer: isServer, within: left
      ) { error in
        guard self.running[id] != nil else { return }
        if let error { self.failed(id, error) } else { self.running[id] = nil }
      }
      running[id]?.connection = nil
      running[id]?.relay = nil
      running[id]?.arrival = arrival
    } catch {
      stream.abort()
      failed(id, error)
    }
  }

  private func failed(_ id: Int, _ error: NetError) {
    guard let leg = running.removeValue(forKey: id) else { return }
    attempts.append(PathAttempt(leg.way.strategy, remote: leg.way.remote, error))
    if leg.way.strategy == .reverse { dialNext() } else { reportIfDone() }
  }

  // MARK: Punching

  private func startPunch(_ hand: PunchHand, _ side: PunchSide, at time: NIODeadline) {
    self.hand = nil
    let ourselves = Set(LocalAddress.all(of: node.interfaces).map(\.ip))
    let mayDial = { self.node.responders.punchCall(for: self.session.key, at: self.loop.now) }
    let punch = TCPPunch(hand, peer: side, at: time, except: ourselves, mayDial: mayDial, on: loop) { stream, attempt in
      let id = self.nextLeg(PathRace.Way(.punch, self.node.path(of: attempt.to.ip), attempt.to))
      self.receive(id, stream, isServer: true)
    } ended: { report in
      self.punch = nil
      self.attempts += report.pathAttempts
      self.reportIfDone()
    }
    self.punch = punch
    punch.start()
  }

  // MARK: The end

  /// Who has not got through by now will not. Streams that wait for their nomination wait on for a moment.
  private func lastCall() {
    waiting = []
    if let punch {
      attempts += punch.report.pathAttempts
      punch.cancel()
    }
    punch = nil
    for (id, leg) in running where leg.arrival == nil && leg.relay == nil {
      running[id] = nil
      leg.giveUp()
      attempts.append(PathAttempt(leg.way.strategy, remote: leg.way.remote, .timeout, "no answer in 5 s"))
    }
    reportIfDone()
    end = loop.assumeIsolated().scheduleTask(in: Self.patienceForNomination) { self.cancel() }
  }

  /// Tells the peer once nothing more comes of this by itself; again where there is more to tell.
  private func reportIfDone() {
    guard isAnswered, ended != nil, waiting.isEmpty, punch == nil, attempts.count != told,
      !running.values.contains(where: { $0.way.strategy != .relay })
    else { return }
    told = attempts.count
    messenger.tell(Rendezvous(session.id, .report(attempts)).bytes)
  }

  private static let busy = NetError(.limit, "relay", cause: "it relays for others already as much as it may")
  /// Of one session.
  private static let mostRelays = 2
  /// As long as the side that connects waits for it (``PathRace``).
  private static let patience = TimeAmount.seconds(5)
  /// What became of a relay is told before the other side gives up, which began to wait when it had this one's answer.
  private static let patienceForReport = TimeAmount.milliseconds(300)
  /// For the settling of the other side, and its word's way.
  private static let patienceForNomination = TimeAmount.seconds(5)
}
