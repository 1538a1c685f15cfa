import Glibc

/// The two families of the Internet protocol.
public enum AddressFamily: UInt8, Sendable, CaseIterable, CustomStringConvertible {
  case v4 = 4
  case v6 = 6

  /// The kernel's number of the family (`AF_INET`, `AF_INET6`).
  public var raw: Int32 { self == .v4 ? AF_INET : AF_INET6 }

  public var description: String { self == .v4 ? "IPv4" : "IPv6" }
}

/// An IPv4 or IPv6 address as 16 bytes in network order (IPv4 in the first four), with the scope id that a
/// link-local IPv6 address means nothing without (RFC 4007 §6).
public struct IPAddress: Hashable, Sendable {
  public let family: AddressFamily
  /// The first eight bytes, big end first; an IPv4 address fills the upper half.
  public let high: UInt64
  /// The last eight bytes of an IPv6 address, 0 for IPv4.
  public let low: UInt64
  /// The interface index a link-local IPv6 address belongs to; 0 elsewhere.
  public var scopeID: UInt32

  public init(family: AddressFamily, high: UInt64, low: UInt64, scopeID: UInt32 = 0) {
    self.family = family
    self.high = family == .v4 ? high & 0xffff_ffff_0000_0000 : high
    self.low = family == .v4 ? 0 : low
    self.scopeID = family == .v4 ? 0 : scopeID
  }

  /// Four bytes make an IPv4 address, sixteen an IPv6 one; any other count is refused.
  public init?(bytes: some Collection<UInt8>, scopeID: UInt32 = 0) {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var high: UInt64 = 0
    var low: UInt64 = 0
    for (index, byte) in bytes.enumerated() {
      if index < 8 {
        high |= UInt64(byte) << (56 - 8 * UInt64(index))
      } else {
        low |= UInt64(byte) << (120 - 8 * UInt64(index))
      }
    }
    self.init(family: bytes.count == 4 ? .v4 : .v6, high: high, low: low, scopeID: scopeID)
  }

  /// The text forms of RFC 4291 §2.2 and dotted IPv4. A zone (`fe80::1%eth0`, `fe80::1%3`) must name an interface of this host.
  public init?(_ text: String) {
    let parts = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = parts.first.map(String.init) else { return nil }
    var v4 = in_addr()
    if parts.count == 1, inet_pton(AF_INET, address, &v4) == 1 {
      self.init(family: .v4, high: UInt64(UInt32(bigEndian: v4.s_addr)) << 32, low: 0)
      return
    }
    var v6 = in6_addr()
    guard inet_pton(AF_INET6, address, &v6) == 1 else { return nil }
    var scope: UInt32 = 0
    if parts.count == 2 {
      let zone = String(parts[1])
      scope = UInt32(zone) ?? if_nametoindex(zone)
      guard scope != 0 else { return nil }
    }
    self.init(v6, scopeID: scope)
  }

  public init(_ address: in6_addr, scopeID: UInt32 = 0) {
    let (high, low) = withUnsafeBytes(of: address) {
      (
        UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
        UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      )
    }
    self.init(family: .v6, high: high, low: low, scopeID: scopeID)
  }

  public init(_ address: in_addr) {
    self.init(family: .v4, high: UInt64(UInt32(bigEndian: address.s_addr)) << 32, low: 0)
  }

  /// The address in network order: 4 or 16 bytes.
  public var bytes: [UInt8] {
    let all = (0..<8).map { UInt8(truncatingIfNeeded: high >> (56 - 8 * UInt64($0))) }
    if family == .v4 { return Array(all.prefix(4)) }
    return all + (0..<8).map { UInt8(truncatingIfNeeded: low >> (56 - 8 * UInt64($0))) }
  }

  public static func wildcard(_ family: AddressFamily) -> IPAddress { IPAddress(family: family, high: 0, low: 0) }
  public static func loopback(_ family: AddressFamily) -> IPAddress {
    family == .v4 ? IPAddress(family: .v4, high: 0x7f00_0001 << 32, low: 0) : IPAddress(family: .v6, high: 0, low: 1)
  }
}

extension IPAddress: CustomStringConvertible {
  /// RFC 5952 text; a scope is shown by its interface's name where the interface still exists.
  public var description: String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    if family == .v4 {
      var raw = in_addr(s_addr: UInt32(high >> 32).bigEndian)
      _ = inet_ntop(AF_INET, &raw, &text, socklen_t(text.count))
    } else {
      var raw = self.in6
      _ = inet_ntop(AF_INET6, &raw, &text, socklen_t(text.count))
    }
    let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard scopeID != 0 else { return address }
    var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
    guard if_indextoname(scopeID, &name) != nil else { return "\(address)%\(scopeID)" }
    return address + "%" + String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// The kernel's form of an IPv6 address.
  public var in6: in6_addr {
    var raw = in6_addr()
    withUnsafeMutableBytes(of: &raw) {
      $0.storeBytes(of: high.bigEndian, as: UInt64.self)
      $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }
    return raw
  }
}

extension IPAddress {
  private var v4: UInt32 { UInt32(high >> 32) }

  /// `0.0.0.0` or `::`.
  public var isWildcard: Bool { high == 0 && low == 0 }
  /// `127.0.0.0/8` (RFC 1122 §3.2.1.3) or `::1`.
  public var isLoopback: Bool { family == .v4 ? v4 >> 24 == 127 : high == 0 && low == 1 }
  /// `169.254.0.0/16` (RFC 3927) or `fe80::/10` (RFC 4291 §2.5.6).
  public var isLinkLocal: Bool { family == .v4 ? v4 >> 16 == 0xa9fe : high >> 54 == 0x3fa }
  /// `224.0.0.0/4` (RFC 5771) or `ff00::/8` (RFC 4291 §2.7).
  public var isMulticast: Bool { family == .v4 ? v4 >> 28 == 0xe : high >> 56 == 0xff }
  /// `255.255.255.255`; a subnet's own broadcast address cannot be told without its prefix.
  public var isBroadcast: Bool { family == .v4 && v4 == 0xffff_ffff }
  /// Not routed on the public Internet: RFC 1918, RFC 6598 (carrier NAT) and RFC 4193 (`fc00::/7`), link-local, loopback.
  public var isPrivate: Bool {
    if isLinkLocal || isLoopback || isWildcard { return true }
    if family == .v6 { return high >> 57 == 0x7e }
    return v4 >> 24 == 10 || v4 >> 20 == 0xac1 || v4 >> 16 == 0xc0a8 || isShared
  }
  /// Between a provider's translation and its customers' routers: 100.64.0.0/10 (RFC 6598).
  public var isShared: Bool { family == .v4 && v4 >> 22 == 0x191 }
  /// `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2) as the IPv4 address it stands for; other addresses as they are.
  public var unmapped: IPAddress {
    guard family == .v6, high == 0, low >> 32 == 0xffff else { return self }
    return IPAddress(family: .v4, high: low << 32, low: 0)
  }
  /// True when both addresses share the first `bits` bits.
  public func sharesPrefix(_ bits: Int, with other: IPAddress) -> Bool {
    guard family == other.family, bits >= 0 else { return false }
    func mask(_ n: Int) -> UInt64 { n <= 0 ? 0 : n >= 64 ? .max : ~(.max >> UInt64(n)) }
    let limit = family == .v4 ? min(bits, 32) : min(bits, 128)
    return (high ^ other.high) & mask(limit) == 0 && (low ^ other.low) & mask(limit - 64) == 0
  }
}
