import NIOCore
import P2PDNet

/// Keeps ports of this host open in the routers before it: over IPv4 where addresses are translated, over IPv6 where a
/// firewall stands. Whoever owns it hands it every new reading of the interfaces, and what STUN found out; nobody waits
/// for it. It sends to the default routes' routers, and to the multicast group of UPnP on their links.
///
/// Confined to its loop.
public final class PortMapper: @unchecked Sendable {
  /// A port that is to be reached from outside.
  public struct Port: Hashable, Sendable {
    public var transport: PipeProto
    public var number: UInt16

    public init(_ transport: PipeProto, _ number: UInt16) {
      self.transport = transport
      self.number = number
    }
  }

  private struct Seen: Equatable {
    var interface: String
    var local: IPAddress
    var `as`: [IPAddress]
  }

  public let ports: [Port]
  /// Called on the loop when ``mappings``, what is thought of them, or ``findings`` changed.
  public var changed: (() -> Void)?
  /// What is to be kept for the next start; changes with ``changed``.
  public private(set) var memory: PortMappingMemory

  private let loop: any EventLoop
  private var paths: [PortMappingPath: PathMapper] = [:]
  /// Paths that are gone, until their mappings are taken away.
  private var leaving: [PathMapper] = []
  private var seen: [Seen] = []
  private var closing: EventLoopPromise<Void>?
  private var waiters: [EventLoopPromise<Void>] = []

  /// - Parameters:
  ///   - ports: of this host, at most one of each transport.
  ///   - memory: of the run before.
  public init(ports: [Port], memory: PortMappingMemory = PortMappingMemory(), on loop: any EventLoop) {
    self.ports = ports.filter { $0.number != 0 }
    self.memory = memory
    self.loop = loop
  }

  // MARK: What there is

  /// The ports that are open now, whether or not others may be told.
  public var mappings: [PortMapping] {
    paths.values.flatMap { mapper in
      mapper.grants.map { want, grant in
        PortMapping(
          path: mapper.path, transport: want.transport, internalPort: want.port, external: grant.external,
          lifetime: grant.lifetime, by: grant.by,
          trust: PortMapping.trust(grant.external.ip, seen: externals(of: mapper.path)))
      }
    }.sorted { ($0.path.description, $0.transport.rawValue) < ($1.path.description, $1.transport.rawValue) }
  }

  /// Where the outside reaches the port that `local` listens on; nil where no mapping is trusted.
  public func external(of local: IPAddress, _ transport: PipeProto = .tcp) -> Endpoint? {
    mappings.first { $0.path.local == local && $0.transport == transport && $0.isTrusted }?.external
  }

  /// What came of asking, a router each.
  public var findings: [PortMappingFinding] {
    paths.values.map(\.finding).sorted { $0.path.description < $1.path.description }
  }

  /// Completes when each router that there is now has answered all that it will, for now: in 0.25 s where a mapping was
  /// given, in about 2 s where nobody answers.
  public func settled() -> EventLoopFuture<Void> {
    guard closing == nil, !isSettled else { return loop.makeSucceededVoidFuture() }
    let promise = loop.makePromise(of: Void.self)
    waiters.append(promise)
    return promise.futureResult
  }

  private var isSettled: Bool { paths.values.allSatisfy(\.finding.isSettled) }

  // MARK: What happens

  /// Takes in the state of the interfaces: new routers are asked, those that are gone are told goodbye, as far as they
  /// still hear it.
  /// - Parameters:
  ///   - names: only these interfaces; nil for all.
  ///   - isServed: whether anybody listens at that address of this host.
  public func update(
    _ snapshot: NetworkSnapshot, only names: [String]? = nil, where isServed: (IPAddress) -> Bool = { _ in true }
  ) {
    guard closing == nil else { return }
    let now = ports.isEmpty ? [] : Self.paths(snapshot, only: names).filter { isServed($0.local) }
    for path in paths.keys where !now.contains(path) {
      if let mapper = paths.removeValue(forKey: path) { leave(mapper) }
    }
    for path in now where paths[path] == nil {
      let mapper = PathMapper(path, ports, memory, on: loop) { [weak self] in self?.told() }
      paths[path] = mapper
      mapper.start()
    }
    told()
  }

