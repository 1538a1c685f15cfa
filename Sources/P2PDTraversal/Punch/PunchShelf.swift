import NIOCore
import P2PDNet

/// How ports of one way out get to be known from outside.
enum PunchSource: Hashable {
  /// They are what they are: nothing is translated.
  case untranslated
  /// From the inside port: the router keeps it, or adds the same number to each. For where no server speaks TCP.
  case computed(IPAddress, distance: Int)
  /// Servers tell, and the mapping is held by the connection to one.
  case measured([Endpoint])
  /// Each connection gets the next one of a row.
  case sequential([Endpoint], step: Int)

  /// nil: not known yet, or not at all.
  init?(_ report: NATReport) {
    let tcp = report.tcp
    let mapping = tcp.mapping ?? report.udp.mapping
    // Translation of IPv6 is rare enough to count on there being none.
    let isPublicV6 = report.family == .v6 && !report.local.isPrivate && mapping == nil
    if mapping == NATBehaviour.Mapping.none || isPublicV6 {
      self = .untranslated
      return
    }
    let servers = report.servers
      .filter { $0.transport == .tcp && !$0.isTLS && $0.mapped != nil && $0.problem == nil }
      .sorted { ($0.roundTrip ?? .hours(1)) < ($1.roundTrip ?? .hours(1)) }.map(\.server)
    var seen: Set<IPAddress> = []
    let distinct = servers.filter { seen.insert($0.ip).inserted }
    if !distinct.isEmpty {
      if tcp.mapping?.isPredictable == false, case .sequential(let step, _)? = tcp.allocation {
        self = .sequential(distinct, step: step)
      } else {
        self = .measured(distinct)
      }
      return
    }
    guard report.udp.mapping?.isPredictable == true, let outside = report.udp.mapped.first?.ip else { return nil }
    switch report.udp.allocation {
    case .preserving?: self = .computed(outside, distance: 0)
    case .offset(let distance)?: self = .computed(outside, distance: distance)
    default: return nil
    }
  }
}

/// The ports of one way out: some that are ready, some on their way, and those who wait for one. Confined to its loop.
final class PunchShelf {
  /// A port and how it is seen.
  struct Item {
    let port: TCPPort
    let told: PunchSide.Port
    var counter: PunchCounter?
  }
  typealias Waiter = (Item?) -> Void

  let path: NetworkKnowledge.Path
  private(set) var report: NATReport
  private(set) var source: PunchSource?
  private let loop: any EventLoop
  /// With their refreshing.
  private var ready: [(item: Item, server: Endpoint, timer: Scheduled<Void>)] = []
  private var opening: [ObjectIdentifier: TCPPort] = [:]
  private var waiters: [Waiting] = []
  private var lastWaiter = 0
  private var nextServer = 0
  /// Lost or failed in a row, for the pause before the next.
  private var troubles = 0
  private var pause: Scheduled<Void>?
  private var isClosed = false

  private struct Waiting {
    let id: Int
    let waiter: Waiter
    /// Ports opened for it: another when the last one takes long, which may be a lost packet.
    var opened = 1
  }

  init(_ path: NetworkKnowledge.Path, _ report: NATReport, on loop: any EventLoop) {
    self.path = path
    self.report = report
    self.loop = loop
    source = PunchSource(report)
    fill()
  }

  /// Ports ready to be taken.
  var count: Int { ready.count }

  /// What the peer is told, without ports.
  var told: PunchSide.Path {
    PunchSide.Path(
      path.family, mapping: report.tcp.mapping ?? report.udp.mapping,
      filtering: report.tcp.filtering ?? report.udp.filtering,
      allocation: report.tcp.allocation ?? report.udp.allocation, hairpin: report.hairpin)
  }

  func update(_ report: NATReport) {
    let outside = self.report.tcp.mapped.first?.ip
    self.report = report
    let source = PunchSource(report)
    // Servers that answered later change nothing; another address or another kind does.
    let isSame = self.source.map { $0.isLike(source) } ?? (source == nil)
    self.source = source
    if !isSame || outside != report.tcp.mapped.first?.ip { empty() }
    if !isPending, source?.servers == nil { serveAll() }
    fill()
  }

  /// The way out is being measured, and what is known of it is not enough to say how its ports are seen.
  var isPending: Bool {
    guard path.gateway != nil, !report.isComplete, report.tcp.reach != .silent else { return false }
    return source == nil || report.tcp.mapping?.isPredictable == false && report.tcp.allocation == nil
  }

