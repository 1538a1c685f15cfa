import NIOCore
import P2PDNet

/// The far side of a relayed path: connects to a relayed address as to any other, or, where a firewall does not let it, through
/// an allocation of its own (``RelayDetour``); ``RelayDialSteps`` decides when. A server takes the connection of a peer
/// that is not let through yet and resets it at once (coturn), so a connection counts when the first bytes have come through
/// it, and until then it is tried again; beside one that stays silent too, since the reset may be lost on its way. The near
/// side (``RelayPath``) speaks first: it is the TLS client, or greets.
///
/// Confined to its loop.
public final class RelayDial: PipeSink, @unchecked Sendable {
  /// What each attempt met, the last few.
  public private(set) var failures: [NetError] = []
  /// How often the address was dialled.
  public var tries: Int { steps.tries }
  /// The stream it has given came through a relay of this side's own.
  public private(set) var isDetoured = false

  private let to: Endpoint
  private let interface: String?
  private let isGreeted: Bool
  private let plan: RelayDetour.Plan?
  private let loop: any EventLoop
  private var steps: RelayDialSteps
  private var events: [RelayDialSteps.Event] = []
  private var isBusy = false
  private var done: ((Result<Transport, NetError>) -> Void)?
  private var attempt: (any StreamAttempt)?
  /// Connected, and silent so far.
  private var pipes: [(pipe: Pipe, way: RelayDialSteps.Way)] = []
  private var detour: RelayDetour?
  /// What dialling met last, and the way round.
  private var met: [RelayDialSteps.Way: NetError] = [:]
  private var ownRelay: Endpoint?
  private var timer: Scheduled<Void>?
  private var deadline: Scheduled<Void>?

  /// Begins.
  /// - Parameters:
  ///   - until: when it is given up.
  ///   - interface: held to it; nil for the kernel's choice.
  ///   - isGreeted: the near side says first that we have come through (``RelayPath/greets``), and then waits for us.
  ///   - detour: the way round; nil: this side knows no TURN server.
  ///   - done: comes once, not before this returns and not after ``cancel()``: the stream, with the peer's first bytes still
  ///     to be read from it.
  public init(
    to: Endpoint, until: NIODeadline, interface: String? = nil, isGreeted: Bool = false,
    detour plan: RelayDetour.Plan? = nil, on loop: any EventLoop,
    done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    self.to = to
    self.interface = interface
    self.isGreeted = isGreeted
    self.plan = plan
    self.loop = loop
    self.done = done
    steps = RelayDialSteps(canOpen: plan != nil, isWalled: plan?.isWalled ?? false)
    deadline = loop.assumeIsolated().scheduleTask(deadline: until) { [self] in
      let words = report.map(\.seen).joined(separator: "; ")
      finish(.failure(NetError(.timeout, what, cause: words, attempts: failures)))
    }
    loop.assumeIsolated().execute { self.handle(.start) }
  }

  public func cancel() {
    done = nil
    clean()
  }

  /// What came of it up to now, for whoever asks why: a line for the dialling, and one for the way round where that was taken
  /// or is missing.
  public var report: [PathAttempt] {
    func words(_ error: NetError) -> String { error.cause.isEmpty ? error.code.rawValue : error.cause }
    let last = met[.plain]
    var seen = last.map(words) ?? (steps.wasReached ? "nothing came through the connection" : "no answer")
    seen += tries == 1 ? " (1 try)" : " (\(tries) tries)"
    if !steps.wasReached { seen += ": a firewall may let out only some ports" }
    if isDetoured { seen += "; gone round by another relay" }
    var lines = [PathAttempt(.relay, remote: to, last?.code ?? .timeout, seen)]
    if plan == nil, !steps.wasReached { lines.append(PathAttempt(.relay, .unsupported, Self.noWayRound)) }
    if !isDetoured, let round = met[.round] ?? ownRelay.map({ _ in NetError(.timeout, what, cause: "no answer") }) {
      lines.append(
        PathAttempt(.relay, local: ownRelay, remote: to, round.code, "on the way round: \(words(round))"))
    }
    return lines
  }

  // MARK: What is decided

  /// Events that come while others are performed wait for their turn.
  private func handle(_ event: RelayDialSteps.Event) {
    events.append(event)
    guard !isBusy else { return }
    isBusy = true
    defer { isBusy = false }
    while !events.isEmpty, done != nil {
      for action in steps.handle(events.removeFirst(), now: loop.now) where done != nil { perform(action) }
    }
  }

