import NIOCore
import P2PDNet

/// Names on the local network, with no server at all: multicast DNS (RFC 6762) and DNS-SD (RFC 6763), service
/// `_p2pd._udp.local`. Announces this host's nodes, and finds those of others.
///
/// Nothing is sent, and no socket is open, before the first ``announce(_:key:value:port:)`` or ``find(_:timeout:)``.
/// Nothing that a packet says is ever dialled here: what is found is told to the caller. Anybody on a LAN can say anything:
/// a name is as good as the LAN, a key that connects is proven.
///
/// Confined to its loop.
public final class LocalNames: @unchecked Sendable {
  /// How far a name is on one interface.
  public struct Announcement: Hashable, Sendable {
    public enum State: Hashable, Sendable {
      /// Others are asked whether it is free, for a second mostly.
      case asking
      case ours
      /// Another key answers for it. It is asked for again each minute.
      case taken(by: [UInt8]?)
    }

    public let label: String
    public let interface: String
    public let state: State
  }

  /// Called on the loop when ``announcements`` changed, also when a name that was ours is lost.
  public var changed: (() -> Void)?

  private let names: [String]?
  private let loop: any EventLoop
  private var isOpen = false
  private var stopping: EventLoopFuture<Void>?
  private var links: [UInt32: LocalLink] = [:]
  private var claims: [DNSName: LocalClaim] = [:]
  private var searches: [ObjectIdentifier: LocalSearchRun] = [:]

  /// - Parameter interfaces: only these; nil for every LAN: what is up, can multicast, and is neither loopback nor a tunnel.
  public init(interfaces: [String]? = nil, on loop: any EventLoop) {
    names = interfaces
    self.loop = loop
  }

  // MARK: Announcing

