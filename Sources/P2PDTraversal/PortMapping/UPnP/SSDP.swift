import P2PDNet

/// The search for a UPnP gateway, over UDP (UPnP Device Architecture 1.1 §1.3).
///
/// Of our own, like the HTTP, XML and SOAP beside it: miniupnpc would do all of it, but each of its calls blocks for up to
/// seconds, it fetches what any answer names, and no PCP library stands beside it in Debian; what a gateway needs of these
/// protocols is small.
enum SSDP {
  /// What to send, and where.
  static func searches(_ gateway: IPAddress) -> [(bytes: [UInt8], to: Endpoint)] {
    var group: IPAddress
    switch gateway.family {
    case .v4: group = IPAddress(family: .v4, high: 0xefff_fffa << 32, low: 0)
    case .v6:
      group = IPAddress(family: .v6, high: 0xff02 << 48, low: 0xc)
      group.scopeID = gateway.scopeID
    }
    let all = Endpoint(ip: group, port: port)
    let one = Endpoint(ip: gateway, port: port)
    // Version 2 must answer to a search for version 1 (§1.3.3), but not every router has read that.
    return [
      (search(gatewayDevice + "1", all), all), (search(gatewayDevice + "2", all), all), (search("ssdp:all", all), one),
    ]
  }

  private static func search(_ target: String, _ host: Endpoint) -> [UInt8] {
    let name = host.ip.family == .v4 ? "\(host)" : "[ff02::c]:\(port)"
    let lines = [
      "M-SEARCH * HTTP/1.1", "HOST: \(name)", "MAN: \"ssdp:discover\"", "MX: 1", "ST: \(target)", "", "",
    ]
    return Array(lines.joined(separator: "\r\n").utf8)
  }

  static let port: UInt16 = 1900
  static let gatewayDevice = "urn:schemas-upnp-org:device:InternetGatewayDevice:"
}

/// One answer to the search.
public struct SSDPAnswer: Hashable, Sendable {
  /// Where the description is, by the answer's own word.
  public var location: String
  /// The device or service that answers.
  public var target: String
  /// The program: "Debian/12 UPnP/1.1 MiniUPnPd/2.3.1".
  public var server: String?

  /// nil for what is no answer, or names no place.
  public init?(_ bytes: some Collection<UInt8>) {
    guard let head = HTTPHead(bytes), head.status == 200, let location = head["location"],
      location.utf8.count <= Self.longestLocation
    else { return nil }
    self.location = location
    target = head["st"] ?? ""
    server = head["server"]
  }

  /// It comes from a gateway, or from something that may be in one.
  var isGateway: Bool { ["InternetGatewayDevice", "WAN"].contains { target.contains($0) } }

  private static let longestLocation = 512
}

/// A place on the router's web server. Only ever on the router itself: what a description or an answer says of another
/// host is not followed.
public struct HTTPPlace: Hashable, Sendable {
  public var port: UInt16
  /// From the slash on; printable ASCII without blanks.
  public var path: String

  /// Reads a URL of the router's, or a path on it.
  /// - Parameters:
  ///   - host: whom it must name, unless it is a path.
  ///   - base: whose port counts where the text is a path.
  public init?(_ text: String, host: IPAddress, base: HTTPPlace? = nil) {
    var path = Substring(text)
    var port = base?.port ?? 80
    if text.lowercased().hasPrefix("http://") {
      let rest = text.dropFirst(7)
      let authority = rest.prefix { $0 != "/" && $0 != "?" }
      guard let (ip, named) = Self.authority(String(authority)), Self.isSame(ip, host) else { return nil }
      port = named
      path = rest.dropFirst(authority.count)
    } else if text.contains("://") {
      return nil
    }
    // A fragment is the reader's business only.
    path = path.prefix { $0 != "#" }
    let whole = path.hasPrefix("/") ? String(path) : "/" + path
    guard port != 0, whole.utf8.count <= Self.longest, whole.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      return nil
    }
    self.port = port
    self.path = whole
  }

  /// IPv6 routers answer from one of their addresses and name another. The request goes to the one we know.
  private static func isSame(_ ip: IPAddress, _ host: IPAddress) -> Bool {
    ip.family == host.family && (host.family == .v6 || ip == host)
  }

  /// An address and perhaps a port. Names are not looked up, and nobody logs in.
  private static func authority(_ text: String) -> (IPAddress, UInt16)? {
    if let endpoint = Endpoint(text) { return (endpoint.ip, endpoint.port) }
    let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    return IPAddress(bare).map { ($0, 80) }
  }

  private static let longest = 256
}
