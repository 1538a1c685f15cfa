import NIOCore
import P2PDNet

/// How the router before one path treats it: one interface, one family. What was not found out is nil: *unknown* is not
/// *no*.
public struct NATReport: Hashable, Sendable {
  /// The interface's name.
  public var interface: String
  public var family: AddressFamily
  /// The interface's own address that was measured from.
  public var local: IPAddress
  /// UDP and TCP may be treated each in their own way.
  public var udp = NATBehaviour()
  public var tcp = NATBehaviour()
  /// Whether two hosts behind the router reach each other by its outside address (RFC 4787 §6).
  public var hairpin: Hairpin?
  /// Whether the provider translates addresses as well (RFC 6888). Seen by an address of 100.64.0.0/10 only; that there
  /// is none cannot be seen from here.
  public var carrierNAT: Bool?
  /// The round trip to the nearest server.
  public var roundTrip: TimeAmount?
  /// Whether everything that can be measured has been.
  public var isComplete = false
  /// What each server said, or why it said nothing, in the order asked.
  public var servers: [ServerFinding] = []

  public init(interface: String, family: AddressFamily, local: IPAddress) {
    self.interface = interface
    self.family = family
    self.local = local
  }

  public enum Hairpin: String, Hashable, Sendable {
    case no
    /// And the receiver sees the outside address, as it must (RFC 4787 REQ-9).
    case externalSource = "external"
    /// The receiver sees the inside address.
    case internalSource = "internal"
  }

  /// One server's part.
  public struct ServerFinding: Hashable, Sendable {
    public var server: Endpoint
    public var transport: PipeProto
    /// Over TLS.
    public var isTLS = false
    /// It is the second address that another server names for itself.
    public var isSecond = false
    /// What it saw; nil where it did not answer.
    public var mapped: Endpoint?
    public var roundTrip: TimeAmount?
    /// Why it did not answer, or was not believed.
    public var problem: String?

    /// "udp", "tcp" or "tls".
    public var means: String { isTLS ? "tls" : transport.rawValue }
  }

  /// The addresses under which the Internet sees this path, the likeliest first.
  public var external: [IPAddress] {
    var seen: Set<IPAddress> = []
    return (udp.mapped + tcp.mapped).map(\.ip).filter { seen.insert($0).inserted }
  }

  /// Anything at all was found out about the way outside.
  public var hasAnswer: Bool { udp.reach == .answered || tcp.reach == .answered }
}

/// How one transport of a path is treated.
public struct NATBehaviour: Hashable, Sendable {
  public var reach: Reach?
  public var mapping: Mapping?
  public var filtering: Filtering?
  public var allocation: PortAllocation?
  /// The outside endpoints seen of the last mapping measured: one, unless the mapping depends on whom is spoken to. The
  /// one most servers agree on comes first.
  public var mapped: [Endpoint] = []

  public init() {}

  public enum Reach: String, Hashable, Sendable {
    /// Servers answered.
    case answered
    /// None did, while over the other transport some did.
    case blocked
    /// Nothing answered, whatever the transport: offline, or everything is blocked.
    case silent
  }

  /// Which outside port a peer will see (RFC 4787 §4.1, RFC 5382 REQ-1).
  public enum Mapping: String, Hashable, Sendable {
    /// No translation.
    case none
    /// The same for everybody: EIM.
    case endpointIndependent = "endpoint_independent"
    /// Another for each address spoken to: ADM.
    case addressDependent = "address_dependent"
    /// Another for each address and port: APDM.
    case addressAndPortDependent = "address_and_port_dependent"
    /// ADM or APDM: no server offered what tells them apart.
    case endpointDependent = "endpoint_dependent"

    /// What STUN tells is what a peer will see.
    public var isPredictable: Bool { self == .none || self == .endpointIndependent }
  }

  /// Who may send in by a mapping (RFC 4787 §5, RFC 5382 REQ-3).
  public enum Filtering: String, Hashable, Sendable {
    /// Everybody, and there is no translation either.
    case none
    /// Everybody: EIF.
    case endpointIndependent = "endpoint_independent"
    /// Every address that was sent to: ADF.
    case addressDependent = "address_dependent"
    /// Every address and port that was sent to: APDF.
    case addressAndPortDependent = "address_and_port_dependent"
  }
}

extension NATReport {
  /// P2PD's NAT type, which knows one transport: UDP. 0 is unknown.
  public var p2pdType: UInt8 {
    switch udp.reach {
    case nil, .silent?: return 0
    case .blocked?: return 7
    case .answered?: break
    }
    switch (udp.mapping, udp.filtering) {
    case (.none?, Optional.none), (nil, _): return 0
    case (.none?, .none?), (.none?, .endpointIndependent?): return 1
    case (.none?, _): return 2
    case (.endpointIndependent?, .endpointIndependent?), (.endpointIndependent?, NATBehaviour.Filtering.none?): return 3
    case (.endpointIndependent?, .addressDependent?): return 4
    // The strictest is assumed until it is known; no connection waits for it.
    case (.endpointIndependent?, _): return 5
    default: return 6
    }
  }

  /// P2PD's delta type and value: 0 unknown, 1 no delta applies, 2 equal, 3 preserved, 4 independent, 6 random.
  public var p2pdDelta: (type: UInt8, value: Int) {
    if udp.reach == .blocked { return (1, 0) }
    switch udp.allocation {
    case nil: return (0, 0)
    case .preserving?: return (2, 0)
    case .offset(let distance)?: return (3, distance)
    case .sequential(let step, _)?: return (4, step)
    case .random?: return (6, 0)
    }
  }
}
