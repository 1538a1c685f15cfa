import P2PDNet

/// What a gateway says of itself (UPnP Device Architecture 1.1 §2): its name, and the services that can open ports.
public struct UPnPDescription: Hashable, Sendable {
  /// For people; cleaned of control characters.
  public var name: String
  public var services: [UPnPService]

  /// - Parameters:
  ///   - host: the router; services elsewhere are left out.
  ///   - place: where the description was read.
  public init(_ bytes: [UInt8], host: IPAddress, at place: HTTPPlace) throws(XMLError) {
    let root = try XMLElement.parse(bytes)
    guard let device = root.child("device") else { throw .malformed }
    let base = root.child("URLBase").flatMap { HTTPPlace($0.text, host: host) } ?? place
    name = Self.name(of: device)
    services = []
    collect(device, host, base)
  }

  /// Devices within devices; the depth is bounded by the parser.
  private mutating func collect(_ device: XMLElement, _ host: IPAddress, _ base: HTTPPlace) {
    for service in device.child("serviceList")?.children ?? [] where services.count < Self.mostServices {
      guard let type = service.child("serviceType")?.text, let control = service.child("controlURL")?.text,
        let place = HTTPPlace(control, host: host, base: base), let found = UPnPService(type, at: place)
      else { continue }
      services.append(found)
    }
    for inner in device.child("deviceList")?.children ?? [] { collect(inner, host, base) }
  }

  private static func name(of device: XMLElement) -> String {
    let parts = ["friendlyName", "modelName"].compactMap { device.child($0)?.text }.filter { !$0.isEmpty }
    return (parts.first ?? "").cleaned(longest: longestName)
  }

  /// Those that can open ports of that family. WANIPConnection stands before WANPPPConnection, the newer version before
  /// the older.
  public func services(_ family: AddressFamily) -> [UPnPService] {
    services.filter { ($0.kind == .firewall) == (family == .v6) }
      .sorted { ($1.kind.rank, $1.version) < ($0.kind.rank, $0.version) }
  }

  private static let mostServices = 16
  private static let longestName = 80
}

extension String {
  /// Fit to be shown: what moves the cursor or ends the line becomes a blank.
  func cleaned(longest: Int) -> String {
    let safe = unicodeScalars.prefix(longest).map { scalar -> Unicode.Scalar in
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: " "
      default: scalar
      }
    }
    var text = ""
    text.unicodeScalars.append(contentsOf: safe)
    return text.trimmed
  }
}

/// A service of a gateway that can open ports.
public struct UPnPService: Hashable, Sendable {
  public enum Kind: String, Hashable, Sendable {
    case ip = "WANIPConnection"
    case ppp = "WANPPPConnection"
    /// The firewall for IPv6.
    case firewall = "WANIPv6FirewallControl"

    var rank: Int { self == .ppp ? 0 : 1 }
  }

  public let kind: Kind
  public let version: Int
  public let place: HTTPPlace

  /// Reads `urn:schemas-upnp-org:service:WANIPConnection:1`; nil for services of no use here.
  init?(_ type: String, at place: HTTPPlace) {
    guard type.hasPrefix(Self.prefix) else { return nil }
    let parts = type.dropFirst(Self.prefix.count).split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let kind = Kind(rawValue: String(parts[0])), let version = Int(parts[1]),
      (1...9).contains(version)
    else { return nil }
    (self.kind, self.version, self.place) = (kind, version, place)
  }

  /// Written by us, so that nothing of the router's text stands in a request.
  public var type: String { "\(Self.prefix)\(kind.rawValue):\(version)" }

  private static let prefix = "urn:schemas-upnp-org:service:"
}
