import Crypto
import P2PDNet

// The token: "p2pd", the version "1", then base64url (RFC 4648 §5, unpadded) of
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +---------------------------------------------------------------+
//   |                    Ed25519 public key (32 bytes)              |   signed: the bytes from here ...
//   +---------------------------------------------------------------+
//   |                issued: seconds since 1970 (UTC)               |
//   +---------------+---------------+-------------------------------+
//   |  field type   | value length  | value, 0 to 255 bytes     ... |   any number of fields, in any order
//   +---------------+---------------+-------------------------------+   ... to here, after "p2pd address 1\0"
//   |                  Ed25519 signature (64 bytes)                 |
//   +---------------------------------------------------------------+
//   |     the first 4 bytes of SHA-256 of all the bytes before      |
//   +---------------------------------------------------------------+
//
// A reader skips fields of a type it does not know, and bytes that follow what it knows of a field: both are signed,
// and room for later.
//
// Field 1, a route:
//   +-------+-+---+-+---------------+---------------+---------------+
//   | iface |F| X |N|             port              | nic address .. |   F: 0 IPv4 (4 bytes), 1 IPv6 (16 bytes)
//   +-------+-+---+-+---------------+---------------+---------------+   X: 0 external unknown, 1 none, 2 given
//   |  if X = 2: external port (0: unknown), external address       |   N: the two rows on NAT are there
//   +-------+-------+-----------------------------------------------+
//   |  NAT  | delta |  if N: P2PD's numbers, 0 unknown              |
//   +-------+-------+-----------------------------------------------+
//   |                     if N: delta value, signed                 |
//   +---------------------------------------------------------------+
//
// Field 2, a broker for signals:
//   +-------------+-+-------------------------------+---------------+
//   |  (0)        |T|             port              | host, UTF-8 .. |   T: 1 TLS
//   +-------------+-+-------------------------------+---------------+

extension NodeAddress {
  /// Makes and signs an address. `issued` is in seconds since 1970.
  /// Throws ``NodeAddressError``: `malformed` (too many routes or servers, a name too long), `tooLong`.
  public static func make(
    by identity: Identity, issued: UInt32, routes: [NodeRoute], signalling: [SignalServer] = []
  ) throws -> NodeAddress {
    guard routes.count <= maximumRoutes else { throw NodeAddressError.malformed("more than \(maximumRoutes) routes") }
    guard signalling.count <= maximumServers else {
      throw NodeAddressError.malformed("more than \(maximumServers) signal servers")
    }
    var body = identity.key.bytes
    body.append(uint32: issued)
    for route in routes { try body.append(field: .route, route.bytes) }
    for server in signalling { try body.append(field: .signalServer, server.bytes) }
    return try make(by: identity, body: body)
  }

  /// As ``make(by:issued:routes:signalling:)``; where that would be too long, the last routes are left out, which are the
  /// least likely ways.
  static func fitting(
    by identity: Identity, issued: UInt32, routes: [NodeRoute], signalling: [SignalServer]
  ) throws -> NodeAddress {
    var routes = routes
    while true {
      do {
        return try make(by: identity, issued: issued, routes: routes, signalling: signalling)
      } catch NodeAddressError.tooLong where !routes.isEmpty {
        routes.removeLast()
      }
    }
  }

  /// The token of a body that may hold anything: tests make later versions' addresses, and hostile ones, with it.
  static func make(by identity: Identity, body: [UInt8]) throws -> NodeAddress {
    var bytes = body
    bytes += try identity.sign(signedPrefix + body)
    bytes += SHA256.hash(data: bytes).prefix(checksumLength)
    return try NodeAddress(prefix + Base64URL.encode(bytes))
  }

