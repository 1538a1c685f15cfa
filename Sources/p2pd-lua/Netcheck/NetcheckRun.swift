import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal

/// Looks at everything side by side, and gives what is known when all is done or the time is over. Confined to its loop.
final class NetcheckRun: @unchecked Sendable {
  private let loop: any EventLoop
  private let interfaces: [String]?
  private let caFile: String?
  private let asksRouters: Bool
  private let changed: (NetcheckProgress, TimeAmount) -> Void
  private let promise: EventLoopPromise<NetcheckFindings>
  private let began: NIODeadline
  private var findings: NetcheckFindings
  private var progress = NetcheckProgress()
  private let tls: ServerTLS
  private let knowledge: NetworkKnowledge
  private var routers: NetcheckRouters?
  private var lookups: NetcheckLookups?
  private var deadline: Scheduled<Void>?
  private var hasStarted = false
  private var isOver = false

  /// - Parameters:
  ///   - interfaces: only these; nil for all.
  ///   - asksRouters: to open a port, for the moment.
  ///   - changed: called on the loop a few times a second.
  init(
    _ snapshot: NetworkSnapshot, servers: ServerList, interfaces: [String]?, caFile: String?, asksRouters: Bool,
    on loop: any EventLoop, changed: @escaping (NetcheckProgress, TimeAmount) -> Void
  ) {
    self.loop = loop
    self.interfaces = interfaces
    self.caFile = caFile
    self.asksRouters = asksRouters
    self.changed = changed
    promise = loop.makePromise()
    began = loop.now
    findings = NetcheckFindings(snapshot: snapshot, servers: servers)
    tls = ServerTLS(caFile: caFile, on: loop)
    knowledge = NetworkKnowledge(servers: servers.stun.compactMap(STUNServer.init), tls: tls, on: loop)
  }

  func run() -> EventLoopFuture<NetcheckFindings> {
    deadline = loop.assumeIsolated().scheduleTask(in: Self.patience) { self.finish() }
    tick()
    lookups = NetcheckLookups(findings.servers.all, patience: Self.serverPatience, on: loop)
    startPaths()
    startRouters()
    startServers()
    startClock()
    hasStarted = true
    if progress.isDone { finish() }
    return promise.futureResult
  }

  /// The time goes on being told while nothing else happens.
  private func tick() {
    guard !isOver else { return }
    changed(progress, loop.now - began)
    loop.assumeIsolated().scheduleTask(in: Self.beat) { self.tick() }
  }

  private func done(_ part: NetcheckProgress.Part) {
    progress.finished(part)
    // What is done at once does not end it before the rest has begun.
    if hasStarted, progress.isDone { finish() }
  }

  /// Gives up. What the router opened is closed before ``run()`` completes.
  func stop() { finish() }

  private func finish() {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    findings.paths = knowledge.reports.sorted {
      ($0.key.index, $0.key.family.rawValue) < ($1.key.index, $1.key.family.rawValue)
    }.map(\.value)
    knowledge.close()
    if let lookups { findings.mark(lookups.findings) }
    findings.took = loop.now - began
    guard let routers else { return promise.succeed(findings) }
    routers.stop().assumeIsolated().whenComplete { _ in self.promise.succeed(self.findings) }
  }

  // MARK: The parts

  private func startPaths() {
    progress.expect(.paths)
    knowledge.update(findings.snapshot, only: interfaces)
    knowledge.settled().assumeIsolated().whenComplete { _ in self.done(.paths) }
  }

  private func startRouters() {
    guard asksRouters else { return }
    progress.expect(.router)
    let routers = NetcheckRouters(knowledge, on: loop)
    self.routers = routers
    knowledge.changed = { [weak routers] in routers?.look() }
    routers.ask(findings.snapshot, only: interfaces).assumeIsolated().whenSuccess { found in
      guard !self.isOver else { return }
      self.findings.routers = found
      self.done(.router)
    }
  }

  private func startServers() {
    let servers = findings.servers
    findings.brokers = servers.brokers.map { ServerFinding($0.description, .silent) }
    findings.stun = servers.stun.map { ServerFinding($0.description, .silent) }
    findings.relays = servers.turn.map { ServerFinding($0.description, .silent) }
    findings.names = servers.names.map { ServerFinding($0.description, .silent) }
    let patience = Self.serverPatience
    for (index, url) in servers.brokers.enumerated() {
      guard let broker = Broker(url) else { continue }
      look(url, .brokers, \.brokers, index) { [loop] in
        BrokerCheck.run(broker, tls: $0, patience: patience, on: loop)
      }
    }
    for (index, url) in servers.stun.enumerated() {
      look(url, .servers, \.stun, index) { [loop] in
        STUNServerCheck.run(url, tls: $0, patience: patience, on: loop)
      }
    }
    for (index, url) in servers.turn.enumerated() {
      look(url, .servers, \.relays, index) { [loop] in
        RelayCheck.run(url, tls: $0, patience: patience, on: loop)
      }
    }
    for (index, url) in servers.names.enumerated() {
      look(url, .servers, \.names, index) { [loop, caFile] _ in
        NameServerCheck.run(url, caFile: caFile, patience: patience, on: loop)
      }
    }
  }

  private func look(
    _ url: ServerURL, _ part: NetcheckProgress.Part, _ path: WritableKeyPath<NetcheckFindings, [ServerFinding]>,
    _ index: Int,
    _ check: @escaping (TLSSetup?) -> EventLoopFuture<ServerFinding>
  ) {
    progress.expect(part)
    let told = { (finding: ServerFinding) in
      guard !self.isOver else { return }
      self.findings[keyPath: path][index] = finding
      self.done(part)
    }
    // Who needs no certificates does not wait for them to be read.
    guard url.scheme.isTLS else { return check(nil).assumeIsolated().whenSuccess(told) }
    tls.setup().assumeIsolated().whenComplete { result in
      switch result {
      case .success(let setup): check(setup).assumeIsolated().whenSuccess(told)
      case .failure(let error):
        told(ServerFinding(url.description, failed: NetError(error, "read the certificates"), as: .certificate))
      }
    }
  }

  private func startClock() {
    guard !findings.servers.ntp.isEmpty else {
      findings.clock = ClockReport(reading: nil, servers: [])
      return
    }
    progress.expect(.clock)
    NTPClient(servers: findings.servers.ntp, on: loop).ask(patience: Self.serverPatience)
      .assumeIsolated().whenSuccess { report in
        guard !self.isOver else { return }
        self.findings.clock = report
        self.done(.clock)
      }
  }

  /// For all of it. Whoever waits at a terminal waits no longer.
  private static let patience: TimeAmount = .milliseconds(4_900)
  /// For one server: less, so that what it met is told and not that the time was over.
  private static let serverPatience: TimeAmount = .milliseconds(4_500)
  private static let beat: TimeAmount = .milliseconds(100)
}
