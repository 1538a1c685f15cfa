/// rtnetlink's messages (netlink(7), rtnetlink(7); `linux/netlink.h`, `linux/rtnetlink.h`): bytes to values and back.
/// Pure: no socket, no clock. Numbers are in the host's byte order. Every read is checked against the bytes left, so a
/// damaged dump gives fewer records, never a trap.
///
///      0      4      6      8     12     16
///     +------+------+------+------+------+----------------------+---------------------------+- - -
///     | len  | type | flags| seq  | port | family's fixed header | attributes: len type data | next
///     +------+------+------+------+------+----------------------+---------------------------+- - -
enum NetlinkCodec {
  /// What a dump asks for; the raw value is the message type (`RTM_GET…`).
  enum Dump: UInt16, Sendable, CaseIterable {
    case links = 18
    case addresses = 22
    case routes = 26
  }

  struct Message: Hashable, Sendable {
    var sequence: UInt32
    /// The kernel's tables changed while this dump was being written; it must be asked again (`NLM_F_DUMP_INTR`).
    var isInterrupted: Bool
    var content: Content
  }

  enum Content: Hashable, Sendable {
    case link(LinkRecord)
    case address(AddressRecord)
    case route(RouteRecord)
    /// The end of a dump (`NLMSG_DONE`).
    case done
    /// The kernel refused the request with this error number; 0 is an acknowledgement (`NLMSG_ERROR`).
    case failed(Int32)
    /// Messages were lost (`NLMSG_OVERRUN`).
    case overrun
    /// A message of no interest here: its type.
    case other(UInt16)
    /// The rest of the bytes is no netlink message.
    case malformed
  }

  /// An interface (`RTM_NEWLINK`).
  struct LinkRecord: Hashable, Sendable {
    var index: UInt32
    var flags: UInt32
    var name = ""
    var hardwareAddress: [UInt8] = []
    var mtu: UInt32 = 0
    /// The driver's name for virtual kinds: "veth", "bridge", "wireguard"; empty for hardware.
    var kind = ""
  }

  /// An address of an interface (`RTM_NEWADDR`).
  struct AddressRecord: Hashable, Sendable {
    var family: AddressFamily
    var index: UInt32
    var prefixLength: UInt8
    var scope: UInt8
    var flags: UInt32
    /// The interface's own address.
    var ip: IPAddress
    /// The other end of a point-to-point link.
    var peer: IPAddress?
    var broadcast: IPAddress?
  }

  /// A route (`RTM_NEWROUTE`), or one next hop of a route that has several.
  struct RouteRecord: Hashable, Sendable {
    var family: AddressFamily
    var destinationLength: UInt8
    var table: UInt32
    var type: UInt8
    var flags: UInt32
    var metric: UInt32 = 0
    var interfaceIndex: UInt32 = 0
    var gateway: IPAddress?
    var preferredSource: IPAddress?
    /// RFC 4191 §2.1: 1 high, 0 medium, -1 low.
    var preference: Int8 = 0
  }

  /// A request for all links, addresses or routes of one family (nil: all families).
  static func request(_ dump: Dump, family: AddressFamily?, sequence: UInt32) -> [UInt8] {
    let headerCount = dump.fixedHeaderCount
    var bytes: [UInt8] = []
    append(UInt32(Layout.header + headerCount), to: &bytes)
    append(dump.rawValue, to: &bytes)
    append(Layout.flagRequest | Layout.flagDump, to: &bytes)
    append(sequence, to: &bytes)
    append(UInt32(0), to: &bytes)
    bytes.append(family.map { UInt8($0.raw) } ?? 0)
    bytes.append(contentsOf: repeatElement(0, count: headerCount - 1))
    return bytes
  }