  /// No server is needed, or nothing more will be found out: who waits need not.
  private func serveAll() {
    let waiters = waiters
    self.waiters = []
    for one in waiters { one.waiter(make()) }
  }

  func close() {
    isClosed = true
    pause?.cancel()
    pause = nil
    empty()
    for port in opening.values { port.close() }
    opening = [:]
    source = nil
    serveAll()
  }

  private func empty() {
    for one in ready {
      one.timer.cancel()
      one.item.port.close()
    }
    ready = []
  }

  // MARK: Taking

  /// Those that are ready now, at most so many. Others are opened in their place.
  func takeReady(_ most: Int) -> [Item] {
    let made = (0..<most).compactMap { _ in make() }
    if !made.isEmpty { return made }
    let taken = ready.prefix(most)
    ready.removeFirst(taken.count)
    for one in taken {
      one.timer.cancel()
      one.item.port.onLost = nil
    }
    fill()
    return taken.map(\.item)
  }

  /// The next port that gets ready, opened for it; nil where there will be none.
  /// - Returns: to give it up with; nil where the answer is there.
  func wait(_ waiter: @escaping Waiter) -> Int? {
    guard !isClosed, isPending || source?.servers != nil, waiters.count < Self.mostWaiters else {
      waiter(nil)
      return nil
    }
    lastWaiter += 1
    waiters.append(Waiting(id: lastWaiter, waiter: waiter))
    pause?.cancel()
    pause = nil
    fill()
    hedge(lastWaiter)
    return lastWaiter
  }

  private func hedge(_ id: Int) {
    loop.assumeIsolated().scheduleTask(in: max(Self.shortestHedge, roundTrip * 3)) { [weak self] in
      guard let self, let place = waiters.firstIndex(where: { $0.id == id }) else { return }
      // Where many wait, none was opened for this one yet.
      if !isPending, opening.count < Self.mostOpening { waiters[place].opened += 1 }
      if waiters[place].opened < Self.mostHedges { hedge(id) }
      fill()
    }
  }

  /// To the nearest server, as far as known.
  var roundTrip: TimeAmount { report.roundTrip ?? .zero }

  /// Its servers have not failed so far.
  var isPromising: Bool { source?.servers != nil && !isPending && troubles == 0 }

  /// What those who wait already take before a port is opened for one more: connecting and asking are two round trips.
  var queueTime: TimeAmount { roundTrip * 2 * (waiters.count / Self.mostOpening) }

  func stopWaiting(_ id: Int) {
    waiters.removeAll { $0.id == id }
    fill()
  }

  /// A port that was not used after all.
  func giveBack(_ port: TCPPort, _ told: PunchSide.Port) {
    guard !isClosed, port.connections > 0, case .measured(let servers)? = source, ready.count < wanted,
      let server = servers.first, told.endpoints.first?.ip == report.tcp.mapped.first?.ip
    else { return port.close() }
    keep(Item(port: port, told: told), server)
  }

  /// A port that needs no server.
  private func make() -> Item? {
    switch source {
    case .untranslated?:
      let port = TCPPort(ip: path.local, interface: path.hold, on: loop)
      return Item(port: port, told: PunchSide.Port([port.local]))
    case .computed(let ip, let distance)?:
      let inside = Int.random(in: Int(TCPPort.ports.lowerBound)...Int(TCPPort.ports.upperBound))
      // Over the top every router goes on in its own way.
      guard let outside = UInt16(exactly: inside + distance), outside >= 1024 else { return nil }
      let port = TCPPort(ip: path.local, port: UInt16(inside), interface: path.hold, on: loop)
      return Item(port: port, told: PunchSide.Port([Endpoint(ip: ip, port: outside)]))
    default: return nil
    }
  }

  // MARK: Filling

  /// How many to keep ready. A prediction is stale at the next connection of anybody, so it is made when it is needed;
  /// and while the router is being measured, connections between would spoil the measuring.
  private var wanted: Int {
    guard case .measured? = source else { return 0 }
    let isMeasured = report.tcp.mapping?.isPredictable == true || report.tcp.allocation != nil || report.isComplete
    return isMeasured ? PunchPorts.warm : 0
  }

  private func fill() {
    // Each failure may come at once, and ends the waiting of somebody or begins a pause.
    while !isClosed, !isPending, pause == nil, let servers = source?.servers, opening.count < Self.mostOpening,
      ready.count + opening.count < waiters.reduce(wanted, { $0 + $1.opened })
    {
      nextServer += 1
      open(servers[nextServer % servers.count])
    }
  }

