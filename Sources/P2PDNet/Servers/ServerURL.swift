/// One server the node may use, as a URL: `stun:stun.example.org`, `turn:user:secret@relay.example.org?transport=tcp`,
/// `mqtts://broker.example.org:8883`, `ntp:time.example.org`, `https://names.example.org?tld=peer`. STUN's and TURN's form is that of RFC 7064 and RFC 7065,
/// and `//` before the host is allowed everywhere. A value only: nothing is looked up.
public struct ServerURL: Hashable, Sendable {
  /// What the server is for; a final `s` means TLS.
  public enum Scheme: String, Sendable, CaseIterable {
    case stun, stuns, turn, turns, mqtt, mqtts, ntp
    /// Name servers.
    case http, https

    public var defaultPort: UInt16 {
      switch self {
      case .stun, .turn: 3478
      case .stuns, .turns: 5349
      case .mqtt: 1883
      case .mqtts: 8883
      case .ntp: 123
      case .http: 80
      case .https: 443
      }
    }

    public var isTLS: Bool { self == .stuns || self == .turns || self == .mqtts || self == .https }

    /// Over TCP, whatever the URL says.
    fileprivate var isStream: Bool { isTLS || self == .mqtt || self == .http }
  }

  /// Loopback leads to it, by its text.
  public var isOnThisMachine: Bool { host == "localhost" || IPAddress(host)?.isLoopback == true }

  public enum Transport: String, Sendable { case udp, tcp }

  public let scheme: Scheme
  /// A name, or an address in text (IPv6 without brackets).
  public let host: String
  public let port: UInt16
  /// What the bytes travel in: `?transport=tcp` of STUN and TURN; TLS and MQTT are always over TCP.
  public let transport: Transport
  public let user: String?
  public let password: String?
  /// TURN's shared secret for credentials of limited life (coturn's `static-auth-secret`): `?secret=...`.
  public let secret: String?
  /// The ending of the names that a name server knows: `?tld=...`; nil: the default one.
  public let tld: String?

  public init(
    _ scheme: Scheme, host: String, port: UInt16? = nil, transport: Transport? = nil, user: String? = nil,
    password: String? = nil, secret: String? = nil, tld: String? = nil
  ) {
    self.scheme = scheme
    self.host = host
    self.port = port ?? scheme.defaultPort
    self.transport = scheme.isStream ? .tcp : transport ?? .udp
    self.tld = tld
    self.user = user
    self.password = password
    self.secret = secret
  }

