import P2PDNet

/// A broker, as an address or the configuration names it.
public struct Broker: Hashable, Sendable, CustomStringConvertible {
  /// A name, or an address in text.
  public let host: String
  public let port: UInt16
  public let tls: Bool
  public var user: String?
  public var password: String?

  public init(host: String, port: UInt16, tls: Bool, user: String? = nil, password: String? = nil) {
    self.host = host.lowercased()
    self.port = port
    self.tls = tls
    self.user = user
    self.password = password
  }

  /// nil for a URL of another kind than `mqtt:` and `mqtts:`.
  public init?(_ url: ServerURL) {
    guard url.scheme == .mqtt || url.scheme == .mqtts else { return nil }
    self.init(host: url.host, port: url.port, tls: url.scheme.isTLS, user: url.user, password: url.password)
  }

  /// The same place, whoever logs in there.
  public static func == (a: Broker, b: Broker) -> Bool { a.host == b.host && a.port == b.port && a.tls == b.tls }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(host)
    hasher.combine(port)
    hasher.combine(tls)
  }

  /// `mqtts://broker.example:8883`, never with a password.
  public var description: String { ServerURL(tls ? .mqtts : .mqtt, host: host, port: port).description }
}

/// How it stands with one broker.
public struct BrokerStatus: Sendable {
  public enum State: String, Sendable { case connecting, up, down }
  public let broker: Broker
  public let state: State
  /// nil: not measured yet.
  public let roundTrip: RoundTrip?
  /// Why it is down.
  public let error: NetError?
  /// It belongs to another node's address and is spoken to for a while only.
  public let isForeign: Bool
  /// Packets over the limit that were passed over.
  public let skipped: Int
}
