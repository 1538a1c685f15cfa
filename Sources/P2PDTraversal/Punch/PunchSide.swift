import P2PDNet

/// What one side of a TCP hole punch tells the other: how its routers treat TCP, and where it will be seen. Both sides
/// work out of the two values, each for itself, whether they may punch and who dials what when (``PunchPlan``).
public struct PunchSide: Hashable, Sendable {
  /// The ways out, the likeliest first: one for each interface and family.
  public var paths: [Path]

  public init(_ paths: [Path] = []) { self.paths = paths }

  /// One way out.
  public struct Path: Hashable, Sendable {
    public var family: AddressFamily
    /// For TCP. nil: not found out.
    public var mapping: NATBehaviour.Mapping?
    /// For TCP, or UDP's where only that is known: most routers filter both alike. nil: not found out.
    public var filtering: NATBehaviour.Filtering?
    public var allocation: PortAllocation?
    /// Whether two hosts behind this router reach each other by its outside address.
    public var hairpin: NATReport.Hairpin?
    /// The inside ports that are ready, in the order to use them.
    public var ports: [Port]

    public init(
      _ family: AddressFamily, mapping: NATBehaviour.Mapping? = nil, filtering: NATBehaviour.Filtering? = nil,
      allocation: PortAllocation? = nil, hairpin: NATReport.Hairpin? = nil, ports: [Port] = []
    ) {
      self.family = family
      self.mapping = mapping
      self.filtering = filtering
      self.allocation = allocation
      self.hairpin = hairpin
      self.ports = ports
    }
  }

  /// How one inside port is seen from outside.
  public struct Port: Hashable, Sendable {
    /// The one place it was measured at, or, predicted, the places of its next connections in their order.
    public var endpoints: [Endpoint]
    public var isPredicted: Bool

    public init(_ endpoints: [Endpoint], isPredicted: Bool = false) {
      self.endpoints = endpoints
      self.isPredicted = isPredicted
    }
  }

  /// The most that is told, and believed of a peer.
  public static let mostPaths = 4
  /// Three pairs of ports make a lost SYN harmless; more only cost.
  public static let mostPorts = 3
  /// A window of the next connections of a sequential router, with room for what others open meanwhile.
  public static let mostEndpoints = 8
}

extension PunchSide.Path {
  /// A peer that is dialled will be seen at the ports told: there is no translation, it is the same for all, or the next
  /// ports are predicted. nil: not found out.
  public var isKnown: Bool? {
    if ports.contains(where: \.isPredicted) { return true }
    return mapping?.isPredictable
  }

  /// Everybody may send in, once the mapping is there. nil: not found out.
  public var isOpen: Bool? { filtering.map { $0 == .none || $0 == .endpointIndependent } }

  /// Every place told.
  public var endpoints: [Endpoint] { ports.flatMap(\.endpoints) }
}

extension PunchSide {
  /// What may be used of what a peer told: no more than agreed, and only places that can be meant. Private and loopback
  /// addresses only where our own way out is seen with one of the same kind: then the two share that network.
  /// - Parameter ourselves: addresses of this machine, which no peer has.
  public func believed(by own: PunchSide, except ourselves: Set<IPAddress> = []) -> PunchSide {
    let seen = own.paths.flatMap(\.endpoints).map(\.ip)
    let ourselves = Set(ourselves.map(\.unscoped))
    let paths = paths.prefix(Self.mostPaths).map { path in
      var path = path
      path.ports = path.ports.prefix(Self.mostPorts).map { port in
        Port(
          port.endpoints.prefix(Self.mostEndpoints).filter {
            $0.isPlausible(in: path.family, seen) && !ourselves.contains($0.ip)
          },
          isPredicted: port.isPredicted)
      }
      return path
    }
    return PunchSide(paths)
  }
}

extension Endpoint {
  fileprivate func isPlausible(in family: AddressFamily, _ seen: [IPAddress]) -> Bool {
    guard port != 0, ip.family == family, ip.canBeDialled else { return false }
    return !ip.isPrivate || seen.contains { ip.isOfOneBlock(with: $0) }
  }
}

extension IPAddress {
  /// Both are private, of one block of such addresses; of IPv6 of one site (RFC 4193 §3.1).
  fileprivate func isOfOneBlock(with other: IPAddress) -> Bool {
    guard isPrivate, other.isPrivate, isLoopback == other.isLoopback else { return false }
    let bits =
      if family == .v6 { isLinkLocal ? 10 : 48 } else {
        switch high >> 56 {
        case 10, 127: 8
        case 100: 10
        case 172: 12
        default: 16
        }
      }
    return sharesPrefix(bits, with: other)
  }
}
