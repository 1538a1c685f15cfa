import NIOCore
import P2PDNet

/// Measures one path and tells of every step forward. The mapping of UDP and TCP is there after one round trip; the port
/// allocation, the filtering (whose *no* takes two seconds of silence) and the hairpin follow without anybody waiting.
///
/// Confined to its loop.
public final class NATProbe: @unchecked Sendable {
  public private(set) var report: NATReport
  /// Fulfilled when nothing more can be found out, or the probe was cancelled.
  public var finished: EventLoopFuture<NATReport> { promise.futureResult }

  private let servers: [Endpoint]
  private let loop: any EventLoop
  private let changed: (NATReport) -> Void
  private let promise: EventLoopPromise<NATReport>
  private let schedule: STUNTransaction.Schedule
  private var isOver = false

  private var udp: STUNSocket?
  private var tcp: TCPPort?
  private var udpRun: MappingRun?
  private var tcpRun: MappingRun?
  private var mappingsLeft = 2
  private var filtering: FilteringRun?
  /// Its verdict is there, or there will be none.
  private var isFiltered = false
  private var hairpin: HairpinTest?
  private var pair: [STUNSocket] = []
  private var pairMapped: [Endpoint] = []
  private var hairpinTimer: Scheduled<Void>?
  private var allocation: AllocationRun?
  private var allocationSockets: [STUNSocket] = []
  private var allocationPorts: [STUNStream] = []
  private var allocationTickets: [OpenTicket] = []
  private var isHairpinKnown = false
  private var isRefining = false

  /// - Parameters:
  ///   - interface: empty for the kernel's choice.
  ///   - servers: endpoints of the path's family, asked all at once.
  ///   - changed: called on the loop with every better report.
  public init(
    interface: String, local: IPAddress, servers: [Endpoint], schedule: STUNTransaction.Schedule = .quick,
    on loop: any EventLoop, changed: @escaping (NATReport) -> Void = { _ in }
  ) {
    report = NATReport(interface: interface, family: local.family, local: local)
    self.servers = servers.filter { $0.ip.family == local.family }
    self.schedule = schedule
    self.loop = loop
    self.changed = changed
    promise = loop.makePromise()
  }

  /// Held to the interface; this host's own servers are reached by loopback only.
  private var hold: String? { report.local.isLoopback || report.interface.isEmpty ? nil : report.interface }

  /// Begins. The probe lives until it is finished, whoever holds it.
  public func start() {
    guard !servers.isEmpty else { return finish() }
    promise.futureResult.whenComplete { _ in withExtendedLifetime(self) {} }
    startUDP()
    startTCP()
  }

  /// Gives up and closes everything. The report stays as it is.
  public func cancel() { finish() }

  private func finish() {
    guard !isOver else { return }
    isOver = true
    allocation?.cancel()
    hairpinTimer?.cancel()
    closeAllocation()
    filtering?.cancel()
    filtering = nil
    for socket in pair + [udp].compactMap({ $0 }) { socket.close() }
    pair = []
    udp = nil
    tcp?.close()
    tcp = nil
    udpRun = nil
    tcpRun = nil
    promise.succeed(report)
  }

  private func tell() {
    guard !isOver else { return }
    changed(report)
  }

  // MARK: Mapping

  private func open(_ body: @escaping (STUNSocket?) -> Void) {
    STUNSocket.open(bind: Endpoint(ip: report.local, port: 0), interface: hold, on: loop)
      .assumeIsolated().whenComplete { result in
        guard case .success(let socket) = result else { return body(nil) }
        guard !self.isOver else { return socket.close() }
        body(socket)
      }
  }

  private func startUDP() {
    open { socket in
      guard let socket else { return self.mapped() }
      self.udp = socket
      let run = MappingRun(
        self.servers, .udp,
        ask: { [schedule = self.schedule] server, done in socket.bind(server, schedule: schedule, done) }
      ) { [weak self] verdict, isFinal in
        self?.learn(verdict, \.udp, isFinal)
      }
      self.udpRun = run
      run.start(local: socket.local)
    }
  }

