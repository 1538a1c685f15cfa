import NIOCore
import P2PDNet

/// What a node is started with. Everything has a default.
public struct NodeConfiguration: Sendable {
  /// Where the key and the port are kept; nil takes ``StateFolder/defaultPath``. Not used when ``ephemeral``.
  public var stateDirectory: String?
  /// A key for this run only; nothing is written.
  public var ephemeral = false
  /// The port to listen on; nil: the one of the last start, or a random one the first time. 0: any that is free, not
  /// kept.
  public var port: UInt16?
  /// Addresses to listen on; nil: every interface, both families.
  public var listen: [IPAddress]?
  /// Names of the interfaces whose addresses go into the node's address; nil: all that are up.
  public var interfaces: [String]?
  /// Contacts no server, whatever ``servers`` has.
  public var offline = false
  /// Whom the node asks how it looks from outside, and at which brokers and relays it can be reached. Empty: nobody;
  /// ``ServerList/publicServers`` is a list for those who host none.
  public var servers = ServerList()
  /// PEM file or folder of the roots that the servers' certificates are checked against; nil takes the machine's.
  public var caFile: String?
  /// Whether the routers before the node are asked to open its port (PCP, NAT-PMP, UPnP); nil: where it asks servers.
  /// Never while ``offline``.
  public var portMapping: Bool?
  public var limits = AcceptLimits()
  /// How a silent peer is found dead; nil leaves it to the kernel.
  public var keepAlive: KeepAlive? = KeepAlive()
  /// The largest message between nodes, in bytes.
  public var maxMessage = 16 << 20

  public init() {}
}

extension NodeConfiguration {
  /// It listens at loopback addresses alone, where nobody but this machine comes.
  public var isForThisMachine: Bool { listen.map { !$0.isEmpty && $0.allSatisfy(\.isLoopback) } ?? false }

  /// What a node makes of it: one for this machine alone asks no server elsewhere how to be reached, and no router to open
  /// its port. Servers on this machine stay.
  public var effective: NodeConfiguration {
    guard isForThisMachine else { return self }
    var narrowed = self
    narrowed.servers = servers.onThisMachine
    narrowed.portMapping = false
    return narrowed
  }
}
