import P2PDNet

extension NodeAddress {
  /// What the address says, a line each, for a person to read. `now` is in seconds since 1970.
  public func explanation(now: UInt32) -> [(what: String, value: String)] {
    var lines: [(what: String, value: String)] = [
      ("node id", key.description),
      ("version", "1"),
      ("made", Self.age(from: issued, to: now)),
      ("signature", "valid"),
    ]
    if routes.isEmpty { lines.append(("route", "none: it can be reached through signalling only")) }
    for route in routes { lines.append(("route", route.inWords)) }
    if signalling.isEmpty { lines.append(("signalling", "none: only direct connections are possible")) }
    for server in signalling {
      lines.append(("signalling", "\(server.host) port \(server.port)\(server.tls ? ", TLS" : "")"))
    }
    return lines
  }

  private static func age(from then: UInt32, to now: UInt32) -> String {
    let date = utc(then)
    guard now >= then else { return "\(date), in the future by this machine's clock" }
    let seconds = now - then
    switch seconds {
    case ..<60: return "\(date), \(seconds) s ago"
    case ..<3600: return "\(date), \(seconds / 60) min ago"
    case ..<86400: return "\(date), \(seconds / 3600) h ago"
    default: return "\(date), \(seconds / 86400) days ago"
    }
  }

  /// `2026-01-31 12:00:00 UTC`; the calendar by Howard Hinnant's days-to-civil algorithm.
  static func utc(_ seconds: UInt32) -> String {
    let days = Int(seconds / 86400) + 719_468
    let era = days / 146_097
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    let rest = Int(seconds % 86400)
    return "\(year)-\(two(month))-\(two(day)) \(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60)) UTC"
  }
}

extension NodeRoute {
  /// One route in words.
  var inWords: String {
    let scope =
      nic.isLoopback
      ? "this machine only"
      : nic.isLinkLocal ? "same link only" : nic.isPrivate ? "private network" : "public"
    var text = "interface \(interface), \(family): \(Endpoint(ip: nic, port: port)) (\(scope))"
    switch external {
    case .unknown: if !nic.isLoopback, !nic.isLinkLocal { text += "; seen from outside: unknown" }
    case .none: text += "; seen from outside: no way out"
    case .at(let seen): text += "; seen from outside: \(seen.port == 0 ? "\(seen.ip), port unknown" : "\(seen)")"
    }
    if let nat { text += "; NAT: \(nat.inWords)" }
    return text
  }
}

extension NATFacts {
  var inWords: String {
    let kind =
      switch type {
      case .unknown: "unknown"
      case .open: "none, open to everybody"
      case .udpFirewall: "none, but a firewall that lets answers in only"
      case .fullCone: "full cone"
      case .restricted: "address-restricted"
      case .portRestricted: "port-restricted"
      case .symmetric: "symmetric"
      case .blocked: "UDP blocked"
      }
    let ports =
      switch delta {
      case .unknown: "ports unknown"
      case .none: "ports unchanged"
      case .equal: "outside port as the inside one"
      case .preserved: "distances between ports kept"
      case .independent: "outside port goes up by \(value) each time"
      case .dependent: "outside port goes up by \(value) for the next inside port"
      case .random: "outside ports at random"
      }
    return "\(kind), \(ports)"
  }
}
