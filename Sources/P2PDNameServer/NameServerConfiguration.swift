import P2PDNet

/// How a name server serves.
public struct NameServerConfiguration: Sendable {
  /// The database's file; it is made where there is none.
  public var database: String
  /// Where it listens; port 0 takes any free one. IPv6 sockets take IPv6 only.
  public var listen: [Endpoint]
  public var limits = NameLimits()
  /// A connection from this very host is a reverse proxy's, and `X-Forwarded-For` says who asks.
  public var trustsProxy = false
  /// PEM files of certificate (with its chain) and key, for HTTPS; nil for HTTP.
  public var certificate: (chain: String, key: String)?
  /// What `/v1/status` says.
  public var version: String
  /// Seconds since 1970.
  var clock: @Sendable () -> UInt64 = UnixClock.now
  var times = HTTPConnection.Times()

  public init(database: String, listen: [Endpoint], version: String) {
    (self.database, self.listen, self.version) = (database, listen, version)
  }

  /// Reads `192.0.2.1:80`, `[2001:db8::1]:80`, and `*:80` or `:80` for all addresses of both families.
  /// - Throws: ``NetError`` `bad_address`.
  public static func endpoints(_ text: String) throws(NetError) -> [Endpoint] {
    if let endpoint = Endpoint(text) { return [endpoint] }
    let port = text.hasPrefix("*:") ? text.dropFirst(2) : text.hasPrefix(":") ? text.dropFirst() : ""
    guard let port = UInt16(port) else {
      throw NetError(
        .badAddress, "listen on \"\(text.prefix(100))\"", cause: "it is no address and port",
        remedy: "Write 192.0.2.1:7353, [2001:db8::1]:7353, or *:7353 for all addresses of this machine.")
    }
    let any = [IPAddress(family: .v4, high: 0, low: 0), IPAddress(family: .v6, high: 0, low: 0)]
    return any.map { Endpoint(ip: $0, port: port) }
  }
}