  /// Reads a token and checks its checksum and signature. White space around it is allowed. Throws
  /// ``NodeAddressError``.
  public init(_ text: some StringProtocol) throws(NodeAddressError) {
    let token = Array(text.utf8.drop(while: Self.isSpace).reversed().drop(while: Self.isSpace).reversed())
    guard token.starts(with: Self.prefix.utf8.dropLast()), token.count >= Self.prefix.utf8.count else {
      throw .notAnAddress
    }
    guard token.starts(with: Self.prefix.utf8) else {
      let version = token[Self.prefix.utf8.count - 1]
      guard (0x30...0x39).contains(version) || (0x61...0x7a).contains(version) else { throw .notAnAddress }
      throw .unknownVersion(Character(UnicodeScalar(version)))
    }
    guard token.count <= Self.maximumLength else { throw .tooLong(token.count) }
    guard let bytes = Base64URL.decode(token.dropFirst(Self.prefix.utf8.count)),
      bytes.count >= NodeKey.length + 4 + Self.signatureLength + Self.checksumLength,
      SHA256.hash(data: bytes.dropLast(Self.checksumLength)).prefix(Self.checksumLength).elementsEqual(
        bytes.suffix(Self.checksumLength))
    else { throw .damaged }
    let signed = bytes.dropLast(Self.checksumLength)
    let body = signed.dropLast(Self.signatureLength)
    var reader = ByteReader(body)
    guard let key = reader.bytes(NodeKey.length).flatMap({ NodeKey(bytes: $0) }), let issued = reader.uint32() else {
      throw .damaged
    }
    guard key.isValid(signature: signed.suffix(Self.signatureLength), of: Self.signedPrefix + body) else {
      throw .badSignature
    }
    var routes: [NodeRoute] = []
    var servers: [SignalServer] = []
    while !reader.isAtEnd {
      guard let type = reader.byte(), let length = reader.byte(), let value = reader.bytes(Int(length)) else {
        throw .malformed("a field is longer than what is left")
      }
      switch Field(rawValue: type) {
      case .route:
        guard routes.count < Self.maximumRoutes else { throw .malformed("more than \(Self.maximumRoutes) routes") }
        routes.append(try NodeRoute(value))
      case .signalServer:
        guard servers.count < Self.maximumServers else {
          throw .malformed("more than \(Self.maximumServers) signal servers")
        }
        servers.append(try SignalServer(value))
      case nil: continue
      }
    }
    self.init(
      key: key, issued: issued, routes: routes, signalling: servers, text: String(decoding: token, as: UTF8.self))
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

  /// The types of field; numbers are given once and never again.
  enum Field: UInt8 {
    case route = 1
    case signalServer = 2
  }

  /// Whether the text is meant as an address, of whatever version, rather than as a name or a place. It may still be none.
  public static func isMeant(_ text: String) -> Bool {
    text.utf8.starts(with: prefix.utf8.dropLast()) && !text.utf8.contains { ".:".utf8.contains($0) }
  }

  static let prefix = "p2pd1"
  /// Keeps a signature on an address from passing for one on anything else that this key signs.
  private static let signedPrefix = Array("p2pd address 1\0".utf8)
  private static let signatureLength = 64
  private static let checksumLength = 4
}

extension [UInt8] {
  fileprivate mutating func append(field: NodeAddress.Field, _ value: [UInt8]) throws {
    guard let length = UInt8(exactly: value.count) else {
      throw NodeAddressError.malformed("a field of \(value.count) bytes")
    }
    self += [field.rawValue, length] + value
  }
}

extension NodeRoute {
  fileprivate var bytes: [UInt8] {
    var flags = interface << 4 | (family == .v6 ? 8 : 0) | (nat == nil ? 0 : 1)
    switch external {
    case .unknown: break
    case .none: flags |= 1 << 1
    // An outside address of the other family (NAT64) has no place in this layout.
    case .at(let seen): if seen.ip.family == family { flags |= 2 << 1 }
    }
    var bytes = [flags]
    bytes.append(uint16: port)
    bytes += nic.bytes
    if case .at(let seen) = external, seen.ip.family == family {
      bytes.append(uint16: seen.port)
      bytes += seen.ip.bytes
    }
    if let nat {
      bytes.append(nat.type.rawValue << 4 | nat.delta.rawValue)
      bytes.append(uint32: UInt32(bitPattern: nat.value))
    }
    return bytes
  }

  fileprivate init(_ value: ArraySlice<UInt8>) throws(NodeAddressError) {
    var reader = ByteReader(value)
    guard let flags = reader.byte(), let port = reader.uint16() else { throw .malformed("a route is cut short") }
    let length = flags & 8 == 0 ? 4 : 16
    guard let nic = reader.bytes(length).flatMap({ IPAddress(bytes: $0) }) else {
      throw .malformed("a route is cut short")
    }
    guard port != 0 else { throw .malformed("a route's port is 0") }
    guard nic.isUsableHost else { throw .malformed("a route leads to \(nic)") }
    var external = ExternalAddress.unknown
    switch flags >> 1 & 3 {
    case 1: external = .none
    case 2:
      guard let port = reader.uint16(), let ip = reader.bytes(length).flatMap({ IPAddress(bytes: $0) }) else {
        throw .malformed("a route is cut short")
      }
      guard ip.isUsableHost, !ip.isLoopback else { throw .malformed("a route's outside address is \(ip)") }
      external = .at(Endpoint(ip: ip, port: port))
    default: break
    }
    var nat: NATFacts?
    if flags & 1 != 0 {
      guard let types = reader.byte(), let value = reader.uint32() else { throw .malformed("a route is cut short") }
      nat = NATFacts(
        type: NATType(rawValue: types >> 4) ?? .unknown, delta: DeltaType(rawValue: types & 15) ?? .unknown,
        value: Int32(bitPattern: value))
    }
    self.init(interface: flags >> 4, nic: nic, port: port, external: external, nat: nat)
  }
}

extension IPAddress {
  /// One host can have it: not the wildcard, a group, or everybody; nor IPv4 in IPv6's clothes, which rules for IPv4
  /// would not see.
  var isUsableHost: Bool { !isWildcard && !isMulticast && !isBroadcast && unmapped == self }
}

extension SignalServer {
  fileprivate var bytes: [UInt8] {
    var bytes: [UInt8] = [tls ? 1 : 0]
    bytes.append(uint16: port)
    return bytes + Array(host.utf8)
  }

  fileprivate init(_ value: ArraySlice<UInt8>) throws(NodeAddressError) {
    var reader = ByteReader(value)
    guard let flags = reader.byte(), let port = reader.uint16(), port != 0, let host = reader.bytes(reader.remaining),
      (1...253).contains(host.count), host.allSatisfy({ (0x21...0x7e).contains($0) })
    else { throw .malformed("a signal server") }
    self.init(host: String(decoding: host, as: UTF8.self), port: port, tls: flags & 1 != 0)
  }
}
