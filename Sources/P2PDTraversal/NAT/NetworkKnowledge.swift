import NIOCore
import P2PDNet

/// What a host knows of the networks it sits in: one ``NATReport`` for each distinct path, measured when the path appears
/// and again when it changes. Whoever owns it hands it every new reading of the interfaces; nobody waits for it.
///
/// Confined to its loop.
public final class NetworkKnowledge: @unchecked Sendable {
  /// A way out that routers may treat in a way of its own.
  public struct Path: Hashable, Sendable, CustomStringConvertible {
    public let interface: String
    public let index: UInt32
    /// The address measured from.
    public let local: IPAddress
    /// The router; another one is another path.
    public let gateway: IPAddress?

    public var family: AddressFamily { local.family }
    public var description: String { "\(interface) \(family) \(local)" }
  }

  private let loop: any EventLoop
  private let servers: [STUNServer]
  private let tls: ServerTLS?
  private let schedule: STUNTransaction.Schedule
  private var tasks: [Path: Task] = [:]
  /// Interfaces whose router has an address of a carrier's, by its own word.
  private var carriers: Set<String> = []
  private var isClosed = false
  private var suspected: NIODeadline?
  private var suspicion: Scheduled<Void>?

  /// Called on the loop whenever a report got better or a path came or went.
  public var changed: (() -> Void)?

  private final class Task {
    var report: NATReport
    var probe: NATProbe?
    var retry: Scheduled<Void>?
    var tries = 0
    var isDone = false
    var waiters: [EventLoopPromise<Void>] = []

    init(_ path: Path) { report = NATReport(interface: path.interface, family: path.family, local: path.local) }
  }

  /// - Parameters:
  ///   - servers: none: nothing is asked and nothing is known.
  ///   - tls: for those that speak nothing else.
  public init(
    servers: [STUNServer], tls: ServerTLS? = nil, schedule: STUNTransaction.Schedule = .quick, on loop: any EventLoop
  ) {
    self.servers = servers
    self.tls = tls
    self.schedule = schedule
    self.loop = loop
  }

  // MARK: What is known

  /// The reports by path, in no order.
  public var reports: [Path: NATReport] { tasks.mapValues(\.report) }

  /// The report of the path that packets from this address take.
  public func report(interface: String, local: IPAddress) -> NATReport? {
    tasks.first { $0.key.interface == interface && $0.key.local == local }?.value.report
  }

  /// The report that holds for an address of the interface: its own, or that of the address that speaks for its kind.
  public func report(interface: String, of ip: IPAddress) -> NATReport? {
    if let own = report(interface: interface, local: ip) { return own }
    return tasks.first { path, task in
      guard path.interface == interface, path.family == ip.family, path.local.isPrivate == ip.isPrivate else {
        return false
      }
      // Of public addresses the first speaks for all only where they are not translated.
      return ip.isPrivate || task.report.udp.mapping == NATBehaviour.Mapping.none
    }?.value.report
  }

  /// Whether a server has answered on any path of the family: then silence on another is that path's.
  public func hasAnswer(_ family: AddressFamily) -> Bool {
    tasks.contains { $0.key.family == family && $0.value.report.hasAnswer }
  }

  /// The report of the interface's first path of the family.
  public func report(interface: String, _ family: AddressFamily) -> NATReport? {
    let all = tasks.filter { $0.key.interface == interface && $0.key.family == family }
    return (all.first { $0.value.report.hasAnswer } ?? all.first)?.value.report
  }

  /// The route with the addresses under which the Internet sees it, where they are known.
  public func completed(_ route: Route) -> Route {
    guard let interface = route.interface?.name else { return route }
    var route = route
    for ip in route.nicIPs {
      guard let report = report(interface: interface, local: ip) else { continue }
      route.extIPs = report.external
      return route
    }
    // A further public address of an interface on which such addresses are not translated.
    if let ip = route.nicIPs.first, !ip.isPrivate, route.nicIPs.count == 1,
      tasks.contains(where: { path, task in
        path.interface == interface && path.family == route.family && !path.local.isPrivate
          && task.report.udp.mapping == NATBehaviour.Mapping.none
      })
    {
      route.extIPs = [ip]
    }
    return route
  }

  /// The interface's routes of one family, with their external addresses.
  public func routes(of interface: NetworkInterface, _ family: AddressFamily) -> RoutePool {
    RoutePool(RoutePool(interface, family).map { completed($0) })
  }

  /// Completes when each path that there is now has been measured wholly, or in vain.
  public func settled() -> EventLoopFuture<Void> {
    let open = tasks.values.filter { !$0.isDone }.map { task in
      let promise = loop.makePromise(of: Void.self)
      task.waiters.append(promise)
      return promise.futureResult
    }
    return EventLoopFuture.andAllComplete(open, on: loop)
  }

  // MARK: Measuring

  /// Takes in the state of the interfaces: what is new or changed is measured, what is gone is forgotten.
  /// - Parameter names: only these interfaces; nil for all.
  /// - Returns: whether a path came or went.
  @discardableResult
  public func update(_ snapshot: NetworkSnapshot, only names: [String]? = nil) -> Bool {
    guard !isClosed else { return false }
    let paths = Self.paths(snapshot, only: names)
    guard Set(paths) != Set(tasks.keys) else { return false }
    for path in tasks.keys where !paths.contains(path) { forget(path) }
    for path in paths where tasks[path] == nil {
      tasks[path] = Task(path)
      measure(path)
    }
    changed?()
    return true
  }

