import P2PDNet

/// Where a node can be reached, as one token that its key has signed: `p2pd1…`. The bytes are drawn in
/// NodeAddress+Codec.swift.
///
/// It tells whoever holds it the node's key, its interfaces' addresses and, once known, their outside addresses and
/// how their router maps ports. It names no interface and carries no machine id. Equal tokens are equal addresses.
public struct NodeAddress: Hashable, Sendable, CustomStringConvertible {
  /// Whose address it is; pipes to it are verified against this key.
  public let key: NodeKey
  /// When it was made, in seconds since 1970 (UTC), by the clock of the node that made it. A later one replaces an
  /// earlier one.
  public let issued: UInt32
  /// How to get there, in the node's own order of preference.
  public let routes: [NodeRoute]
  /// The brokers through which the node can be told something before there is a path to it.
  public let signalling: [SignalServer]
  /// The token.
  public let description: String

  public static func == (a: NodeAddress, b: NodeAddress) -> Bool { a.description == b.description }
  public func hash(into hasher: inout Hasher) { hasher.combine(description) }

  init(key: NodeKey, issued: UInt32, routes: [NodeRoute], signalling: [SignalServer], text: String) {
    self.key = key
    self.issued = issued
    self.routes = routes
    self.signalling = signalling
    description = text
  }

  /// The characters of the longest token.
  public static let maximumLength = 1024
  public static let maximumRoutes = 16
  public static let maximumServers = 8
}

/// One address of one of the node's interfaces, and how it looks from outside.
public struct NodeRoute: Hashable, Sendable {
  /// Which of the node's interfaces, 0 to 15: equal numbers are the same interface, no more is told.
  public let interface: UInt8
  /// The interface's own address, without scope: a link-local address holds on whatever link both sides share.
  public let nic: IPAddress
  /// The port the node listens on there.
  public let port: UInt16
  public let external: ExternalAddress
  /// nil: not measured.
  public let nat: NATFacts?

  public init(
    interface: UInt8, nic: IPAddress, port: UInt16, external: ExternalAddress = .unknown, nat: NATFacts? = nil
  ) {
    self.interface = interface & 15
    self.nic = IPAddress(family: nic.family, high: nic.high, low: nic.low)
    self.port = port
    self.external = external
    self.nat = nat
  }

  public var family: AddressFamily { nic.family }
}

/// How a route looks from outside. *Unknown* is not *none*.
public enum ExternalAddress: Hashable, Sendable {
  case unknown
  /// It was asked for, and this path has none: no way out.
  case none
  /// Seen by others as this address; the port is 0 where only the address is known.
  case at(Endpoint)
}

/// How the router before a route treats its connections, in P2PD's numbers; 0 is *unknown* in both.
public struct NATFacts: Hashable, Sendable {
  public let type: NATType
  public let delta: DeltaType
  /// What `delta` counts, in ports.
  public let value: Int32

  public init(type: NATType, delta: DeltaType, value: Int32) {
    self.type = type
    self.delta = delta
    self.value = value
  }
}

/// P2PD's NAT types under their numbers. A later version's number reads as unknown.
public enum NATType: UInt8, Hashable, Sendable, CaseIterable {
  case unknown = 0
  case open, udpFirewall, fullCone, restricted, portRestricted, symmetric, blocked
}

/// How the outside port follows from the inside one, P2PD's numbers. A later version's number reads as unknown.
public enum DeltaType: UInt8, Hashable, Sendable, CaseIterable {
  case unknown = 0
  case none, equal, preserved, independent, dependent, random
}

/// A broker that carries sealed messages to the node.
public struct SignalServer: Hashable, Sendable {
  /// A name, or an address in text.
  public let host: String
  public let port: UInt16
  public let tls: Bool

  public init(host: String, port: UInt16, tls: Bool) {
    self.host = host
    self.port = port
    self.tls = tls
  }
}

/// Why a string is not an address one can use.
public enum NodeAddressError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Does not begin with `p2pd`.
  case notAnAddress
  /// Begins as one, in a version this program does not know: the character after `p2pd`, 0 to 9 or a to z.
  case unknownVersion(Character)
  /// Longer than ``NodeAddress/maximumLength``; the number is its length.
  case tooLong(Int)
  /// Characters are missing, foreign or changed: it was cut or mistyped.
  case damaged
  /// Whole, but not signed by the key it names.
  case badSignature
  /// Signed, and yet not what an address may hold; the string names the field.
  case malformed(String)

  public var description: String {
    switch self {
    case .notAnAddress: "not a node address: it does not begin with p2pd1"
    case .unknownVersion(let version):
      "a node address of version \(version), and this program knows version 1 only; a newer p2pd-lua may read it"
    case .tooLong(let length):
      "not a node address: \(length) characters, at most \(NodeAddress.maximumLength) are allowed"
    case .damaged: "a damaged node address: characters are missing or changed; copy it again as a whole"
    case .badSignature: "a forged node address: its signature is not by the key it names"
    case .malformed(let field): "a malformed node address: \(field)"
    }
  }

  /// The same for callers that know the network's errors only.
  public var netError: NetError { NetError(.badAddress, "read the node address", cause: description) }
}