  private func startTCP() {
    let port = TCPPort(ip: report.local, interface: hold, on: loop)
    tcp = port
    let run = MappingRun(servers, .tcp, ask: { port.ask($0, $1) }) { [weak self] verdict, isFinal in
      self?.learn(verdict, \.tcp, isFinal)
    }
    tcpRun = run
    run.start(local: port.local)
  }

  private func learn(
    _ verdict: MappingTest.Verdict, _ transport: WritableKeyPath<NATReport, NATBehaviour>, _ isFinal: Bool
  ) {
    guard !isOver else { return }
    report[keyPath: transport].mapping = verdict.mapping
    report[keyPath: transport].mapped = verdict.mapped
    if verdict.answers > 0 { report[keyPath: transport].reach = .answered }
    if verdict.mapping == NATBehaviour.Mapping.none { report[keyPath: transport].allocation = .preserving }
    report.servers = (udpRun?.findings ?? []) + (tcpRun?.findings ?? [])
    report.roundTrip = report.servers.compactMap(\.roundTrip).min()
    if let outside = report.external.first { report.carrierNAT = report.isBehindCarrier(outside) }
    startFiltering()
    if isFinal { mapped() } else { tell() }
  }

  private func mapped() {
    mappingsLeft -= 1
    guard mappingsLeft == 0, !isOver else { return tell() }
    if report.udp.reach == nil { report.udp.reach = report.tcp.reach == .answered ? .blocked : .silent }
    // That no server speaks TCP says nothing about the router.
    if report.tcp.reach == nil, report.udp.reach == .silent { report.tcp.reach = .silent }
    tell()
    allocateUDP()
  }

  // MARK: Allocation

  private var nearest: (PipeProto) -> Endpoint? {
    { transport in
      self.report.servers.filter { $0.transport == transport && $0.mapped != nil && $0.problem == nil }
        .min { ($0.roundTrip ?? .hours(1)) < ($1.roundTrip ?? .hours(1)) }?.server
    }
  }

  private func allocateUDP() {
    guard report.udp.mapping != NATBehaviour.Mapping.none, let server = nearest(.udp) else { return allocateTCP() }
    let run = AllocationRun(on: loop) { done in
      self.open { socket in
        guard let socket else { return done(nil) }
        self.allocationSockets.append(socket)
        let inside = socket.local.port
        socket.bind(server, schedule: self.schedule) { result in
          done((try? result.get())?.message.mapped.map { .init(inside: inside, outside: $0.port) })
        }
      }
    } finished: { [weak self] allocation in
      guard let self, !isOver else { return }
      report.udp.allocation = allocation
      closeAllocation()
      tell()
      allocateTCP()
    }
    allocation = run
    run.start()
  }

  private func allocateTCP() {
    guard report.tcp.mapping != NATBehaviour.Mapping.none, let server = nearest(.tcp) else { return refine() }
    let bind = Endpoint(ip: report.local, port: 0)
    let run = AllocationRun(on: loop) { done in
      let ticket = OpenTicket()
      self.allocationTickets.append(ticket)
      STUNStream.connect(
        server, bind: bind, interface: self.hold, timeout: .milliseconds(2_500), ticket: ticket, on: self.loop
      ).assumeIsolated().whenComplete { result in
        self.allocationTickets.removeAll { $0 === ticket }
        guard case .success(let stream) = result else { return done(nil) }
        guard !self.isOver else { return stream.close() }
        self.allocationPorts.append(stream)
        stream.bind { result in
          done((try? result.get())?.message.mapped.map { .init(inside: stream.local.port, outside: $0.port) })
        }
      }
    } finished: { [weak self] allocation in
      guard let self, !isOver else { return }
      report.tcp.allocation = allocation
      closeAllocation()
      tell()
      refine()
    }
    allocation = run
    run.start()
  }

  private func closeAllocation() {
    allocation = nil
    for socket in allocationSockets { socket.close() }
    for stream in allocationPorts { stream.close() }
    allocationSockets = []
    allocationPorts = []
    let tickets = allocationTickets
    allocationTickets = []
    for ticket in tickets { ticket.cancel() }
  }

  // MARK: Filtering and hairpin

