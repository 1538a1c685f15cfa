/// A network interface of this host as it was when it was read: a value, which later changes do not touch.
public struct NetworkInterface: Hashable, Sendable, CustomStringConvertible {
  /// The kernel's marks on an interface (netdevice(7), `IFF_…`).
  public struct Flags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Switched on by the administrator.
    public static let up = Flags(rawValue: 0x1)
    /// Its network has broadcast addresses.
    public static let broadcast = Flags(rawValue: 0x2)
    /// Reaches this host alone.
    public static let loopback = Flags(rawValue: 0x8)
    /// Has one other end, like a tunnel.
    public static let pointToPoint = Flags(rawValue: 0x10)
    /// Has a carrier: packets can pass.
    public static let running = Flags(rawValue: 0x40)
    /// Takes multicast packets.
    public static let multicast = Flags(rawValue: 0x1000)

    static let known: Flags = [.up, .broadcast, .loopback, .pointToPoint, .running, .multicast]
  }

  /// `eth0`.
  public let name: String
  /// The kernel's number of the interface, which is also the scope id of its link-local addresses.
  public let index: UInt32
  /// The link layer's address: six bytes on Ethernet, none on most tunnels.
  public let hardwareAddress: [UInt8]
  /// The largest packet in bytes.
  public let mtu: Int
  /// What it can do and whether it is on.
  public let flags: Flags
  /// What a virtual interface is made of ("veth", "bridge", "wireguard"); empty for hardware.
  public let kind: String
  /// Every address in the kernel's order, those that cannot be bound yet included.
  public let addresses: [InterfaceAddress]

  /// An interface put together by hand, as tests and other sources than the kernel do.
  public init(
    name: String, index: UInt32, hardwareAddress: [UInt8] = [], mtu: Int = 1500, flags: Flags = [.up, .running],
    kind: String = "", addresses: [InterfaceAddress] = []
  ) {
    self.name = name
    self.index = index
    self.hardwareAddress = hardwareAddress
    self.mtu = mtu
    self.flags = flags
    self.kind = kind
    self.addresses = addresses
  }

  /// `02:fc:00:00:00:01`; nil where the interface has no hardware address.
  public var mac: String? {
    guard hardwareAddress.contains(where: { $0 != 0 }) else { return nil }
    return hardwareAddress.map { byte in
      let text = String(byte, radix: 16)
      return byte < 16 ? "0" + text : text
    }.joined(separator: ":")
  }

  /// Switched on and with a carrier.
  public var isUp: Bool { flags.isSuperset(of: [.up, .running]) }
  /// Reaches this host alone.
  public var isLoopback: Bool { flags.contains(.loopback) }

  /// The families in which a socket can be bound to an address of this interface, link-local ones included.
  public var supported: [AddressFamily] {
    AddressFamily.allCases.filter { family in addresses.contains { $0.ip.family == family && $0.isUsable } }
  }

  /// True when a socket of the family can be bound to an address of this interface.
  public func supports(_ family: AddressFamily) -> Bool { supported.contains(family) }

  /// The name.
  public var description: String { name }
}

extension NetworkInterface {
  /// Every interface of this host by index, loopback and interfaces that are down included.
  /// - Throws: `NetError` with the kernel's reason where it gives no list.
  public static func list() throws(NetError) -> [NetworkInterface] { try NetworkSnapshot.interfacesAlone().interfaces }

  /// The interface of that name.
  /// - Throws: `.badAddress`, naming those that exist, where there is none.
  public static func named(_ name: String) throws(NetError) -> NetworkInterface {
    try NetworkSnapshot.interfacesAlone().interface(named: name)
  }

  /// The interface that packets to the Internet leave by.
  /// - Throws: `.unreachable` where the family has no default route.
  public static func defaultInterface(_ family: AddressFamily) throws(NetError) -> NetworkInterface {
    try NetworkSnapshot.current().defaultInterface(family)
  }

  /// The interface to use where none is named: see ``NetworkSnapshot/preferredInterface()``.
  public static func preferred() throws(NetError) -> NetworkInterface {
    try NetworkSnapshot.current().preferredInterface()
  }
}

extension NetworkInterface {
  init(_ link: NetlinkCodec.LinkRecord, addresses: [InterfaceAddress]) {
    self.init(
      name: link.name, index: link.index, hardwareAddress: link.hardwareAddress, mtu: Int(link.mtu),
      flags: Flags(rawValue: link.flags).intersection(.known), kind: link.kind, addresses: addresses)
  }
}
