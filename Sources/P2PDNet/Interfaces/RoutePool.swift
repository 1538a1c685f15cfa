/// The routes of one family, the one to prefer first.
public struct RoutePool: Hashable, Sendable, RandomAccessCollection, MutableCollection, ExpressibleByArrayLiteral {
  private var routes: [Route]

  /// Those routes, in that order.
  public init(_ routes: [Route]) { self.routes = routes }
  public init(arrayLiteral elements: Route...) { routes = elements }

  /// The routes of an interface: its private addresses together, then each public address by itself. Every route has
  /// the link-local addresses of its family; where there are only those, they are the one route. Addresses that cannot
  /// be bound are left out, deprecated ones come last, and stable ones stand before temporary ones, which soon end.
  public init(_ interface: NetworkInterface, _ family: AddressFamily) {
    let usable = interface.addresses.filter { $0.ip.family == family && $0.isUsable }
    // A stable sort by rank: equals keep the kernel's order.
    let sorted = (0...Self.worstRank).flatMap { rank in usable.filter { Self.rank($0) == rank } }.map(\.ip)
    let linkLocals = sorted.filter(\.isLinkLocal)
    let others = sorted.filter { !$0.isLinkLocal }
    let shared = others.filter(\.isPrivate)
    let open = others.filter { !$0.isPrivate }
    func route(_ ips: [IPAddress]) -> Route {
      Route(family: family, interface: interface, nicIPs: ips, linkLocals: linkLocals)
    }
    routes = (shared.isEmpty ? [] : [route(shared)]) + open.map { route([$0]) }
    if routes.isEmpty, !linkLocals.isEmpty { routes = [route([])] }
  }

  public var startIndex: Int { routes.startIndex }
  public var endIndex: Int { routes.endIndex }
  public subscript(position: Int) -> Route {
    get { routes[position] }
    set { routes[position] = newValue }
  }

  /// The first route that has the address, as its own or as an external one.
  public func locate(_ ip: IPAddress) -> Route? {
    routes.first { $0.nicIPs.contains(ip) || $0.extIPs.contains(ip) || $0.linkLocals.contains(ip) }
  }

  /// Tells the route of one of the interface's addresses how the Internet sees it.
  public mutating func setExternal(_ ips: [IPAddress], for nicIP: IPAddress) {
    for index in routes.indices where routes[index].nicIPs.contains(nicIP) { routes[index].extIPs = ips }
  }

  private static func rank(_ address: InterfaceAddress) -> Int {
    (address.flags.contains(.deprecated) ? 2 : 0) + (address.flags.contains(.temporary) ? 1 : 0)
  }
  private static let worstRank = 3
}

/// A route pool for each family: `interface.rp[.v4]`.
public struct RoutePools: Hashable, Sendable {
  private var pools: [AddressFamily: RoutePool] = [:]

  /// The interface's pools, made from its addresses.
  public init(_ interface: NetworkInterface) {
    for family in AddressFamily.allCases { pools[family] = RoutePool(interface, family) }
  }

  /// The family's pool; empty where the interface has no address of it.
  public subscript(family: AddressFamily) -> RoutePool {
    get { pools[family] ?? [] }
    set { pools[family] = newValue }
  }
}

extension NetworkInterface {
  /// The interface's routes, made from its addresses.
  public var rp: RoutePools { RoutePools(self) }

  /// The first route of the family; nil where the interface has no address of it.
  public func route(_ family: AddressFamily) -> Route? { RoutePool(self, family).first }
}