  private func open(_ server: Endpoint) {
    let port = TCPPort(ip: path.local, interface: path.hold, on: loop)
    let id = ObjectIdentifier(port)
    opening[id] = port
    let began = loop.now
    port.ask(server) { [weak self] result in
      guard let self, opening.removeValue(forKey: id) != nil else { return port.close() }
      guard let mapped = (try? result.get())?.message.mapped else {
        port.close()
        return trouble()
      }
      opened(port, mapped, server, loop.now - began)
    }
  }

  private func opened(_ port: TCPPort, _ mapped: Endpoint, _ server: Endpoint, _ time: TimeAmount) {
    var item = Item(port: port, told: PunchSide.Port([mapped]))
    if case .sequential(_, let step)? = source {
      let ports = PunchCounter.following(mapped.port, step, count: PunchSide.mostEndpoints)
      let told = PunchSide.Port(ports.map { Endpoint(ip: mapped.ip, port: $0) }, isPredicted: true)
      let counter = PunchCounter(path, server, last: mapped.port, step: step, time: time, on: loop)
      item = Item(port: port, told: told, counter: counter)
    }
    if !waiters.isEmpty {
      waiters.removeFirst().waiter(item)
      fill()
    } else if ready.count < wanted {
      keep(item, server)
    } else {
      port.close()
    }
  }

  /// Keeps it ready: its mapping is asked for again before any router forgets it.
  private func keep(_ item: Item, _ server: Endpoint) {
    let port = item.port
    port.onLost = { [weak self] in self?.lose(port) }
    let wait = TimeAmount.nanoseconds(
      .random(in: Self.shortestRefresh.nanoseconds...Self.longestRefresh.nanoseconds))
    let timer: Scheduled<Void> = loop.assumeIsolated().scheduleTask(in: wait) { [weak self] in
      self?.renew(item, server)
    }
    ready.append((item, server, timer))
  }

  private func renew(_ item: Item, _ server: Endpoint) {
    item.port.renew { [weak self] result in
      guard let self, let place = ready.firstIndex(where: { $0.item.port === item.port }) else { return }
      guard (try? result.get())?.message.mapped == item.told.endpoints.first else { return lose(item.port) }
      troubles = 0
      ready.remove(at: place)
      keep(item, server)
    }
  }

  private func lose(_ port: TCPPort) {
    guard let place = ready.firstIndex(where: { $0.item.port === port }) else { return }
    let lost = ready.remove(at: place)
    lost.timer.cancel()
    port.close()
    trouble()
  }

  /// A port failed or was lost. Whoever waits gets another try at once, as long as trying is not in vain.
  private func trouble() {
    troubles += 1
    if !waiters.isEmpty {
      if troubles > Self.mostTroubles { waiters.removeFirst().waiter(nil) }
      return fill()
    }
    guard pause == nil, !isClosed else { return }
    let wait = min(Self.firstPause * (1 << min(troubles - 1, 8)), Self.longestPause)
    pause = loop.assumeIsolated().scheduleTask(in: wait) { [weak self] in
      self?.pause = nil
      self?.fill()
    }
  }

  // MARK: Constants

  /// A hundred connects at once are served in two rounds; home routers keep thousands of connections.
  private static let mostOpening = 50
  private static let mostWaiters = 256
  /// Connecting and asking take two round trips; the kernel sends a lost SYN again after 1 s only.
  private static let shortestHedge: TimeAmount = .milliseconds(60)
  private static let mostHedges = 3
  /// Routers keep an open TCP mapping for long; some carriers drop idle ones after less than a minute.
  private static let shortestRefresh: TimeAmount = .seconds(22)
  private static let longestRefresh: TimeAmount = .seconds(28)
  private static let mostTroubles = 4
  private static let firstPause: TimeAmount = .seconds(1)
  /// Public servers that close each connection after its answer are not asked more often.
  private static let longestPause: TimeAmount = .seconds(120)
}

extension PunchSource {
  fileprivate var servers: [Endpoint]? {
    switch self {
    case .measured(let servers), .sequential(let servers, _): servers
    case .untranslated, .computed: nil
    }
  }

  fileprivate func isLike(_ other: PunchSource?) -> Bool {
    switch (self, other) {
    case (.measured, .measured?), (.sequential, .sequential?): true
    default: self == other
    }
  }
}
