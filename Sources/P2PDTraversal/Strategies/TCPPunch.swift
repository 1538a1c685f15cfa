import NIOCore
import P2PDNet

/// Performs a ``PunchPlan``: connects from the ports in hand to the peer's at the agreed time, listens where the plan says
/// so, and hands out every stream that comes about. Whether one leads to the peer, and which of several is used, others
/// find out; streams that are too many are best closed with ``Transport/abort()``.
///
/// Confined to its loop. It takes the hand and closes it, and lives until it ends or is cancelled, whoever holds it.
public final class TCPPunch {
  private let hand: PunchHand
  private let peer: PunchSide
  private let at: NIODeadline
  private let until: NIODeadline?
  private let mayDial: () -> Bool
  private let loop: any EventLoop
  private var connected: ((Transport, PunchReport.Attempt) -> Void)?
  private var ended: ((PunchReport) -> Void)?

  private var plan: PunchPlan
  private var generator = SystemRandomNumberGenerator()
  private var dialling: [PunchPlan.Pair: any StreamAttempt] = [:]
  private var listeners: [PunchListener] = []
  private var accepted: [PunchReport.Attempt] = []
  private var problems: [PunchReport.Attempt] = []
  private var timer: Scheduled<Void>?
  private var isOver = false

  /// - Parameters:
  ///   - hand: ours; the peer was told its side.
  ///   - peer: what the peer told.
  ///   - start: when both sides dial. Which side is a bit late does not matter.
  ///   - until: when to give up; after 5 s at the latest.
  ///   - ourselves: addresses of this machine, which are not dialled.
  ///   - mayDial: asked before each dial: how many a stranger gets is for the caller to say.
  ///   - connected: a stream that nobody reads yet, with the pair it belongs to. The callee owns it.
  ///   - ended: called once, when nothing more will come; not after ``cancel()``.
  public init(
    _ hand: PunchHand, peer: PunchSide, at start: NIODeadline, until: NIODeadline? = nil,
    except ourselves: Set<IPAddress> = [], mayDial: @escaping () -> Bool = { true }, on loop: any EventLoop,
    connected: @escaping (Transport, PunchReport.Attempt) -> Void, ended: @escaping (PunchReport) -> Void
  ) {
    self.hand = hand
    self.peer = peer.believed(by: hand.side, except: ourselves)
    self.mayDial = mayDial
    at = start
    self.until = until
    self.loop = loop
    self.connected = connected
    self.ended = ended
    plan = PunchPlan(own: hand.side, peer: self.peer, at: start, until: until)
  }

  /// Whether it can work; known before it starts.
  public var verdict: PunchRule.Verdict { plan.verdict }

  /// What was tried so far, and what came of it.
  public var report: PunchReport {
    var report = PunchReport(reason: plan.verdict.reason)
    report.attempts = plan.attempts.compactMap { pair, made in
      guard let port = hand.port(pair.path, pair.port) else { return nil }
      return PunchReport.Attempt(
        from: port.local, to: pair.to, after: made.first, tries: made.count, seen: made.seen)
    }
    report.attempts += accepted + problems
    return report
  }

  /// Begins. Nothing is called back before this returns.
  public func start() {
    timer = loop.assumeIsolated().scheduleTask(in: .zero) { self.begin() }
  }

  /// Ends it without a word. Streams that were handed out stay.
  public func cancel() {
    ended = nil
    finish()
  }

  // MARK: Before the start

  private func begin() {
    guard !isOver else { return }
    let isRow = peer.paths.contains { $0.ports.contains(where: \.isPredicted) }
    guard let counter = hand.counter, isRow, !plan.verdict.isImpossible else { return step(.start) }
    // Two rows of ports meet only in step, and other connections of this host may have moved ours on.
    let time = max(loop.now, at - counter.time)
    timer = loop.assumeIsolated().scheduleTask(deadline: time) {
      let latest = self.loop.now + counter.time + Self.counterPatience
      self.timer = self.loop.assumeIsolated().scheduleTask(deadline: latest) { self.counted(1) }
      // Where it is not answered, it has taken a port nevertheless.
      counter.count { self.counted($0 ?? 1) }
    }
  }

  private func counted(_ used: Int?) {
    guard !isOver, !isCounted else { return }
    isCounted = true
    if let used { plan = PunchPlan(own: hand.side, peer: peer, at: at, until: until, used: used) }
    step(.start)
  }

  private var isCounted = false

  // MARK: Performing

