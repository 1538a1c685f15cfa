/// The interfaces and default routes of this host at one moment, read from the kernel's tables.
public struct NetworkSnapshot: Hashable, Sendable {
  /// By index.
  public var interfaces: [NetworkInterface]
  /// The default route in use of each family that has one.
  public var defaultRoutes: [AddressFamily: DefaultRoute]

  public init(interfaces: [NetworkInterface] = [], defaultRoutes: [AddressFamily: DefaultRoute] = [:]) {
    self.interfaces = interfaces
    self.defaultRoutes = defaultRoutes
  }

  /// What the kernel says now. Takes well under a millisecond and waits for no network.
  public static func current() throws(NetError) -> NetworkSnapshot {
    var snapshot = try interfacesAlone()
    var routes = try NetlinkSocket.dump(.routes, family: .v4)
    routes += try NetlinkSocket.dump(.routes, family: .v6)
    snapshot.defaultRoutes = defaultRoutes(in: routes)
    return snapshot
  }

  /// The interfaces without the routes, of which a router may have a great many.
  static func interfacesAlone() throws(NetError) -> NetworkSnapshot {
    let links = try NetlinkSocket.dump(.links)
    return NetworkSnapshot(links: links, addresses: try NetlinkSocket.dump(.addresses), routes: [])
  }

  /// The interface with that index.
  public func interface(at index: UInt32) -> NetworkInterface? { interfaces.first { $0.index == index } }

  /// The interface of that name.
  /// - Throws: `.badAddress`, naming those that exist, where there is none.
  public func interface(named name: String) throws(NetError) -> NetworkInterface {
    if let found = interfaces.first(where: { $0.name == name }) { return found }
    let names = interfaces.map(\.name).joined(separator: ", ")
    throw NetError(.badAddress, "find the interface \(name)", cause: "there is none of that name; there are: \(names)")
  }

  /// The interface that packets to the Internet leave by.
  /// - Throws: `.unreachable` where the family has no default route.
  public func defaultInterface(_ family: AddressFamily) throws(NetError) -> NetworkInterface {
    if let route = defaultRoutes[family], let found = interface(at: route.interfaceIndex) { return found }
    throw NetError(.unreachable, "find the default interface", cause: "there is no default route for \(family)")
  }

  /// True when packets to the Internet leave by this interface.
  public func isDefault(_ interface: NetworkInterface, _ family: AddressFamily) -> Bool {
    defaultRoutes[family]?.interfaceIndex == interface.index
  }

  /// The interface to use where none is named: that of the IPv4 default route, else of the IPv6 one; without any, the
  /// first that is up and has an address, loopback last, so that a host without Internet can still talk to its LAN.
  public func preferredInterface() throws(NetError) -> NetworkInterface {
    for family in [AddressFamily.v4, .v6] {
      if let found = try? defaultInterface(family) { return found }
    }
    let usable = interfaces.filter { $0.isUp && !$0.supported.isEmpty }
    guard let found = usable.first(where: { !$0.isLoopback }) ?? usable.first else {
      throw NetError(.unreachable, "find an interface", cause: "none is up and has an address")
    }
    return found
  }
}

/// The route of packets that no other route of the host matches.
public struct DefaultRoute: Hashable, Sendable {
  public let family: AddressFamily
  public let interfaceIndex: UInt32
  /// The router; nil on a link without one. A link-local router carries its scope.
  public let gateway: IPAddress?
  /// The route with the lowest metric is the one in use.
  public let metric: UInt32
  /// The source address that the route asks for.
  public let preferredSource: IPAddress?

  public init(
    family: AddressFamily, interfaceIndex: UInt32, gateway: IPAddress? = nil, metric: UInt32 = 0,
    preferredSource: IPAddress? = nil
  ) {
    self.family = family
    self.interfaceIndex = interfaceIndex
    self.gateway = gateway
    self.metric = metric
    self.preferredSource = preferredSource
  }
}

extension NetworkSnapshot {
  /// Joins the answers to the dumps; an address of a link that is not in the list came or went in between.
  init(links: [NetlinkCodec.Content], addresses: [NetlinkCodec.Content], routes: [NetlinkCodec.Content]) {
    var byIndex: [UInt32: [InterfaceAddress]] = [:]
    for case .address(let record) in addresses { byIndex[record.index, default: []].append(InterfaceAddress(record)) }
    var interfaces: [NetworkInterface] = []
    for case .link(let link) in links {
      interfaces.append(NetworkInterface(link, addresses: byIndex[link.index] ?? []))
    }
    self.init(interfaces: interfaces.sorted { $0.index < $1.index }, defaultRoutes: Self.defaultRoutes(in: routes))
  }

  private static func defaultRoutes(in routes: [NetlinkCodec.Content]) -> [AddressFamily: DefaultRoute] {
    var best: [AddressFamily: NetlinkCodec.RouteRecord] = [:]
    for case .route(let route) in routes where route.isDefault {
      if let other = best[route.family], !route.isBetter(than: other) { continue }
      best[route.family] = route
    }
    return best.mapValues {
      DefaultRoute(
        family: $0.family, interfaceIndex: $0.interfaceIndex, gateway: $0.gateway, metric: $0.metric,
        preferredSource: $0.preferredSource)
    }
  }
}

extension NetlinkCodec.RouteRecord {
  /// A route of the main table to everywhere that is not dead (rtnetlink(7): `RT_TABLE_MAIN` 254, `RTN_UNICAST` 1,
  /// `RTNH_F_DEAD` 1).
  fileprivate var isDefault: Bool {
    destinationLength == 0 && table == 254 && type == 1 && interfaceIndex != 0 && flags & 1 == 0
  }

  /// A link with a carrier, then the lower metric; of IPv6 routers otherwise equal the preferred one (RFC 4191 §3.2).
  fileprivate func isBetter(than other: Self) -> Bool { order < other.order }

  private var order: (UInt32, UInt32, Int) {
    let linkDown: UInt32 = 16  // RTNH_F_LINKDOWN
    return (flags & linkDown, metric, 0 - Int(preference))
  }
}
