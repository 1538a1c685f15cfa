import P2PDNet

/// A node that was found on the local network.
public struct LocalName: Hashable, Sendable {
  public let label: String
  /// Its Ed25519 key, 32 bytes, by its own word: whoever connects proves it.
  public let key: [UInt8]
  /// Its node address.
  public let value: String
  /// Who said so, and on which interface.
  public let from: Endpoint
  public let interface: String

  public init(label: String, key: [UInt8], value: String, from: Endpoint, interface: String) {
    self.label = label
    self.key = key
    self.value = value
    self.from = from
    self.interface = interface
  }
}

/// What a node says of itself on the local network, as records of DNS-SD (RFC 6763):
///
///     _p2pd._udp.local                 PTR  example._p2pd._udp.local
///     example._p2pd._udp.local         SRV  0 0 PORT p2pd-KEY.local
///     example._p2pd._udp.local         TXT  "txtvers=1" "key=KEY" "p2pd=ADDRESS"
///     p2pd-KEY.local                   A, AAAA
///
/// KEY is base64url in the text and base32 in the host's name, whose case must not matter. An address that is longer than
/// one string goes on in `p2pd2=`, `p2pd3=` and so on, as a key counts once only (RFC 6763 §6.4).
struct LocalService: Hashable, Sendable {
  let label: String
  let key: [UInt8]
  let value: String
  let port: UInt16
  /// `example._p2pd._udp.local`.
  let instance: DNSName
  /// Of the key, so that no two hosts have the same.
  let host: DNSName

  /// - Throws: `badName`, `tooLarge`.
  init(label: String, key: [UInt8], value: String, port: UInt16) throws(NetError) {
    let what = "announce \(label) on the local network"
    guard let instance = Self.instance(label) else {
      throw NetError(.badName, what, cause: "a name has 1 to \(DNSName.longestLabel) bytes and no control characters")
    }
    guard key.count == Self.keyLength, let host = Self.host(of: key) else {
      throw NetError(.badName, what, cause: "a key has \(Self.keyLength) bytes")
    }
    guard value.utf8.count <= Self.longestValue else {
      throw NetError(
        .tooLarge, what, cause: "the address has \(value.utf8.count) bytes, the limit is \(Self.longestValue)")
    }
    self.label = label
    self.key = key
    self.value = value
    self.port = port
    self.instance = instance
    self.host = host
  }

  static func instance(_ label: String) -> DNSName? {
    guard label.unicodeScalars.allSatisfy({ $0.value > 0x1f && $0.value != 0x7f }) else { return nil }
    return DNSName(Array(label.utf8), in: type)
  }

  /// The label of a name under the service; nil for other names and what is no text.
  static func label(of name: DNSName) -> String? {
    guard let label = name.label(under: type), let text = String(validating: label, as: UTF8.self),
      instance(text) != nil
    else { return nil }
    return text
  }

  private static func host(of key: [UInt8]) -> DNSName? {
    DNSName(Array((prefix + Base32.encode(key)).utf8), in: local)
  }

  /// The key in a host's name; nil where it is none of ours.
  static func key(of host: DNSName) -> [UInt8]? {
    guard let label = host.label(under: local), label.starts(with: prefix.utf8) else { return nil }
    return Base32.decode(label.dropFirst(prefix.utf8.count)).flatMap { $0.count == keyLength ? $0 : nil }
  }

  static let local = DNSName(["local"])
  static let type = DNSName(["_p2pd", "_udp", "local"])
  /// RFC 6763 §9: who asks for it learns what services there are.
  static let allTypes = DNSName(["_services", "_dns-sd", "_udp", "local"])
  static let keyLength = 32
  /// As on name servers. With everything else it is less than a packet of Ethernet.
  static let longestValue = 1024
  private static let prefix = "p2pd-"
}

/// The strings of the TXT record.
enum LocalText {
  static func strings(key: [UInt8], value: String) -> [[UInt8]] {
    var strings = ["txtvers=1", "key=" + Base64URL.encode(key)].map { Array($0.utf8) }
    var rest = Array(value.utf8)[...]
    var number = 1
    repeat {
      let name = Array(part(number).utf8)
      let piece = rest.prefix(longest - name.count)
      strings.append(name + piece)
      rest = rest.dropFirst(piece.count)
      number += 1
    } while !rest.isEmpty
    return strings
  }

  /// nil where the key or the address is missing or malformed, or it is of a later version.
  static func read(_ strings: [[UInt8]]) -> (key: [UInt8], value: String)? {
    var entries: [String: ArraySlice<UInt8>] = [:]
    for string in strings.prefix(mostStrings) {
      guard let equals = string.firstIndex(of: UInt8(ascii: "=")) else { continue }
      // RFC 6763 §6.4: case does not matter, and of a key that is there twice the first counts.
      let name = String(decoding: string[..<equals], as: UTF8.self).lowercased()
      if entries[name] == nil { entries[name] = string[(equals + 1)...] }
    }
    guard entries["txtvers"].map({ $0.elementsEqual("1".utf8) }) ?? true,
      let key = entries["key"].flatMap({ Base64URL.decode($0) }), key.count == LocalService.keyLength
    else { return nil }
    var bytes: [UInt8] = []
    var number = 1
    while let piece = entries[String(part(number).dropLast())] {
      bytes += piece
      number += 1
    }
    guard number > 1, bytes.count <= LocalService.longestValue, let value = String(validating: bytes, as: UTF8.self)
    else { return nil }
    return (key, value)
  }

  private static func part(_ number: Int) -> String { number == 1 ? "p2pd=" : "p2pd\(number)=" }

  /// Bytes of a string.
  private static let longest = 255
  /// Five carry the longest address; later versions may have more to say.
  private static let mostStrings = 32
}

extension DNSName {
  /// A name written in the program.
  fileprivate init(_ labels: [String]) { self = DNSName(labels: labels.map { Array($0.utf8) }) ?? .root }
}
