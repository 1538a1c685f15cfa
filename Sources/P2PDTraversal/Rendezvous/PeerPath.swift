import P2PDNet

/// One address of a node, and how it looks from outside: what two nodes that want to meet tell each other of themselves.
public struct PeerPath: Hashable, Sendable {
  /// Which of the node's interfaces, 0 to 15: equal numbers are the same interface.
  public var interface: UInt8
  /// The interface's own address, without scope, and the port the node listens on.
  public var local: Endpoint
  /// As others see it; port 0 where only the address is known. nil: not known.
  public var external: Endpoint?
  /// What the router forwards to the listening port, because it was asked to. nil: none.
  public var mapped: Endpoint?
  /// How the routers on the way treat it. nil: not measured.
  public var udp: NATWay?
  public var tcp: NATWay?

  public init(
    interface: UInt8, local: Endpoint, external: Endpoint? = nil, mapped: Endpoint? = nil, udp: NATWay? = nil,
    tcp: NATWay? = nil
  ) {
    self.interface = interface & 15
    self.local = Endpoint(ip: local.ip.unscoped, port: local.port)
    self.external = external
    self.mapped = mapped
    self.udp = udp
    self.tcp = tcp
  }

  public var family: AddressFamily { local.ip.family }
}

/// What is known of a router's ways with one transport. *nil* is not known.
public struct NATWay: Hashable, Sendable {
  public var mapping: NATBehaviour.Mapping?
  public var filtering: NATBehaviour.Filtering?
  public var allocation: PortAllocation?

  public init(
    mapping: NATBehaviour.Mapping? = nil, filtering: NATBehaviour.Filtering? = nil, allocation: PortAllocation? = nil
  ) {
    self.mapping = mapping
    self.filtering = filtering
    self.allocation = allocation
  }

  public init(_ behaviour: NATBehaviour) {
    self.init(mapping: behaviour.mapping, filtering: behaviour.filtering, allocation: behaviour.allocation)
  }
}

extension IPAddress {
  /// The same address, on whatever link.
  var unscoped: IPAddress { IPAddress(family: family, high: high, low: low) }
}
