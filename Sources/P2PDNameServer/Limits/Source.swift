import P2PDNet

/// Where requests come from, as far as limits care: an IPv4 address, or the /64 of an IPv6 address, since one customer has
/// at least that much (RFC 6177 §2).
public struct Source: Hashable, Sendable, CustomStringConvertible {
  private let address: IPAddress

  public init(_ ip: IPAddress) {
    // ::1 has the /64 of nobody else's.
    let ip = ip.unmapped
    address = IPAddress(family: ip.family, high: ip.high, low: 0)
  }

  /// Four bytes of an IPv4 address, eight of an IPv6 one: what the store keeps.
  var bytes: [UInt8] {
    (0..<(address.family == .v4 ? 4 : 8)).map { UInt8(truncatingIfNeeded: address.high >> (56 - 8 * UInt64($0))) }
  }

  /// This very host: a reverse proxy, perhaps.
  var isLoopback: Bool {
    address.family == .v4 ? address.high >> 56 == 127 : address.high == 0
  }

  public var description: String { address.family == .v4 ? "\(address)" : "\(address)/64" }

  /// Whose request it is when a reverse proxy on this machine hands it on: the last address of `X-Forwarded-For`, which is
  /// the one the proxy itself saw; those before it are what the client says. nil where there is none.
  static func forwarded(_ lines: [String]) -> Source? {
    guard let last = lines.last?.split(separator: ",", omittingEmptySubsequences: false).last else { return nil }
    let text = last.trimmingBlanks
    // A zone (fe80::1%eth0) is no client of a proxy, and looking it up would ask the kernel.
    guard text.utf8.count <= 45, !text.contains("%") else { return nil }
    return IPAddress(String(text)).map(Source.init)
  }
}

extension Substring {
  /// Without spaces and tabs at both ends.
  var trimmingBlanks: Substring {
    var text = self
    while let first = text.utf8.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
    while let last = text.utf8.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
    return text
  }
}
