/// Something that changed about this host's interfaces.
public enum InterfaceEvent: Hashable, Sendable, CustomStringConvertible {
  case added(NetworkInterface)
  case removed(NetworkInterface)
  /// Its name, flags, MTU or hardware address are others than before.
  case changed(NetworkInterface, from: NetworkInterface)
  /// An address that can be bound; one that is still being proven unique is reported when it has been.
  case addressAdded(InterfaceAddress, NetworkInterface)
  /// An address that can no longer be bound.
  case addressRemoved(InterfaceAddress, NetworkInterface)
  /// The address became deprecated, or has another prefix.
  case addressChanged(InterfaceAddress, from: InterfaceAddress, NetworkInterface)
  /// Packets to the Internet take another way, or have one or none now (nil).
  case defaultRouteChanged(AddressFamily, from: DefaultRoute?, to: DefaultRoute?)

  public var description: String {
    switch self {
    case .added(let interface): "\(interface) is new"
    case .removed(let interface): "\(interface) is gone"
    case .changed(let interface, let old):
      interface.name != old.name ? "\(old) is now named \(interface)" : "\(interface) changed"
    case .addressAdded(let address, let interface): "\(interface) has the address \(address)"
    case .addressRemoved(let address, let interface): "\(interface) lost the address \(address)"
    case .addressChanged(let address, _, let interface): "\(interface)'s address \(address) changed"
    case .defaultRouteChanged(let family, _, let to):
      if let to {
        "the \(family) default route leaves by interface \(to.interfaceIndex)"
          + (to.gateway.map { " to \($0)" } ?? "")
      } else {
        "there is no \(family) default route"
      }
    }
  }
}

/// Compares two readings of the kernel's tables.
public enum InterfaceChanges {
  /// What happened between the two: first what went, then what came, default routes last. The addresses of an
  /// interface that came or went are reported as well, so whoever cares for addresses alone needs no other event.
  /// An interface is the same one while its index is.
  public static func between(_ old: NetworkSnapshot, _ new: NetworkSnapshot) -> [InterfaceEvent] {
    let before = Dictionary(old.interfaces.map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first })
    let after = Dictionary(new.interfaces.map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first })
    var gone: [InterfaceEvent] = []
    var came: [InterfaceEvent] = []
    for interface in old.interfaces {
      let now = after[interface.index]
      let kept = Set(now?.usable.map(\.ip) ?? [])
      for address in interface.usable where !kept.contains(address.ip) {
        gone.append(.addressRemoved(address, now ?? interface))
      }
      if now == nil { gone.append(.removed(interface)) }
    }
    for interface in new.interfaces {
      let then = before[interface.index]
      if let then {
        if !interface.hasSameLink(as: then) { came.append(.changed(interface, from: then)) }
      } else {
        came.append(.added(interface))
      }
      let known = Dictionary((then?.usable ?? []).map { ($0.ip, $0) }, uniquingKeysWith: { first, _ in first })
      for address in interface.usable {
        guard let same = known[address.ip] else {
          came.append(.addressAdded(address, interface))
          continue
        }
        if same != address { came.append(.addressChanged(address, from: same, interface)) }
      }
    }
    for family in AddressFamily.allCases where old.defaultRoutes[family] != new.defaultRoutes[family] {
      came.append(
        .defaultRouteChanged(family, from: old.defaultRoutes[family], to: new.defaultRoutes[family]))
    }
    return gone + came
  }
}

extension NetworkInterface {
  fileprivate var usable: [InterfaceAddress] { addresses.filter(\.isUsable) }

  fileprivate func hasSameLink(as other: NetworkInterface) -> Bool {
    name == other.name && flags == other.flags && mtu == other.mtu && hardwareAddress == other.hardwareAddress
      && kind == other.kind
  }
}
