import P2PDNet

/// Chooses the routes of a node's address. Pure.
enum AddressComposer {
  /// - Parameters:
  ///   - listening: what the node's sockets are bound to.
  ///   - outside: how an address of an interface looks from there.
  static func routes(
    _ names: [String]?, port: UInt16, listening: [IPAddress], on all: [NetworkInterface],
    outside: (NetworkInterface, IPAddress) -> OutsideView = { _, _ in OutsideView() }
  ) -> [NodeRoute] {
    // Bridges and the like lead to guests of this machine at most: last.
    let interfaces = all.filter { $0.isUp && (names?.contains($0.name) ?? true) }
      .sorted { ($0.kind.isEmpty ? 0 : 1, $0.index) < ($1.kind.isEmpty ? 0 : 1, $1.index) }
    var routes: [NodeRoute] = []
    for (position, interface) in interfaces.enumerated() {
      let reachable = interface.addresses.filter { address in
        address.isUsable && address.ip.isUsableHost
          && listening.contains { $0.isSameHost(as: address.ip) || ($0.isWildcard && $0.family == address.ip.family) }
      }
      let best = reachable.sorted { rank($0) < rank($1) }.prefix(perInterface)
      routes += best.map { address in
        let view = outside(interface, address.ip)
        return NodeRoute(
          interface: UInt8(min(position, 15)), nic: address.ip, port: port, external: view.external, nat: view.nat)
      }
    }
    // What the kernel let us bind to is there, even if its tables could not be read.
    for ip in listening where ip.isUsableHost && !routes.contains(where: { $0.nic.isSameHost(as: ip) }) && names == nil
    {
      routes.append(NodeRoute(interface: 15, nic: ip, port: port))
    }
    // Loopback leads somewhere only from this machine, and there every other address does too.
    let outward = routes.filter { !$0.nic.isLoopback }
    return Array((outward.isEmpty ? routes : outward).prefix(NodeAddress.maximumRoutes))
  }

  /// Public before private before link-local; what lasts before what will be replaced.
  private static func rank(_ address: InterfaceAddress) -> Int {
    let kind = address.ip.isLoopback ? 4 : address.ip.isLinkLocal ? 3 : address.ip.isPrivate ? 1 : 0
    let isPassing = !address.flags.isDisjoint(with: [.deprecated, .temporary])
    return kind * 4 + (isPassing ? 2 : 0) + (address.ip.family == .v6 ? 1 : 0)
  }

  /// An IPv6 interface may have a dozen temporary addresses (RFC 8981); an address is to stay short enough to paste.
  private static let perInterface = 4
}

extension IPAddress {
  /// The same address, whatever link it is on.
  func isSameHost(as other: IPAddress) -> Bool { family == other.family && high == other.high && low == other.low }
}
