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

  private let search: STUNSearch
  private let tls: ServerTLS?
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
  private var hairpin: HairpinRun?
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
  public convenience init(
    interface: String, local: IPAddress, servers: [Endpoint], schedule: STUNTransaction.Schedule = .quick,
    on loop: any EventLoop, changed: @escaping (NATReport) -> Void = { _ in }
  ) {
    let search = STUNSearch(servers.map { STUNPlace($0) })
    self.init(interface: interface, local: local, search: search, schedule: schedule, on: loop, changed: changed)
  }

  /// - Parameters:
  ///   - search: the servers; those found late are asked late.
  ///   - tls: for those that speak nothing else.
  init(
    interface: String, local: IPAddress, search: STUNSearch, tls: ServerTLS? = nil,
    schedule: STUNTransaction.Schedule, on loop: any EventLoop, changed: @escaping (NATReport) -> Void = { _ in }
  ) {
    report = NATReport(interface: interface, family: local.family, local: local)
    self.search = search
    self.tls = tls
    self.schedule = schedule
    self.loop = loop
    self.changed = changed
    promise = loop.makePromise()
  }

  /// Held to the interface; this host's own servers are reached by loopback only.
  private var hold: String? { report.local.isLoopback || report.interface.isEmpty ? nil : report.interface }

  /// Begins. The probe lives until it is finished, whoever holds it.
  public func start() {
    promise.futureResult.whenComplete { _ in withExtendedLifetime(self) {} }
    search.follow { [weak self] event in
      guard let self, case .over = event, search.places.isEmpty else { return }
      finish()
    }
    guard !isOver else { return }
    startUDP()
    startTCP()
  }

  /// Gives up and closes everything. The report stays as it is.
  public func cancel() { finish() }

  private func finish() {
    guard !isOver else { return }
    isOver = true
    allocation?.cancel()
    closeAllocation()
    filtering?.cancel()
    filtering = nil
    hairpin?.cancel()
    hairpin = nil
    udp?.close()
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
        self.search, .udp,
        ask: { [schedule = self.schedule] place, done in socket.bind(place.endpoint, schedule: schedule, done) }
      ) { [weak self] verdict, isFinal in
        self?.learn(verdict, \.udp, isFinal)
      }
      self.udpRun = run
      run.start(local: socket.local)
    }
  }

  private func startTCP() {
    let port = TCPPort(ip: report.local, interface: hold, tls: tls, on: loop)
    tcp = port
    let run = MappingRun(search, .tcp, ask: { port.ask($0, $1) }) { [weak self] verdict, isFinal in
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
    let hasTried = udpRun?.hasAsked ?? true
    if report.udp.reach == nil, hasTried {
      report.udp.reach = report.tcp.reach == .answered ? .blocked : .silent
    }
    // That no server speaks TCP says nothing about the router.
    if report.tcp.reach == nil, report.udp.reach != .answered { report.tcp.reach = .silent }
    tell()
    allocateUDP()
  }

  // MARK: Allocation

  private func nearest(_ run: MappingRun?) -> STUNPlace? {
    run?.findings.filter { $0.mapped != nil && $0.problem == nil }
      .min { ($0.roundTrip ?? .hours(1)) < ($1.roundTrip ?? .hours(1)) }
      .flatMap { run?.place(of: $0.server) }
  }

  private func allocateUDP() {
    guard report.udp.mapping != NATBehaviour.Mapping.none, let place = nearest(udpRun) else { return allocateTCP() }
    let run = AllocationRun(on: loop) { done in
      self.open { socket in
        guard let socket else { return done(nil) }
        self.allocationSockets.append(socket)
        let inside = socket.local.port
        socket.bind(place.endpoint, schedule: self.schedule) { result in
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
    guard report.tcp.mapping != NATBehaviour.Mapping.none, let place = nearest(tcpRun) else { return refine() }
    let bind = Endpoint(ip: report.local, port: 0)
    let run = AllocationRun(on: loop) { done in
      let ticket = OpenTicket()
      self.allocationTickets.append(ticket)
      STUNStream.connect(
        place, bind: bind, interface: self.hold, tls: self.tls, timeout: .milliseconds(2_500), ticket: ticket,
        on: self.loop
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
    guard let mapping = report.udp.mapping, mapping != .none, let place = nearest(udpRun) else {
      return hairpinned(nil)
    }
    let run = HairpinRun(
      place.endpoint, roundTrip: report.roundTrip ?? .zero, schedule: schedule, on: loop,
      open: { [unowned self] in open($0) },
      finished: { [weak self] in self?.hairpinned($0) })
    hairpin = run
    run.start()
  }

  private func hairpinned(_ verdict: NATReport.Hairpin?) {
    guard !isOver, !isHairpinKnown else { return }
    isHairpinKnown = true
    report.hairpin = verdict
    hairpin = nil
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