  /// Reads a URL; without a scheme, `scheme` is meant. Throws ``NetError`` (`bad_address`) that says what is wrong.
  public init(_ text: some StringProtocol, scheme wanted: Scheme? = nil) throws(NetError) {
    func wrong(_ why: String) -> NetError {
      NetError(.badAddress, "read the server \"\(Self.masked(text))\"", cause: why)
    }
    guard text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { throw wrong("a URL has no blanks in it") }
    guard text.utf8.count <= Self.longest else { throw wrong("it has more than \(Self.longest) characters") }
    var rest = text[...]
    let head = rest.prefix { $0.isLetter }
    var scheme = wanted
    if rest[head.endIndex...].hasPrefix(":"), let named = Scheme(rawValue: head.lowercased()) {
      scheme = named
      rest = rest[rest.index(after: head.endIndex)...]
    } else if rest.contains("://") {
      throw wrong("\(head) is no kind of server known here; known are \(Self.schemes)")
    }
    guard let scheme else { throw wrong("it does not begin with one of \(Self.schemes)") }
    if rest.hasPrefix("//") { rest = rest.dropFirst(2) }
    var query = rest[rest.endIndex...]
    if let mark = rest.firstIndex(of: "?") {
      query = rest[rest.index(after: mark)...]
      rest = rest[..<mark]
    }
    if rest.hasSuffix("/") { rest = rest.dropLast() }
    var user: String?
    var password: String?
    if let at = rest.lastIndex(of: "@") {
      let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      rest = rest[rest.index(after: at)...]
      guard let name = parts.first.flatMap({ Self.unescape($0) }), !name.isEmpty else {
        throw wrong("its user is empty")
      }
      user = name
      if parts.count > 1 {
        guard let word = Self.unescape(parts[1]) else { throw wrong("its password has a broken % escape") }
        password = word
      }
    }
    var transport: Transport?
    var secret: String?
    var tld: String?
    for pair in query.split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let value = Self.unescape(parts[1]) else {
        throw wrong("\(parts[0]) is no option with a value")
      }
      switch parts[0] {
      case "transport":
        guard let proto = Transport(rawValue: value.lowercased()) else { throw wrong("transport is udp or tcp") }
        transport = proto
      case "secret": secret = value
      case "tld" where scheme == .http || scheme == .https:
        let isPlain = value.utf8.allSatisfy {
          $0 == 0x2d || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
        }
        guard isPlain, (1...63).contains(value.utf8.count) else {
          throw wrong("tld is the ending of names, such as peer")
        }
        tld = value.lowercased()
      default: throw wrong("there is no option \(parts[0]); known are transport, secret and tld (of name servers)")
      }
    }
    let (host, port) = try Self.hostAndPort(rest, wrong)
    self.init(
      scheme, host: host, port: port, transport: transport, user: user, password: password, secret: secret, tld: tld)
  }

  /// As it may be shown, whatever it is: a mistake in a URL is no reason to write its password into a log.
  private static func masked(_ text: some StringProtocol) -> String {
    var shown = String(text)
    if let at = shown.lastIndex(of: "@") {
      let begin = shown[..<at].firstIndex(of: ":").map { shown.index(after: $0) } ?? shown.startIndex
      shown.replaceSubrange(begin..<at, with: "***")
    }
    if let secret = shown.firstRange(of: "secret=") {
      let end = shown[secret.upperBound...].firstIndex(of: "&") ?? shown.endIndex
      shown.replaceSubrange(secret.upperBound..<end, with: "***")
    }
    return String(shown.prefix(200))
  }

  /// `host`, `host:port`, `[IPv6]:port` as its parts, the host in lower case. `wrong` words the error.
  package static func hostAndPort(_ text: some StringProtocol, _ wrong: (String) -> NetError) throws(NetError)
    -> (String, UInt16?)
  {
    var host = String(text)
    var port: UInt16?
    let inBrackets = host.hasPrefix("[")
    if let colon = host.lastIndex(of: ":"), !inBrackets || host[..<colon].hasSuffix("]") {
      // Bare IPv6 has several colons and no port.
      if inBrackets || host.firstIndex(of: ":") == colon {
        guard let number = UInt16(host[host.index(after: colon)...]), number != 0 else {
          throw wrong("its port is not 1 to 65535")
        }
        port = number
        host = String(host[..<colon])
      }
    }
    if inBrackets {
      guard host.hasSuffix("]") else { throw wrong("a [ without ]") }
      host = String(host.dropFirst().dropLast())
      guard host.contains(":"), IPAddress(host) != nil else { throw wrong("what stands in [ ] is no IPv6 address") }
    } else if host.contains(":"), IPAddress(host) == nil {
      throw wrong("its host is neither a name nor an address")
    }
    let isPlain = host.utf8.allSatisfy { !"/@?#[]\"'\\,;".utf8.contains($0) }
    guard (1...253).contains(host.utf8.count), isPlain else { throw wrong("its host is neither a name nor an address") }
    return (host.lowercased(), port)
  }

  /// Percent escapes (RFC 3986 §2.1) of user, password and secret; nil for a broken one or for bytes that are no UTF-8.
  private static func unescape(_ text: some StringProtocol) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  package static func escape(_ text: String) -> String {
    var out = ""
    for byte in text.utf8 {
      let isPlain =
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "-._~".utf8.contains(byte)
      if isPlain {
        out.unicodeScalars.append(UnicodeScalar(byte))
      } else {
        out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return out
  }

  /// The URL as a configuration has it, passwords included; ``init(_:scheme:)`` reads it back.
  public var text: String { written(user, password, secret) }

  private func written(_ user: String?, _ password: String?, _ secret: String?) -> String {
    var text = scheme.rawValue + (Self.slashed.contains(scheme) ? "://" : ":")
    if let user { text += Self.escape(user) + (password.map { ":" + Self.escape($0) } ?? "") + "@" }
    text += host.contains(":") ? "[\(host)]" : host
    if port != scheme.defaultPort { text += ":\(port)" }
    var options: [String] = []
    if transport == .tcp, !scheme.isStream { options.append("transport=tcp") }
    if let secret { options.append("secret=" + Self.escape(secret)) }
    if let tld { options.append("tld=" + tld) }
    return options.isEmpty ? text : text + "?" + options.joined(separator: "&")
  }

  private static let schemes = Scheme.allCases.map(\.rawValue).joined(separator: ", ")
  private static let slashed: Set<Scheme> = [.mqtt, .mqtts, .http, .https]
  private static let longest = 1024
}

extension ServerURL: CustomStringConvertible {
  /// For logs and people: as ``text``, with `***` for what is secret.
  public var description: String {
    var shown = written(user, password == nil ? nil : "hidden", secret == nil ? nil : "hidden")
    if password != nil { shown = shown.replacing(":hidden@", with: ":***@") }
    if secret != nil { shown = shown.replacing("secret=hidden", with: "secret=***") }
    return shown
  }
}
