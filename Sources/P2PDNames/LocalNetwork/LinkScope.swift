import P2PDNet

/// Where multicast DNS is spoken and who counts as a neighbour (RFC 6762 §3, §11).
extension LocalNetwork {
  /// 224.0.0.251, ff02::fb.
  static func group(_ family: AddressFamily, on interface: NetworkInterface) -> IPAddress {
    switch family {
    case .v4: IPAddress(family: .v4, high: 0xe000_00fb << 32, low: 0)
    case .v6: IPAddress(family: .v6, high: 0xff02 << 48, low: 0xfb, scopeID: interface.index)
    }
  }

  /// Whether it is spoken there: a LAN that is up. Tunnels and this host alone are none, unless they are named.
  static func isUsed(_ interface: NetworkInterface, names: [String]?) -> Bool {
    guard interface.isUp, !interface.supported.isEmpty else { return false }
    if let names { return names.contains(interface.name) }
    return interface.flags.contains(.multicast) && interface.flags.isDisjoint(with: [.loopback, .pointToPoint])
  }

  /// Whether a packet that came in there is from the link itself: nobody else is believed (RFC 6762 §11).
  static func isNeighbour(_ ip: IPAddress, on interface: NetworkInterface) -> Bool {
    if ip.isMulticast || ip.isWildcard || ip.isBroadcast { return false }
    if ip.isLoopback { return interface.isLoopback }
    if ip.family == .v6, ip.isLinkLocal { return ip.scopeID == 0 || ip.scopeID == interface.index }
    if ip.isLinkLocal { return true }
    return interface.addresses.contains { $0.ip.family == ip.family && $0.ip.sharesPrefix($0.prefixLength, with: ip) }
  }
}