  /// Every message of one datagram. A message that claims more bytes than there are ends the list with `.malformed`.
  static func messages(in datagram: [UInt8]) -> [Message] {
    var reader = NetlinkReader(datagram[...])
    var found: [Message] = []
    while reader.remaining >= Layout.header {
      guard let length = reader.u32(), let type = reader.u16(), let flags = reader.u16(), let sequence = reader.u32(),
        reader.skip(4), length >= UInt32(Layout.header), let body = reader.take(Int(length) - Layout.header)
      else {
        found.append(Message(sequence: 0, isInterrupted: false, content: .malformed))
        return found
      }
      reader.align()
      let interrupted = flags & Layout.flagInterrupted != 0
      for content in contents(type: type, body: body) {
        found.append(Message(sequence: sequence, isInterrupted: interrupted, content: content))
      }
    }
    if reader.remaining > 0 { found.append(Message(sequence: 0, isInterrupted: false, content: .malformed)) }
    return found
  }

  private static func contents(type: UInt16, body: NetlinkReader) -> [Content] {
    var body = body
    switch type {
    case Layout.typeDone:
      // A dump that failed half way says so in its last message.
      if let code = body.i32(), code < 0 { return [.failed(0 &- code)] }
      return [.done]
    case Layout.typeError: return [body.i32().map { .failed(0 &- $0) } ?? .malformed]
    case Layout.typeOverrun: return [.overrun]
    case Layout.typeNewLink: return [link(&body).map { .link($0) } ?? .malformed]
    case Layout.typeNewAddress: return [address(&body) ?? .malformed]
    case Layout.typeNewRoute: return routes(&body) ?? [.malformed]
    default: return [.other(type)]
    }
  }

  /// `struct ifinfomsg`: family(1) pad(1) type(2) index(4) flags(4) change(4).
  private static func link(_ body: inout NetlinkReader) -> LinkRecord? {
    guard body.skip(4), let index = body.u32(), let flags = body.u32(), body.skip(4), index != 0 else { return nil }
    var record = LinkRecord(index: index, flags: flags)
    while var attribute = body.attribute() {
      switch attribute.type {
      case 1: record.hardwareAddress = attribute.data.rest()  // IFLA_ADDRESS
      case 3: record.name = attribute.data.text()  // IFLA_IFNAME
      case 4: record.mtu = attribute.data.u32() ?? 0  // IFLA_MTU
      case 18:  // IFLA_LINKINFO
        while let nested = attribute.data.attribute() {
          if nested.type == 1 { record.kind = nested.data.text() }  // IFLA_INFO_KIND
        }
      default: break
      }
    }
    return record
  }

  /// `struct ifaddrmsg`: family(1) prefix length(1) flags(1) scope(1) index(4).
  private static func address(_ body: inout NetlinkReader) -> Content? {
    guard let rawFamily = body.u8(), let length = body.u8(), let shortFlags = body.u8(), let scope = body.u8(),
      let index = body.u32()
    else { return nil }
    guard let family = AddressFamily(raw: rawFamily) else { return .other(Layout.typeNewAddress) }
    var flags = UInt32(shortFlags)
    var local: IPAddress?
    var given: IPAddress?
    var broadcast: IPAddress?
    while var attribute = body.attribute() {
      switch attribute.type {
      case 1: given = attribute.data.ip(family, scopeID: index)  // IFA_ADDRESS
      case 2: local = attribute.data.ip(family, scopeID: index)  // IFA_LOCAL
      case 4: broadcast = attribute.data.ip(family, scopeID: index)  // IFA_BROADCAST
      case 8: flags = attribute.data.u32() ?? flags  // IFA_FLAGS: the 32 bits the header has no room for
      default: break
      }
    }
    // On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL ours (linux/if_addr.h).
    guard let ip = local ?? given else { return nil }
    let bits: UInt8 = family == .v4 ? 32 : 128
    return .address(
      AddressRecord(
        family: family, index: index, prefixLength: min(length, bits), scope: scope, flags: flags, ip: ip,
        peer: given == ip ? nil : given, broadcast: broadcast))
  }