  /// Takes in under which addresses STUN servers see this host: a mapping elsewhere is worth nothing.
  public func learn(_ reports: some Sequence<NATReport>) {
    let now = reports.filter(\.hasAnswer).map { Seen(interface: $0.interface, local: $0.local, as: $0.external) }
      .sorted { $0.local.description < $1.local.description }
    guard now != seen else { return }
    seen = now
    if closing == nil, !paths.isEmpty { changed?() }
  }

  /// Private addresses of an interface share the way out, of which one was measured.
  private func externals(of path: PortMappingPath) -> [IPAddress] {
    let exact = seen.first { $0.interface == path.interface && $0.local == path.local }
    let like = seen.first {
      $0.interface == path.interface && $0.local.family == path.family && $0.local.isPrivate && path.local.isPrivate
    }
    return (exact ?? like)?.as ?? []
  }

  /// Takes all mappings away and closes everything. Completes when the routers have answered, or did not in 1.5 s.
  public func close() -> EventLoopFuture<Void> {
    if let closing { return closing.futureResult }
    let promise = loop.makePromise(of: Void.self)
    closing = promise
    changed = nil
    let all = paths.values
    paths = [:]
    for mapper in all { leave(mapper) }
    settle(all: true)
    finishClosing()
    return promise.futureResult
  }

  private func leave(_ mapper: PathMapper) {
    leaving.append(mapper)
    mapper.stop { [weak self, weak mapper] in
      guard let self else { return }
      leaving.removeAll { $0 === mapper }
      finishClosing()
    }
  }

  private func finishClosing() { if let closing, leaving.isEmpty { closing.succeed() } }

  private func told() {
    guard closing == nil else { return }
    for mapper in paths.values {
      for (want, grant) in mapper.grants {
        let key = PortMappingMemory.Key(gateway: mapper.path.gateway, want: want)
        let entry = PortMappingMemory.Entry(nonce: mapper.nonce(of: want), external: grant.external)
        if memory[key] != entry { memory.set(entry, for: key) }
      }
    }
    changed?()
    settle(all: false)
  }

  private func settle(all: Bool) {
    guard all || isSettled else { return }
    let waiters = waiters
    self.waiters = []
    for waiter in waiters { waiter.succeed() }
  }

  // MARK: Paths

  /// Where a router can be asked: by the default route of each family.
  static func paths(_ snapshot: NetworkSnapshot, only names: [String]? = nil) -> [PortMappingPath] {
    AddressFamily.allCases.flatMap { family -> [PortMappingPath] in
      guard let route = snapshot.defaultRoutes[family], let gateway = route.gateway,
        let interface = snapshot.interface(at: route.interfaceIndex), interface.isUp, !interface.isLoopback,
        names?.contains(interface.name) ?? true
      else { return [] }
      let usable = interface.addresses.filter { $0.ip.family == family && $0.isUsable && !$0.ip.isLinkLocal }
      let locals = family == .v4 ? translated(usable, route, gateway) : guarded(usable)
      return locals.map { PortMappingPath(interface: interface.name, local: $0, gateway: gateway) }
    }
  }

  /// The IPv4 address that leaves by the router. A public one is not translated.
  private static func translated(
    _ usable: [InterfaceAddress], _ route: DefaultRoute, _ gateway: IPAddress
  ) -> [IPAddress] {
    let chosen =
      usable.first { $0.ip == route.preferredSource }
      ?? usable.first { $0.ip.sharesPrefix($0.prefixLength, with: gateway) } ?? usable.first
    return chosen.flatMap { $0.ip.isPrivate ? [$0.ip] : nil } ?? []
  }

  /// The global IPv6 addresses, which a firewall may stand before. Of temporary ones only where there is no other: they
  /// are for leaving, not for being reached (RFC 8981 §1).
  private static func guarded(_ usable: [InterfaceAddress]) -> [IPAddress] {
    let global = usable.filter { !$0.ip.isPrivate && !$0.flags.contains(.deprecated) }
    let stable = global.filter { !$0.flags.contains(.temporary) }
    return (stable.isEmpty ? global.prefix(1) : stable.prefix(mostAddresses)).map(\.ip)
  }

  private static let mostAddresses = 2
}
