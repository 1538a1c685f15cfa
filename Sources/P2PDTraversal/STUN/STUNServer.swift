import P2PDNet

/// Where a STUN server can be asked.
public struct STUNServer: Hashable, Sendable, CustomStringConvertible {
  /// A name, or an address in text.
  public let host: String
  /// For UDP and TCP.
  public let port: UInt16

  public init(host: String, port: UInt16 = defaultPort) {
    self.host = host
    self.port = port
  }

  public init(_ endpoint: Endpoint) { self.init(host: endpoint.ip.description, port: endpoint.port) }

  /// nil for a URL of another kind than `stun:`.
  public init?(_ url: ServerURL) {
    guard url.scheme == .stun else { return nil }
    self.init(host: url.host, port: url.port)
  }

  /// `stun.example.net`, `stun.example.net:3479`, `192.0.2.1:3478`, `[2001:db8::1]:3478`, each also behind `stun:` (RFC
  /// 7064); nil for anything else.
  public init?(_ text: String) {
    var text = Substring(text)
    if text.hasPrefix("stun:") { text = text.dropFirst(5) }
    if let endpoint = Endpoint(String(text)) {
      guard endpoint.port != 0 else { return nil }
      self.init(endpoint)
      return
    }
    var host = String(text)
    var port = Self.defaultPort
    if IPAddress(host) == nil, let colon = text.lastIndex(of: ":"), !text.hasSuffix("]") {
      guard let number = UInt16(text[text.index(after: colon)...]), number != 0 else { return nil }
      port = number
      host = String(text[..<colon])
    }
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    guard !host.isEmpty, host.utf8.count <= 253, !host.contains(where: { $0.isWhitespace || $0 == "/" || $0 == "@" })
    else { return nil }
    self.init(host: host, port: port)
  }

  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// RFC 8489 §18.6.
  public static let defaultPort: UInt16 = 3478

  /// Public servers that a node asks where nobody names others. Of several operators, so that none of them decides what
  /// is believed.
  public static let wellKnown: [STUNServer] = [
    STUNServer(host: "stun.cloudflare.com"),
    STUNServer(host: "stun.l.google.com", port: 19302),
    STUNServer(host: "stun.nextcloud.com", port: 3478),
    STUNServer(host: "stunserver2025.stunprotocol.org"),
    STUNServer(host: "stun.sipgate.net"),
  ]
}
