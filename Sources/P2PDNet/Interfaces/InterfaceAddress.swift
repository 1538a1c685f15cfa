/// One address of an interface, with what the kernel knows about it.
public struct InterfaceAddress: Hashable, Sendable, CustomStringConvertible {
  /// How far the address is valid (rtnetlink(7), `RT_SCOPE_…`).
  public enum Scope: String, Sendable {
    case global, site, link, host, nowhere
  }

  /// The kernel's marks on an address (`linux/if_addr.h`). All but `permanent` and `secondary` are IPv6 only.
  public struct Flags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// An IPv4 address in a subnet in which the interface already has one.
    public static let secondary = Flags(rawValue: 1 << 0)
    /// A privacy address that will be replaced (RFC 8981).
    public static let temporary = Flags(rawValue: 1 << 1)
    /// Not for new connections (RFC 4862 §5.5.4).
    public static let deprecated = Flags(rawValue: 1 << 2)
    /// Not proven unique yet, so it cannot be bound (RFC 4862 §5.4).
    public static let tentative = Flags(rawValue: 1 << 3)
    /// Another host has it (RFC 4862 §5.4.5).
    public static let duplicate = Flags(rawValue: 1 << 4)
    /// Set by hand: it has no lifetime.
    public static let permanent = Flags(rawValue: 1 << 5)
  }

  /// The address; a link-local IPv6 address carries its interface's index as scope id.
  public let ip: IPAddress
  /// Bits of the address that name the subnet.
  public let prefixLength: Int
  /// The other end of a point-to-point link.
  public let peer: IPAddress?
  /// The subnet's broadcast address, IPv4 only.
  public let broadcast: IPAddress?
  /// How far it is valid.
  public let scope: Scope
  /// What else the kernel knows about it.
  public let flags: Flags

  /// An address put together by hand.
  public init(
    ip: IPAddress, prefixLength: Int, peer: IPAddress? = nil, broadcast: IPAddress? = nil, scope: Scope = .global,
    flags: Flags = []
  ) {
    self.ip = ip
    self.prefixLength = prefixLength
    self.peer = peer
    self.broadcast = broadcast
    self.scope = scope
    self.flags = flags
  }

  /// True when a socket can be bound to the address now.
  public var isUsable: Bool { flags.isDisjoint(with: [.tentative, .duplicate]) }

  /// `192.0.2.2/24`, `fe80::1%eth0/64`.
  public var description: String { "\(ip)/\(prefixLength)" }
}

extension InterfaceAddress {
  init(_ record: NetlinkCodec.AddressRecord) {
    var flags: Flags = []
    func mark(_ bit: UInt32, _ flag: Flags) { if record.flags & bit != 0 { flags.insert(flag) } }
    // IFA_F_SECONDARY and IFA_F_TEMPORARY are one bit that each family reads its own way.
    mark(0x01, record.family == .v4 ? .secondary : .temporary)
    mark(0x08, .duplicate)
    mark(0x20, .deprecated)
    mark(0x40, .tentative)
    mark(0x80, .permanent)
    // IFA_F_OPTIMISTIC: usable while it is being proven (RFC 4429).
    if record.flags & 0x04 != 0 { flags.remove(.tentative) }
    let scope: Scope =
      switch record.scope {
      case 0..<200: .global
      case 200..<253: .site
      case 253: .link
      case 254: .host
      default: .nowhere
      }
    self.init(
      ip: record.ip, prefixLength: Int(record.prefixLength), peer: record.peer, broadcast: record.broadcast,
      scope: scope, flags: flags)
  }
}