  private func step(_ event: PunchPlan.Event) {
    guard !isOver else { return }
    for action in plan.handle(event, now: loop.now, using: &generator) {
      // A callback may have cancelled all this.
      guard !isOver else { return }
      switch action {
      case .listen(let path, let port): listen(path, port)
      case .dial(let pair): dial(pair)
      case .wait(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.step(.timer) }
      case .end: finish()
      }
    }
  }

  private func dial(_ pair: PunchPlan.Pair) {
    guard let port = hand.port(pair.path, pair.port) else { return }
    guard mayDial() else { return fail(pair, .limited) }
    hand.isUsed = true
    let network: any Network
    do throws(NetError) {
      network = try loop.requireNetwork("punch")
    } catch {
      return fail(pair, .failed(error.cause))
    }
    dialling[pair] = network.connectStream(to: .ip(pair.to), Self.options(port)) { result in
      self.dialling[pair] = nil
      switch result {
      case .failure(let error): self.step(.failed(pair, PunchReport.Seen(error)))
      case .success(let stream):
        if stream.localEndpoint == stream.remoteEndpoint {
          stream.abort()
          return self.step(.failed(pair, .itself))
        }
        self.step(.connected(pair))
        self.handOut(stream, self.attempt(pair, port))
      }
    }
  }

  private func fail(_ pair: PunchPlan.Pair, _ seen: PunchReport.Seen) {
    loop.assumeIsolated().execute { self.step(.failed(pair, seen)) }
  }

  private func attempt(_ pair: PunchPlan.Pair, _ port: TCPPort) -> PunchReport.Attempt {
    let made = plan.attempts.first { $0.pair == pair }?.attempt
    return PunchReport.Attempt(
      from: port.local, to: pair.to, after: made?.first ?? .zero, tries: made?.count ?? 1, seen: .connected)
  }

  private func handOut(_ stream: Transport, _ attempt: PunchReport.Attempt) {
    if let connected, !isOver { connected(stream, attempt) } else { stream.abort() }
  }

  private func listen(_ path: Int, _ number: Int) {
    guard let port = hand.port(path, number) else { return }
    hand.isUsed = true
    let family = port.local.ip.family
    let peers = Set(peer.paths.filter { $0.family == family }.flatMap(\.endpoints).map(\.ip))
    let listener = PunchListener(peers) { stream in
      let attempt = PunchReport.Attempt(
        from: port.local, to: stream.remoteEndpoint ?? port.local, isAccepted: true,
        after: max(.zero, self.loop.now - self.at), seen: .connected)
      self.accepted.append(attempt)
      self.handOut(stream, attempt)
    }
    do throws(NetError) {
      let network = try loop.requireNetwork("punch")
      listener.transport = try network.listenStream(on: .ip(port.local), Self.options(port), owner: listener)
      listeners.append(listener)
    } catch {
      problems.append(
        PunchReport.Attempt(
          from: port.local, to: port.local, isAccepted: true, after: .zero, seen: PunchReport.Seen(error)))
    }
  }

  /// On every socket of the port alike, or the kernel lets none share it.
  private static func options(_ port: TCPPort) -> StreamOptions {
    var options = StreamOptions()
    options.bind = port.local
    options.interface = port.interface
    options.reuseAddr = true
    options.backlog = PunchListener.most
    return options
  }

  // MARK: The end

  private func finish() {
    guard !isOver else { return }
    isOver = true
    timer?.cancel()
    timer = nil
    let ended = ended
    self.ended = nil
    connected = nil
    let report = ended == nil ? nil : report
    for attempt in dialling.values { attempt.cancel() }
    dialling = [:]
    for listener in listeners { listener.close() }
    listeners = []
    hand.counter?.close()
    hand.close()
    if let ended, let report { ended(report) }
  }

  /// Beyond what it took at first: a SYN that was lost is sent again after 1 s. Dialling late does no harm, dialling out of
  /// step is in vain.
  private static let counterPatience: TimeAmount = .milliseconds(1200)
}

/// Takes what comes to a port of ours from the peer's addresses, and no more than a few.
private final class PunchListener: ListenerOwner {
  var transport: Transport?
  private let peers: Set<IPAddress>
  private var take: ((Transport) -> Void)?
  private var taken = 0

  init(_ peers: Set<IPAddress>, _ take: @escaping (Transport) -> Void) {
    self.peers = peers
    self.take = take
  }

  func refusal(of peer: Endpoint?) -> [UInt8]? {
    guard let peer, peers.contains(peer.ip), taken < Self.most else { return [] }
    return nil
  }

  func accepted(_ stream: Transport) {
    guard let take else { return stream.abort() }
    taken += 1
    take(stream)
  }

  func close() {
    take = nil
    transport?.close(linger: false)
    transport = nil
  }

  /// One peer has no use for more.
  static let most = 8
}
