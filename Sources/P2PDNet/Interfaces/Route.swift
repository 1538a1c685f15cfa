/// A way out of this host in one family: the addresses of an interface that a pipe can be bound to, and the addresses
/// under which the Internet sees them. A value: what a pipe was opened with does not change under it.
public struct Route: Hashable, Sendable, CustomStringConvertible {
  /// Of all its addresses.
  public let family: AddressFamily
  /// The interface; nil for ``any(_:)`` and ``loopback(_:)``, which no interface holds.
  public let interface: NetworkInterface?
  /// The interface's addresses to bind to, the one to prefer first. Private addresses share a route, since they share
  /// the router's external address; each public address has a route of its own.
  public var nicIPs: [IPAddress]
  /// The interface's link-local addresses; those of IPv6 carry their scope.
  public var linkLocals: [IPAddress]
  /// The addresses under which the Internet sees this route; empty while not known.
  public var extIPs: [IPAddress]

  /// A route put together by hand; ``RoutePool`` makes those of an interface.
  public init(
    family: AddressFamily, interface: NetworkInterface? = nil, nicIPs: [IPAddress], linkLocals: [IPAddress] = [],
    extIPs: [IPAddress] = []
  ) {
    self.family = family
    self.interface = interface
    self.nicIPs = nicIPs
    self.linkLocals = linkLocals
    self.extIPs = extIPs
  }

  /// Whatever interface the kernel chooses: binds to `0.0.0.0` or `::`.
  public static func any(_ family: AddressFamily) -> Route { Route(family: family, nicIPs: [.wildcard(family)]) }

  /// This host alone: binds to `127.0.0.1` or `::1`.
  public static func loopback(_ family: AddressFamily) -> Route { Route(family: family, nicIPs: [.loopback(family)]) }

  /// The address to bind to: the first of ``nicIPs``, or a link-local one where there is no other.
  public var nic: IPAddress? { nicIPs.first ?? linkLocals.first }
  /// The first external address; nil while not known.
  public var ext: IPAddress? { extIPs.first }
  /// The first link-local address.
  public var linkLocal: IPAddress? { linkLocals.first }

  /// True when the addresses stand for every interface.
  public var isWildcard: Bool { nicIPs.first?.isWildcard ?? false }
  /// True when the addresses reach this host alone.
  public var isLoopback: Bool { nicIPs.first?.isLoopback ?? false }

  /// The address of this route that can speak to `destination`: a link-local one to a link-local destination, nil where
  /// the families or the links differ.
  public func source(for destination: IPAddress) -> IPAddress? {
    guard destination.family == family else { return nil }
    guard destination.isLinkLocal, !isWildcard else { return nic }
    if family == .v4 { return linkLocals.first ?? nicIPs.first }
    return linkLocals.first { destination.scopeID == 0 || $0.scopeID == destination.scopeID }
  }

  /// The route with the place a pipe is bound to.
  /// - Parameters:
  ///   - port: 0 lets the kernel choose.
  ///   - ip: one of the route's addresses; nil for ``nic``.
  /// - Throws: `.badAddress` where the route has no such address, or none at all.
  public func bind(port: UInt16 = 0, ip: IPAddress? = nil) throws(NetError) -> BoundRoute {
    guard let chosen = ip ?? nic else {
      throw NetError(.badAddress, "bind to \(self)", cause: "it has no \(family) address")
    }
    guard nicIPs.contains(chosen) || linkLocals.contains(chosen) else {
      throw NetError(.badAddress, "bind to \(chosen)", cause: "it is no address of \(self)")
    }
    return BoundRoute(route: self, endpoint: Endpoint(ip: chosen, port: port))
  }

  /// `eth0 IPv4 192.0.2.2`.
  public var description: String {
    let place = interface?.name ?? (isLoopback ? "loopback" : "any interface")
    return "\(place) \(family)" + (nic.map { " \($0)" } ?? "")
  }
}

/// A route and the address and port of it that a pipe is bound to.
public struct BoundRoute: Hashable, Sendable, CustomStringConvertible {
  /// The route it was made from.
  public let route: Route
  /// Where to bind. Port 0 until the kernel has chosen one.
  public var endpoint: Endpoint

  /// Unchecked; ``Route/bind(port:ip:)`` refuses addresses that are not the route's.
  public init(route: Route, endpoint: Endpoint) {
    self.route = route
    self.endpoint = endpoint
  }

  /// 0 until the kernel has chosen one.
  public var port: UInt16 { endpoint.port }
  /// `192.0.2.2:80 on eth0`.
  public var description: String { "\(endpoint) on \(route.interface?.name ?? "any interface")" }
}