  /// Takes in what routers say of themselves: one whose outside address is a carrier's stands behind another NAT.
  public func learn(_ mappings: [PortMapping]) {
    let now = Set(mappings.filter { $0.external.ip.isShared }.map(\.path.interface))
    guard now != carriers, !isClosed else { return }
    carriers = now
    for task in tasks.values { task.report = judged(task.report) }
    changed?()
  }

  private func judged(_ report: NATReport) -> NATReport {
    guard report.family == .v4, carriers.contains(report.interface) else { return report }
    var report = report
    report.carrierNAT = true
    return report
  }

  /// Measures everything anew: the router is known to have changed.
  public func refresh() {
    for path in tasks.keys { measure(path) }
  }

  /// A sign that the way outside may be another than before. What is not being measured just now is, once a minute at
  /// most.
  public func suspect() {
    guard !isClosed, suspicion == nil else { return }
    guard let suspected, loop.now - suspected < Self.suspicionRest else {
      suspected = loop.now
      for (path, task) in tasks where task.isDone { measure(path) }
      return
    }
    suspicion = loop.assumeIsolated().scheduleTask(deadline: suspected + Self.suspicionRest) { [weak self] in
      self?.suspicion = nil
      self?.suspect()
    }
  }

  /// Everything was asked, and nobody answered.
  public var isInVain: Bool { !tasks.isEmpty && tasks.values.allSatisfy { $0.isDone && !$0.report.hasAnswer } }

  /// Ends all measuring. What is known stays readable.
  public func close() {
    isClosed = true
    changed = nil
    suspicion?.cancel()
    suspicion = nil
    for task in tasks.values { stop(task) }
  }

  private func forget(_ path: Path) {
    if let task = tasks.removeValue(forKey: path) { stop(task) }
  }

  private func stop(_ task: Task) {
    task.retry?.cancel()
    task.retry = nil
    let probe = task.probe
    task.probe = nil
    probe?.cancel()
    settle(task)
  }

  private func settle(_ task: Task) {
    task.isDone = true
    let waiters = task.waiters
    task.waiters = []
    for waiter in waiters { waiter.succeed() }
  }

  private func measure(_ path: Path) {
    guard !isClosed, let task = tasks[path] else { return }
    task.retry?.cancel()
    task.retry = nil
    // Taken out first: the end of a probe that was replaced is not the end of the measuring.
    let replaced = task.probe
    task.probe = nil
    replaced?.cancel()
    task.isDone = false
    guard !servers.isEmpty else { return settle(task) }
    let search = STUNSearch(servers, path.family, patience: Self.lookupPatience, on: loop)
    let probe = NATProbe(
      interface: path.interface, local: path.local, search: search, tls: tls, schedule: schedule, on: loop
    ) { [weak self] report in
      // Measured anew, what is known stays until more is, or something else.
      guard !task.report.isComplete || report.isComplete || report.differs(from: task.report) else { return }
      guard let self else { return }
      task.report = judged(report)
      changed?()
    }
    task.probe = probe
    probe.finished.assumeIsolated().whenSuccess { report in
      guard self.tasks[path] === task, task.probe === probe else { return }
      task.probe = nil
      // Nobody could even be asked: no name was found. That says nothing new.
      if !search.places.isEmpty || !task.report.hasAnswer { task.report = self.judged(report) }
      self.settle(task)
      if report.hasAnswer { task.tries = 0 } else { self.retryLater(path, task) }
      self.changed?()
    }
    probe.start()
  }

  /// Where nothing answered: a router that starts, or a way out that appears without a sign of it here.
  private func retryLater(_ path: Path, _ task: Task) {
    guard !isClosed else { return }
    let wait = Self.firstRetry * (1 << min(task.tries, Self.mostDoublings))
    task.tries += 1
    task.retry = loop.assumeIsolated().scheduleTask(in: wait) { [weak self] in self?.measure(path) }
  }

  /// Private addresses of an interface share a path; of its public ones the first speaks for all.
  static func paths(_ snapshot: NetworkSnapshot, only names: [String]? = nil) -> [Path] {
    var paths: [Path] = []
    for interface in snapshot.interfaces where interface.isUp && !interface.isLoopback {
      if let names, !names.contains(interface.name) { continue }
      for family in AddressFamily.allCases {
        let route = snapshot.defaultRoutes[family]
        let gateway = route?.interfaceIndex == interface.index ? route?.gateway : nil
        let locals = RoutePool(interface, family).compactMap(\.nicIPs.first)
        for local in [locals.first(where: \.isPrivate), locals.first { !$0.isPrivate }].compactMap({ $0 }) {
          paths.append(Path(interface: interface.name, index: interface.index, local: local, gateway: gateway))
        }
      }
    }
    // Those with a default route first: they are the likely ways out.
    let ranked = paths.filter { $0.gateway != nil } + paths.filter { $0.gateway == nil }
    return Array(ranked.prefix(mostPaths))
  }

  /// A container host has dozens of bridges; measuring them all tells nothing.
  static let mostPaths = 12
  private static let lookupPatience: TimeAmount = .milliseconds(1_500)
  private static let suspicionRest: TimeAmount = .minutes(1)
  private static let firstRetry: TimeAmount = .seconds(30)
  /// Up to 16 minutes.
  private static let mostDoublings = 5
}

extension NATReport {
  /// The path is seen under another address than in the report before.
  fileprivate func differs(from other: NATReport) -> Bool {
    guard let seen = external.first, let before = other.external.first else { return false }
    return seen != before
  }
}
