import NIOCore
import P2PDNet

/// The three ways to ask a router for a port, the one to prefer first.
public enum PortMappingProtocol: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  /// RFC 6887.
  case pcp
  /// RFC 6886.
  case natpmp
  /// UPnP's Internet gateway device, versions 1 and 2.
  case upnp

  /// As people write it.
  public var description: String {
    switch self {
    case .pcp: "PCP"
    case .natpmp: "NAT-PMP"
    case .upnp: "UPnP"
    }
  }
}

/// A way out whose router may be asked: one address of ours, and the router before it.
public struct PortMappingPath: Hashable, Sendable, CustomStringConvertible {
  public let interface: String
  /// The address whose port is opened; requests are sent from it.
  public let local: IPAddress
  public let gateway: IPAddress

  public init(interface: String, local: IPAddress, gateway: IPAddress) {
    self.interface = interface
    self.local = local
    self.gateway = gateway
  }

  public var family: AddressFamily { local.family }
  public var description: String { "\(interface) \(local) by \(gateway)" }
}

/// A port of this host that a router keeps open to the outside: a mapping, or over IPv6 a hole in its firewall.
public struct PortMapping: Hashable, Sendable {
  public var path: PortMappingPath
  public var transport: PipeProto
  public var internalPort: UInt16
  /// Where the outside reaches it.
  public var external: Endpoint
  /// How long the router gave it; nil: until it is taken away (a router that knows no other kind).
  public var lifetime: TimeAmount?
  /// Who gave it.
  public var by: PortMappingProtocol
  public var trust: Trust

  /// Whether others can be told of it.
  public enum Trust: Hashable, Sendable {
    /// STUN servers see this host under the mapping's address.
    case verified
    /// No STUN server has said anything yet.
    case unverified
    /// The router's own outside address is a private one: it stands behind another translation.
    case privateAddress
    /// STUN servers see this host elsewhere: another translation lies beyond, or the router is wrong.
    case contradicted(by: IPAddress)
    /// No address that anybody could have: a wildcard, loopback, multicast.
    case impossible
  }

  /// May be told to others.
  public var isTrusted: Bool { trust == .verified || trust == .unverified }

  /// Why others are not told of it; nil where they are.
  public var distrust: String? {
    switch trust {
    case .verified, .unverified: nil
    case .privateAddress where external.ip.isShared:
      "the router's outside address \(external.ip) is a provider's own: the provider translates addresses beyond it"
    case .privateAddress:
      "the router's outside address \(external.ip) is private: another router translates addresses beyond it"
    case .contradicted(let seen):
      "the router says its outside address is \(external.ip), but from outside this host is seen as \(seen)"
    case .impossible: "the router says its outside address is \(external.ip), which is none"
    }
  }

  /// What is to be thought of an external address.
  /// - Parameter seen: the addresses under which STUN servers see this path.
  static func trust(_ external: IPAddress, seen: [IPAddress]) -> Trust {
    if external.isWildcard || external.isLoopback || external.isMulticast || external.isBroadcast { return .impossible }
    if external.isPrivate { return .privateAddress }
    guard let first = seen.first else { return .unverified }
    return seen.contains(external) ? .verified : .contradicted(by: first)
  }
}

/// What came of asking one router, for people.
public struct PortMappingFinding: Hashable, Sendable {
  public var path: PortMappingPath
  /// What each protocol came to.
  public var answers: [PortMappingProtocol: Answer] = [:]
  /// The router's own name for itself, as UPnP tells it: cleaned, at most 80 characters.
  public var router: String?
  /// Whether the search is over, for now.
  public var isSettled = false

  public enum Answer: Hashable, Sendable {
    /// Asked, and nothing has come yet.
    case silent
    /// It is there.
    case answered
    /// It gave the mapping.
    case granted
    /// It answered that it does not, and why.
    case refused(String)
  }
}
