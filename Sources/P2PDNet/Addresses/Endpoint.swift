import Glibc
import NIOCore

/// An IP address and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
  public let ip: IPAddress
  public let port: UInt16

  public init(ip: IPAddress, port: UInt16) {
    self.ip = ip
    self.port = port
  }

  /// `192.0.2.1:80`, `[2001:db8::1]:80`.
  public var description: String { ip.family == .v4 ? "\(ip):\(port)" : "[\(ip)]:\(port)" }

  /// Reads what ``description`` writes.
  public init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard let ip = IPAddress(String(host)) else { return nil }
    self.init(ip: ip, port: port)
  }

  /// What recvfrom(2) filled in; nil for other families. An IPv4-mapped source of a dual-stack socket reads as IPv4.
  init?(_ storage: sockaddr_storage) {
    switch CInt(storage.ss_family) {
    case AF_INET:
      let raw = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in.self) }
      self.init(ip: IPAddress(raw.sin_addr), port: UInt16(bigEndian: raw.sin_port))
    case AF_INET6:
      let raw = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in6.self) }
      self.init(
        ip: IPAddress(raw.sin6_addr, scopeID: raw.sin6_scope_id).unmapped, port: UInt16(bigEndian: raw.sin6_port))
    default: return nil
    }
  }

  /// NIO's form of the endpoint.
  public var socketAddress: SocketAddress {
    switch ip.family {
    case .v4: SocketAddress(sockaddrIn)
    case .v6: SocketAddress(sockaddrIn6)
    }
  }

  /// The same place as an IPv6 socket sees it: IPv4 as `::ffff:a.b.c.d` (RFC 3493 §3.7).
  var mapped: Endpoint {
    guard ip.family == .v4 else { return self }
    return Endpoint(ip: IPAddress(family: .v6, high: 0, low: 0xffff_0000_0000 | ip.high >> 32), port: port)
  }

  var sockaddrIn: sockaddr_in {
    var raw = sockaddr_in()
    raw.sin_family = sa_family_t(AF_INET)
    raw.sin_port = port.bigEndian
    raw.sin_addr.s_addr = UInt32(ip.high >> 32).bigEndian
    return raw
  }

  var sockaddrIn6: sockaddr_in6 {
    var raw = sockaddr_in6()
    raw.sin6_family = sa_family_t(AF_INET6)
    raw.sin6_port = port.bigEndian
    raw.sin6_addr = ip.in6
    raw.sin6_scope_id = ip.scopeID
    return raw
  }
}
