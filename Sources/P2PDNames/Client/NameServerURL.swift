import P2PDNet

/// Where a name server is: `https://names.example.org`, `http://192.0.2.1:5300`.
public struct NameServerURL: Hashable, Sendable, CustomStringConvertible {
  public let isTLS: Bool
  /// A name, or an address in text (IPv6 without brackets), lower case.
  public let host: String
  public let port: UInt16

  public init(isTLS: Bool = false, host: String, port: UInt16? = nil) {
    (self.isTLS, self.host, self.port) = (isTLS, host, port ?? Self.standardPort(isTLS))
  }

  /// Reads a URL. Throws ``NetError`` (`bad_address`) that says what is wrong.
  public init(_ text: some StringProtocol) throws(NetError) {
    func wrong(_ why: String) -> NetError {
      NetError(
        .badAddress, "read the name server \(quoted(text.prefix(200)))", cause: why,
        remedy: "Write it as http://HOST:PORT or https://HOST.")
    }
    guard text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { throw wrong("a URL has no blanks in it") }
    guard text.utf8.count <= 300 else { throw wrong("it has more than 300 characters") }
    var rest = text[...]
    guard let mark = rest.firstRange(of: "://") else { throw wrong("it does not begin with http:// or https://") }
    switch rest[..<mark.lowerBound].lowercased() {
    case "http": isTLS = false
    case "https": isTLS = true
    default: throw wrong("it does not begin with http:// or https://")
    }
    rest = rest[mark.upperBound...]
    if rest.hasSuffix("/") { rest = rest.dropLast() }
    let place = try ServerURL.hostAndPort(rest, wrong)
    host = place.0
    port = place.1 ?? Self.standardPort(isTLS)
  }

  /// Reads back with ``init(_:)``.
  public var description: String {
    (isTLS ? "https://" : "http://") + authority
  }

  /// `host` or `host:port`, as in a Host field (RFC 9110 §7.2).
  var authority: String {
    (host.contains(":") ? "[\(host)]" : host) + (port == Self.standardPort(isTLS) ? "" : ":\(port)")
  }

  /// RFC 9110 §4.2.
  private static func standardPort(_ isTLS: Bool) -> UInt16 { isTLS ? 443 : 80 }
}
