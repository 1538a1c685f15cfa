import P2PDNet

/// A STUN server, and what it is spoken to over.
public struct STUNServer: Hashable, Sendable, CustomStringConvertible {
  public enum Transport: Hashable, Sendable {
    /// UDP and TCP, at one port.
    case any
    /// TCP alone: `stun:...?transport=tcp`.
    case tcp
    /// TLS over TCP: `stuns:`.
    case tls
  }

  /// A name, or an address in text.
  public let host: String
  public let port: UInt16
  public let transport: Transport

  public init(host: String, port: UInt16 = defaultPort, transport: Transport = .any) {
    self.host = host
    self.port = port
    self.transport = transport
  }

  public init(_ endpoint: Endpoint) { self.init(host: endpoint.ip.description, port: endpoint.port) }

  /// nil for a URL of another kind than `stun:` and `stuns:`.
  public init?(_ url: ServerURL) {
    switch url.scheme {
    case .stun: self.init(host: url.host, port: url.port, transport: url.transport == .tcp ? .tcp : .any)
    case .stuns: self.init(host: url.host, port: url.port, transport: .tls)
    default: return nil
    }
  }

  /// `stun.example.net`, `stun.example.net:3479`, `192.0.2.1:3478`, `[2001:db8::1]:3478`, or a URL of RFC 7064; nil for
  /// anything else.
  public init?(_ text: String) {
    guard let url = try? ServerURL(text, scheme: .stun), url.user == nil else { return nil }
    self.init(url)
  }

  public var description: String {
    let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    switch transport {
    case .any: return place
    case .tcp: return "stun:\(place)?transport=tcp"
    case .tls: return "stuns:\(place)"
    }
  }

  /// RFC 8489 §18.6.
  public static let defaultPort: UInt16 = 3478
}

/// An address at which a server can be asked.
public struct STUNPlace: Hashable, Sendable {
  public let endpoint: Endpoint
  public let transport: STUNServer.Transport
  /// What its certificate must be for.
  public let name: String?

  public init(_ endpoint: Endpoint, _ transport: STUNServer.Transport = .any, name: String? = nil) {
    self.endpoint = endpoint
    self.transport = transport
    self.name = name
  }

  func speaks(_ proto: PipeProto) -> Bool { proto == .tcp || transport == .any }
}
