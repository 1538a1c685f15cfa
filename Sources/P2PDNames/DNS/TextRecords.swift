import NIOCore
import P2PDNet

/// Reads TXT records of the DNS, of which anybody who owns a domain can make one:
///
///     _p2pd.example.org.  TXT  "p2pd=p2pd1..."
///
/// Asks the servers that the host's resolv.conf names, over UDP and, for long answers, over TCP. Names are taken as they
/// are: search domains are not put behind them.
///
/// Confined to its loop.
public final class TextRecords: @unchecked Sendable {
  private let servers: [Endpoint]?
  private let loop: any EventLoop
  private var runs: [ObjectIdentifier: TextRun] = [:]
  private var isStopped = false

  /// - Parameter servers: whom to ask, in that order; nil reads /etc/resolv.conf at each question, so that a change of
  ///   network is followed.
  public init(servers: [Endpoint]? = nil, on loop: any EventLoop) {
    self.servers = servers
    self.loop = loop
  }

  /// The texts of that name, in the order of the answer; the strings of a record are joined (RFC 7208 §3.3 and common use).
  /// Texts that are no UTF-8 are left out.
  /// - Parameters:
  ///   - host: the full name, ASCII (of other scripts the form that begins with `xn--`).
  ///   - timeout: for all of it.
  /// - Throws: `notFound` where the name, or a text of it, does not exist; `timeout`; `refused` where every server refuses
  ///   us; `dns` where they fail; `badAddress` for what is no name; `limit` for one question too many at once.
  public func text(of host: String, timeout: TimeAmount = .seconds(5)) -> EventLoopFuture<[String]> {
    let what = "look up the text of \(host)"
    guard host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), let name = DNSName(host), name != .root else {
      return loop.makeFailedFuture(
        NetError(
          .badAddress, what, cause: "this is no name of the DNS",
          remedy: "Names have ASCII letters, labels of at most 63 bytes and 253 in all."))
    }
    let servers = servers
    return loop.run { [self] in
      guard !isStopped else { throw NetError(.closed, what, cause: "it was stopped") }
      guard runs.count < Self.mostRuns else {
        throw NetError(.limit, what, cause: "\(runs.count) questions are under way already")
      }
      // Started before the file is read, as that counts too.
      let run = TextRun(name, until: loop.now + timeout, on: loop)
      runs[ObjectIdentifier(run)] = run
      defer { runs[ObjectIdentifier(run)] = nil }
      if let servers {
        run.start(servers)
      } else {
        run.start(try await loop.offload { ResolverFile.read().servers })
      }
      return try await run.answer.get()
    }
  }

  /// Ends what is under way with `closed`, and answers nothing any more.
  public func stop() {
    isStopped = true
    for run in runs.values { run.stop() }
  }

  /// Each has some sockets.
  private static let mostRuns = 64
}

/// One question: performs what ``TextQuery`` decides. Lives until it is finished.
private final class TextRun: PipeSink, @unchecked Sendable {
  var answer: EventLoopFuture<[String]> { promise.futureResult }
  private let promise: EventLoopPromise<[String]>
  private let name: DNSName
  private let end: NIODeadline
  private let loop: any EventLoop
  private var servers: [Endpoint] = []
  private var query: TextQuery?
  private var pipes: [TextQuery.Place: Pipe] = [:]
  /// What is to be asked as soon as the pipe is open.
  private var opening: [TextQuery.Place: DNSMessage] = [:]
  private var timer: Scheduled<Void>?
  private var isOver = false

  init(_ name: DNSName, until end: NIODeadline, on loop: any EventLoop) {
    self.name = name
    self.end = end
    self.loop = loop
    promise = loop.makePromise()
  }

  func start(_ servers: [Endpoint]) {
    guard !isOver else { return }
    self.servers = servers
    let now = loop.now
    query = TextQuery(name, servers: servers.map(\.description), now: now, timeout: end - now) {
      .random(in: .min ... .max)
    }
    handle(.start)
  }

  func stop() { finish(.failure(NetError(.closed, "look up the text of \(name)", cause: "it was stopped"))) }

  private func handle(_ event: TextQuery.Event) {
    for action in query?.handle(event, now: loop.now) ?? [] {
      switch action {
      case .ask(let message, let place): ask(message, place)
      case .wait(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.timer) }
      case .finish(let result): finish(result)
      }
    }
  }

  /// Each server has a socket of its own, with a port that nobody can guess, which hears that server alone (RFC 5452 §9.2).
  private func ask(_ message: DNSMessage, _ place: TextQuery.Place) {
    if let pipe = pipes[place] { return send(message, pipe, place) }
    let isOpening = opening.updateValue(message, forKey: place) != nil
    guard !isOpening else { return }
    var conf = PipeConf()
    conf.framing = place.isStream ? .u16 : .raw
    conf.maxMessage = Self.longest
    let server = servers[place.server]
    PipeOpener.open(place.isStream ? .tcp : .udp, to: .endpoint(server), conf: conf, sink: self, on: loop)
      .assumeIsolated().whenComplete { result in
        let message = self.opening.removeValue(forKey: place)
        switch result {
        case .failure(let error): self.later(.failed(place, NetError(error, "ask \(server)")))
        case .success(let pipe):
          guard !self.isOver, let message else {
            pipe.close(flush: .zero)
            return
          }
          self.pipes[place] = pipe
          self.send(message, pipe, place)
        }
      }
  }

  private func send(_ message: DNSMessage, _ pipe: Pipe, _ place: TextQuery.Place) {
    if case .failed(let error) = message.bytes.withUnsafeBytes({ pipe.send($0) }) { later(.failed(place, error)) }
  }

  /// No event in the middle of another one's actions.
  private func later(_ event: TextQuery.Event) { loop.assumeIsolated().execute { self.handle(event) } }

  private func finish(_ result: Result<[String], NetError>) {
    guard !isOver else { return }
    isOver = true
    query = nil
    timer?.cancel()
    timer = nil
    let pipes = pipes.values
    self.pipes = [:]
    for pipe in pipes { pipe.close(flush: .zero) }
    promise.completeWith(result.mapError { $0 as any Error })
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    if let place = place(of: pipe), let message = DNSMessage([UInt8](bytes)) {
      handle(.received(message, from: place))
    }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard let place = place(of: pipe) else { return }
    pipes[place] = nil
    handle(.failed(place, NetError(.reset, "ask \(servers[place.server])", cause: "the connection ended: \(reason)")))
  }

  private func place(of pipe: Pipe) -> TextQuery.Place? { pipes.first { $0.value === pipe }?.key }

  /// What the length before a message over TCP can say.
  private static let longest = 65_535
}
