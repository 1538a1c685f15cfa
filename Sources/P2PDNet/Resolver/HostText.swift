/// What the text of a host is before anybody is asked about it.
enum HostText: Hashable {
  /// An address written out, or a name every host knows.
  case addresses([IPAddress])
  /// A name to look up.
  case name(String)
  /// Neither, and why.
  case invalid(String)

  init(_ text: String) {
    var text = text
    if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
    if let literal = IPAddress(text) {
      self = .addresses([literal])
      return
    }
    if text.contains(":") || text.contains("%") {
      self = .invalid(
        text.contains("%") ? "it is no IPv6 address with a zone of this host" : "it is no IPv6 address")
      return
    }
    let name = text.hasSuffix(".") ? String(text.dropLast()) : text
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    // RFC 1035 §2.3.4: 255 octets on the wire, which leaves 253 characters; labels of 63.
    if name.isEmpty || name.utf8.count > 253 || labels.contains(where: { $0.isEmpty || $0.utf8.count > 63 }) {
      self = .invalid(name.isEmpty ? "it is empty" : "it is no host name: a part of it is empty or too long")
    } else if name.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }) {
      self = .invalid("it has a space or a control character")
    } else if let last = labels.last, last.allSatisfy({ $0.isASCII && $0.isNumber }) {
      // The system's resolver would read 127.1 or 2130706433 as IPv4; such forms are mistakes or tricks.
      self = .invalid("it is no IPv4 address")
    } else if labels.last?.lowercased() == "localhost" {
      // RFC 6761 §6.3: names under localhost never leave the host.
      self = .addresses([.loopback(.v6), .loopback(.v4)])
    } else {
      self = .name(text.lowercased())
    }
  }
}