  private func perform(_ action: RelayDialSteps.Action) {
    switch action {
    case .dial(.plain): dial()
    case .dial(.round): goRound()
    case .open: openDetour()
    case .wake(let time):
      timer?.cancel()
      timer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in self?.handle(.tick) }
    }
  }

  private func dial() {
    let network: any Network
    do throws(NetError) {
      network = try loop.requireNetwork(what)
    } catch {
      return finish(.failure(error))
    }
    var options = StreamOptions()
    options.interface = interface
    attempt = network.connectStream(to: .ip(to), options) { [self] result in
      attempt = nil
      made(.plain, result)
    }
  }

  private func made(_ way: RelayDialSteps.Way, _ result: Result<Transport, NetError>) {
    switch result {
    case .failure(let error):
      note(way, error)
      handle(.failed(way, error.code))
    case .success(let stream):
      guard done != nil else { return stream.close(linger: false) }
      pipes.append((Pipe.adopt(stream, conf: PipeConf(), sink: self, on: loop), way))
      handle(.connected(way))
    }
  }

  // MARK: The way round

  private func openDetour() {
    guard let plan else { return }
    if let refusal = plan.refusal() {
      note(.round, refusal)
      return handle(.closed)
    }
    let detour = RelayDetour(to: to, plan, interface: interface, on: loop)
    self.detour = detour
    detour.lost = { [weak self] in self?.lostDetour($0) }
    detour.open { [weak self] result in
      guard let self, done != nil else { return }
      switch result {
      case .failure(let error): lostDetour(error)
      case .success(let own):
        ownRelay = own
        // Connecting before it is let through is of no use, and makes the server say 446 for a while.
        plan.tell(own).assumeIsolated().whenComplete { [weak self] result in
          guard let self, done != nil else { return }
          switch result {
          case .success: handle(.opened)
          case .failure(let error): lostDetour((error as? NetError) ?? NetError(.io, what, cause: "\(error)"))
          }
        }
      }
    }
  }

  private func lostDetour(_ error: NetError) {
    note(.round, error)
    detour?.close()
    detour = nil
    handle(.closed)
  }

  private func goRound() {
    let silent = pipes.filter { $0.way == .round }
    pipes.removeAll { $0.way == .round }
    for (pipe, _) in silent { pipe.close(flush: .zero) }
    detour?.connect { [weak self] result in
      guard let self else {
        if case .success(let stream) = result { stream.close(linger: false) }
        return
      }
      made(.round, result)
    }
  }

  // MARK: Streams

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard done != nil, let index = pipes.firstIndex(where: { $0.pipe === pipe }) else { return true }
    let way = pipes.remove(at: index).way
    guard !isGreeted || bytes.first == RelayPath.greeting else {
      pipe.close(flush: .zero)
      note(way, NetError(.notP2PD, what, cause: "what answered is no p2pd node"))
      handle(.cut(way))
      return true
    }
    let preface = [UInt8](bytes.dropFirst(isGreeted ? 1 : 0))
    guard let stream = pipe.release() else {
      pipe.close(flush: .zero)
      handle(.cut(way))
      return true
    }
    isDetoured = way == .round
    finish(.success(PrefacedTransport.over(stream, preface: preface, on: loop)))
    return true
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard let index = pipes.firstIndex(where: { $0.pipe === pipe }) else { return }
    let way = pipes.remove(at: index).way
    note(way, NetError(.reset, what, cause: "the relay took the connection and cut it: we are not let through yet"))
    handle(.cut(way))
  }

  private func note(_ way: RelayDialSteps.Way, _ error: NetError) {
    guard done != nil else { return }
    met[way] = error
    if failures.count == Self.mostFailures { failures.removeFirst() }
    failures.append(error)
  }

  // MARK: The end

  private func finish(_ result: Result<Transport, NetError>) {
    let done = done
    self.done = nil
    clean()
    guard let done else {
      if case .success(let stream) = result { stream.close(linger: false) }
      return
    }
    done(result)
  }

  private func clean() {
    deadline?.cancel()
    deadline = nil
    timer?.cancel()
    timer = nil
    attempt?.cancel()
    attempt = nil
    let pipes = pipes
    self.pipes = []
    for (pipe, _) in pipes { pipe.close(flush: .zero) }
    // The stream that was given away keeps it; without one it goes now.
    detour?.retire()
    detour = nil
  }

  private var what: String { "connect to the relayed address \(to)" }

  /// What the report says where there is no server to go round by.
  public static let noWayRound = "not tried: a way round the firewall, for lack of a TURN server"
  private static let mostFailures = 8
}