  /// Answers for a name from now on, until ``withdraw(_:)``. Called again it replaces the address, the port, or the key.
  /// - Parameters:
  ///   - label: 1 to 63 bytes, `example`; as others will look for it, so normalised.
  ///   - key: the node's, 32 bytes.
  ///   - value: the node's address, at most 1024 bytes.
  ///   - port: that the node listens on; other programs' tools show it.
  /// - Returns: done when the name is ours on every link, some 0.8 s later. Fails with `taken` where another key has it
  ///   on one of them, `unreachable` where there is no LAN now, `timeout` where others keep contesting it; it is announced
  ///   all the same wherever and as soon as it is free. `badName`, `tooLarge`, `limit`, `closed`: it is not.
  public func announce(_ label: String, key: [UInt8], value: String, port: UInt16) -> EventLoopFuture<Void> {
    do throws(NetError) {
      let service = try LocalService(label: label, key: key, value: value, port: port)
      try open("announce \(label) on the local network")
      if let claim = claims[service.instance], claim.renew(service) { return claim.settled }
      withdraw(label)
      guard claims.count < Self.mostClaims else {
        throw NetError(.limit, "announce \(label)", cause: "\(claims.count) names are announced already")
      }
      let claim = LocalClaim(service, on: loop) { [weak self] in self?.changed?() }
      claims[service.instance] = claim
      for link in links.values { claim.add(link) }
      claim.begin()
      return claim.settled
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  /// Says goodbye for one name, or for all.
  public func withdraw(_ label: String? = nil) {
    for (name, claim) in claims where label.map({ LocalService.instance($0) == name }) ?? true {
      claims[name] = nil
      claim.stop()
    }
  }

  /// How far each name is on each interface.
  public var announcements: [Announcement] {
    claims.values.flatMap(\.announcements).sorted { ($0.label, $0.interface) < ($1.label, $1.interface) }
  }

  // MARK: Finding

  /// Who answers for a name: all that say so, mostly one. Ends 0.15 s after the first answer; nobody in all the time is an
  /// empty list.
  /// - Parameter timeout: a question that got lost is asked again after a second.
  /// - Throws: `unreachable` where there is no LAN to ask, `badName`, `limit`, `closed`.
  public func find(_ label: String, timeout: TimeAmount = .seconds(1)) -> EventLoopFuture<[LocalName]> {
    guard let name = LocalService.instance(label) else {
      return loop.makeFailedFuture(
        NetError(.badName, "find \(label) on the local network", cause: "a name has 1 to \(DNSName.longestLabel) bytes")
      )
    }
    return search(.name(name), timeout, "find \(label) on the local network")
  }

  /// Everybody who has a name, by name. Takes the whole time, in a second of which all that hear us have answered.
  public func browse(timeout: TimeAmount = .seconds(1)) -> EventLoopFuture<[LocalName]> {
    search(.all, timeout, "list the names on the local network")
  }

  private func search(_ goal: LocalSearch.Goal, _ timeout: TimeAmount, _ what: String) -> EventLoopFuture<[LocalName]> {
    do throws(NetError) {
      try open(what)
      guard links.values.contains(where: \.isOpen) else { throw unreachable(what) }
      guard searches.count < Self.mostSearches else {
        throw NetError(.limit, what, cause: "\(searches.count) searches are under way already")
      }
      let run = LocalSearchRun(goal, timeout, on: loop) { [weak self] message in
        for link in self?.links.values ?? [:].values { link.send(message) }
      }
      let id = ObjectIdentifier(run)
      searches[id] = run
      run.start()
      return run.found.always { _ in self.searches[id] = nil }
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  private func unreachable(_ what: String) -> NetError {
    let problems = links.values.flatMap { $0.problems.values }
    return NetError(
      .unreachable, what, cause: "no interface leads to a LAN", attempts: problems.sorted { $0.what < $1.what })
  }

  // MARK: The network

  /// Takes in the state of the interfaces: sockets are opened and closed, and names claimed on links that are new.
  public func update(_ snapshot: NetworkSnapshot) {
    guard isOpen, stopping == nil else { return }
    let used = snapshot.interfaces.filter { LocalNetwork.isUsed($0, names: names) }.prefix(Self.mostLinks)
    for (index, link) in links where !used.contains(where: { $0.index == index && $0.name == link.interface.name }) {
      links[index] = nil
      for claim in claims.values { claim.remove(link) }
      _ = link.close()
    }
    for interface in used {
      if let link = links[interface.index] {
        link.update(interface)
        for claim in claims.values { claim.update(link) }
      } else {
        let link = LocalLink(interface, on: loop) { [weak self] in self?.heard($1, from: $2, on: $0) }
        links[interface.index] = link
        link.update(interface)
        for claim in claims.values { claim.add(link) }
      }
    }
  }

  private func open(_ what: String) throws(NetError) {
    guard stopping == nil else { throw NetError(.closed, what, cause: "it was stopped") }
    guard !isOpen else { return }
    let snapshot = try loop.requireNetwork(what).interfaces()
    isOpen = true
    update(snapshot)
  }

  private func heard(_ message: DNSMessage, from source: Endpoint, on link: LocalLink) {
    for claim in claims.values { claim.heard(message, from: source, on: link) }
    for run in searches.values {
      run.handle(.received(message, from: source, interface: link.interface.name))
    }
  }

  /// Says goodbye for every name, ends searches with what they found, and closes the sockets.
  @discardableResult
  public func stop() -> EventLoopFuture<Void> {
    if let stopping { return stopping }
    changed = nil
    withdraw()
    for run in searches.values { run.stop() }
    let stopping = EventLoopFuture.andAllComplete(links.values.map { $0.close() }, on: loop)
    self.stopping = stopping
    links = [:]
    return stopping
  }

  /// Sockets are two a link.
  private static let mostLinks = 16
  private static let mostClaims = 16
  private static let mostSearches = 64
}

/// One search: performs what ``LocalSearch`` decides. Lives until it is finished.
private final class LocalSearchRun: @unchecked Sendable {
  var found: EventLoopFuture<[LocalName]> { promise.futureResult }
  private let promise: EventLoopPromise<[LocalName]>
  private let loop: any EventLoop
  private let ask: (DNSMessage) -> Void
  private var search: LocalSearch
  private var timer: Scheduled<Void>?

  init(_ goal: LocalSearch.Goal, _ timeout: TimeAmount, on loop: any EventLoop, ask: @escaping (DNSMessage) -> Void) {
    self.loop = loop
    self.ask = ask
    promise = loop.makePromise()
    search = LocalSearch(goal, now: loop.now, timeout: timeout)
  }

  func start() { handle(.start) }
  func stop() { handle(.stop) }

  func handle(_ event: LocalSearch.Event) {
    for action in search.handle(event, now: loop.now) {
      switch action {
      case .ask(let message): ask(message)
      case .wait(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.timer) }
      case .finish(let found):
        timer?.cancel()
        timer = nil
        promise.succeed(found)
      }
    }
  }
}