  /// `struct rtmsg`: family(1) dst_len(1) src_len(1) tos(1) table(1) protocol(1) scope(1) type(1) flags(4).
  private static func routes(_ body: inout NetlinkReader) -> [Content]? {
    guard let rawFamily = body.u8(), let length = body.u8(), body.skip(2), let table = body.u8(), body.skip(2),
      let type = body.u8(), let flags = body.u32()
    else { return nil }
    guard let family = AddressFamily(raw: rawFamily) else { return [.other(Layout.typeNewRoute)] }
    var record = RouteRecord(
      family: family, destinationLength: length, table: UInt32(table), type: type, flags: flags)
    var hops: NetlinkReader?
    while var attribute = body.attribute() {
      switch attribute.type {
      case 4: record.interfaceIndex = attribute.data.u32() ?? 0  // RTA_OIF
      case 6: record.metric = attribute.data.u32() ?? 0  // RTA_PRIORITY
      case 7: record.preferredSource = attribute.data.ip(family, scopeID: 0)  // RTA_PREFSRC
      case 9: hops = attribute.data  // RTA_MULTIPATH
      case 15: record.table = attribute.data.u32() ?? record.table  // RTA_TABLE
      case 20: record.preference = preference(attribute.data.u8() ?? 0)  // RTA_PREF
      default: readGateway(&attribute, family, into: &record.gateway)
      }
    }
    guard var hops else { return [.route(record.scoped)] }
    var contents: [Content] = []
    // `struct rtnexthop`: len(2) flags(1) hops(1) ifindex(4), then its own attributes.
    while hops.remaining >= 8, let length = hops.u16(), let hopFlags = hops.u8(), hops.skip(1), let index = hops.u32(),
      length >= 8, var attributes = hops.take(Int(length) - 8)
    {
      hops.align()
      var hop = record
      hop.interfaceIndex = index
      hop.flags |= UInt32(hopFlags)
      while var attribute = attributes.attribute() { readGateway(&attribute, family, into: &hop.gateway) }
      contents.append(.route(hop.scoped))
    }
    return contents
  }

  private static func readGateway(
    _ attribute: inout NetlinkReader.Attribute, _ family: AddressFamily, into gateway: inout IPAddress?
  ) {
    switch attribute.type {
    case 5: gateway = attribute.data.ip(family, scopeID: 0)  // RTA_GATEWAY
    case 18:  // RTA_VIA: an IPv4 route through an IPv6 router (RFC 5549): family(2), address
      guard let raw = attribute.data.u16(), let via = AddressFamily(raw: UInt8(truncatingIfNeeded: raw)) else { return }
      gateway = attribute.data.ip(via, scopeID: 0)
    default: break
    }
  }

  /// RFC 4191 §2.1: 01 high, 00 medium, 11 low; 10 is reserved and read as medium.
  private static func preference(_ raw: UInt8) -> Int8 { raw == 1 ? 1 : raw == 3 ? -1 : 0 }

  private static func append<T: FixedWidthInteger>(_ number: T, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
  }

  /// The numbers of `linux/netlink.h` and `linux/rtnetlink.h`.
  enum Layout {
    static let header = 16
    static let typeError: UInt16 = 2
    static let typeDone: UInt16 = 3
    static let typeOverrun: UInt16 = 4
    static let typeNewLink: UInt16 = 16
    static let typeNewAddress: UInt16 = 20
    static let typeNewRoute: UInt16 = 24
    static let flagRequest: UInt16 = 0x1
    static let flagInterrupted: UInt16 = 0x10
    static let flagDump: UInt16 = 0x300
  }
}

extension NetlinkCodec.Dump {
  /// Bytes of `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtmsg`.
  fileprivate var fixedHeaderCount: Int {
    switch self {
    case .links: 16
    case .addresses: 8
    case .routes: 12
    }
  }
}

extension NetlinkCodec.RouteRecord {
  /// The same record with a link-local router tied to the interface it is reached through (RFC 4007 §6).
  fileprivate var scoped: Self {
    guard var router = gateway, router.family == .v6, router.isLinkLocal else { return self }
    router.scopeID = interfaceIndex
    var record = self
    record.gateway = router
    return record
  }
}

extension AddressFamily {
  /// The kernel's number of the family in a netlink header.
  fileprivate init?(raw: UInt8) {
    guard let family = AddressFamily.allCases.first(where: { $0.raw == Int32(raw) }) else { return nil }
    self = family
  }
}