  private func refine() {
    isRefining = true
    startFiltering()
    if filtering == nil { isFiltered = true }
    startHairpin()
    tell()
    finishIfDone()
  }

  private func finishIfDone() {
    guard !isOver, isRefining, isFiltered, isHairpinKnown else { return }
    report.isComplete = true
    tell()
    finish()
  }

  /// As soon as the mapping is known and a server that helps: the rest of the servers may take their time to be dead.
  private func startFiltering() {
    guard filtering == nil, !isFiltered, let udp, let mapping = report.udp.mapping,
      let helper = udpRun?.test.helpers.first
    else { return }
    let run = FilteringRun(
      FilteringTest(server: helper.server, other: helper.other, mapping: mapping), control: udp, schedule: schedule,
      open: { [unowned self] in open($0) },
      finished: { [weak self] in self?.filtered($0) })
    filtering = run
    run.start()
  }

  private func filtered(_ verdict: NATBehaviour.Filtering?) {
    guard !isOver, let run = filtering else { return }
    filtering = nil
    // Later answers may have told of another mapping, or that this server does not tell the truth.
    let helpers = udpRun?.test.helpers ?? []
    if run.mapping == report.udp.mapping, helpers.contains(where: { $0.server == run.server }) {
      report.udp.filtering = verdict
      isFiltered = true
    } else {
      startFiltering()
      if filtering == nil, isRefining { isFiltered = true }
    }
    tell()
    finishIfDone()
  }

  private func startHairpin() {
    guard let mapping = report.udp.mapping, mapping != .none, let server = nearest(.udp) else { return hairpinned(nil) }
    for _ in 0..<2 {
      open { socket in
        guard let socket else { return self.hairpinned(nil) }
        self.pair.append(socket)
        guard self.pair.count == 2 else { return }
        self.mapPair(server)
      }
    }
  }

  private func mapPair(_ server: Endpoint) {
    var mapped: [Endpoint?] = [nil, nil]
    var left = 2
    for (index, socket) in pair.enumerated() {
      socket.bind(server, schedule: schedule) { result in
        mapped[index] = (try? result.get())?.message.mapped
        left -= 1
        guard left == 0, !self.isOver else { return }
        self.pairMapped = mapped.compactMap { $0 }
        guard self.pairMapped.count == 2 else { return self.hairpinned(nil) }
        self.exchange()
      }
    }
  }

  private func exchange() {
    let tokens = pair.map { _ in (0..<16).map { _ in UInt8.random(in: 0...255) } }
    for (index, socket) in pair.enumerated() {
      socket.onDatagram = { [weak self] bytes, source in
        guard bytes.elementsEqual(tokens[1 - index]) else { return }
        self?.step(.heard(from: source), tokens)
      }
    }
    hairpin = HairpinTest(outside: pairMapped.map(\.ip), roundTrip: report.roundTrip ?? .zero)
    step(.start, tokens)
  }

  private func step(_ event: HairpinTest.Event, _ tokens: [[UInt8]]) {
    guard !isOver, pair.count == 2, let actions = hairpin?.handle(event, now: loop.now) else { return }
    for action in actions {
      switch action {
      case .send: for (index, socket) in pair.enumerated() { socket.send(tokens[index], to: pairMapped[1 - index]) }
      case .wait(let time):
        hairpinTimer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in self?.step(.timer, tokens) }
      case .finish(let verdict):
        hairpinned(verdict)
      }
    }
  }

  private func hairpinned(_ verdict: NATReport.Hairpin?) {
    guard !isOver, !isHairpinKnown else { return }
    isHairpinKnown = true
    hairpinTimer?.cancel()
    report.hairpin = verdict
    for socket in pair { socket.close() }
    pair = []
    tell()
    finishIfDone()
  }
}

extension NATReport {
  /// Our address or the outside one lies in the providers' own range (RFC 6598). nil: no sign of it, which is no proof.
  fileprivate func isBehindCarrier(_ outside: IPAddress) -> Bool? {
    if local.isShared || outside.isShared { return true }
    // A public address of our own has no translation before it.
    return udp.mapping == NATBehaviour.Mapping.none && !local.isPrivate ? false : nil
  }
}
