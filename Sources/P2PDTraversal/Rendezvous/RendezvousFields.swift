import P2PDNet

// The values of a rendezvous message's fields. Readers give nil for what cannot be; what they read they can write again.

extension ConnectStrategy {
  /// Numbers are given once and never again.
  var number: UInt8 {
    switch self {
    case .direct: 0
    case .reverse: 1
    case .punch: 2
    case .relay: 3
    }
  }

  var bit: UInt8 { 1 << number }

  init?(number: UInt8) {
    guard let found = Self.allCases.first(where: { $0.number == number }) else { return nil }
    self = found
  }
}

extension Endpoint {
  var bytes: [UInt8] {
    var bytes = [ip.family.rawValue] + ip.bytes
    bytes.append(uint16: port)
    return bytes
  }

  init?(_ reader: inout ByteReader) {
    guard let family = reader.byte().flatMap({ AddressFamily(rawValue: $0) }),
      let ip = reader.bytes(family == .v4 ? 4 : 16).flatMap({ IPAddress(bytes: $0) }), let port = reader.uint16()
    else { return nil }
    self.init(ip: ip, port: port)
  }
}

// PeerPath:
//   interface (4 bits), external there (1), mapped there (1), udp there (1), tcp there (1)
//   local endpoint, external endpoint, mapped endpoint, udp, tcp
extension PeerPath {
  var bytes: [UInt8] {
    var flags = interface << 4
    if external != nil { flags |= 8 }
    if mapped != nil { flags |= 4 }
    if udp != nil { flags |= 2 }
    if tcp != nil { flags |= 1 }
    var bytes = [flags] + local.bytes
    if let external { bytes += external.bytes }
    if let mapped { bytes += mapped.bytes }
    if let udp { bytes += udp.bytes }
    if let tcp { bytes += tcp.bytes }
    return bytes
  }

  init?(_ reader: inout ByteReader) {
    guard let flags = reader.byte(), let local = Endpoint(&reader), local.port != 0 else { return nil }
    self.init(interface: flags >> 4, local: local)
    if flags & 8 != 0 {
      guard let endpoint = Endpoint(&reader) else { return nil }
      external = endpoint
    }
    if flags & 4 != 0 {
      guard let endpoint = Endpoint(&reader), endpoint.port != 0 else { return nil }
      mapped = endpoint
    }
    if flags & 2 != 0 {
      guard let way = NATWay(&reader) else { return nil }
      udp = way
    }
    if flags & 1 != 0 {
      guard let way = NATWay(&reader) else { return nil }
      tcp = way
    }
  }
}

// NATWay: mapping (4 bits), filtering (4 bits), 0 is not known; allocation.
extension NATWay {
  var bytes: [UInt8] {
    [(mapping?.number ?? 0) << 4 | (filtering?.number ?? 0)] + PortAllocation.bytes(of: allocation)
  }

  /// A number of a later version is not known.
  init?(_ reader: inout ByteReader) {
    guard let numbers = reader.byte(), let allocation = PortAllocation.read(&reader) else { return nil }
    self.init(
      mapping: NATBehaviour.Mapping.numbered.first { $0.number == numbers >> 4 },
      filtering: NATBehaviour.Filtering.numbered.first { $0.number == numbers & 15 }, allocation: allocation)
  }
}

extension NATBehaviour.Mapping {
  fileprivate static let numbered: [Self] = [
    .none, .endpointIndependent, .addressDependent, .addressAndPortDependent, .endpointDependent,
  ]
  fileprivate var number: UInt8 {
    switch self {
    case .none: 1
    case .endpointIndependent: 2
    case .addressDependent: 3
    case .addressAndPortDependent: 4
    case .endpointDependent: 5
    }
  }
}

extension NATBehaviour.Filtering {
  fileprivate static let numbered: [Self] = [.none, .endpointIndependent, .addressDependent, .addressAndPortDependent]
  fileprivate var number: UInt8 {
    switch self {
    case .none: 1
    case .endpointIndependent: 2
    case .addressDependent: 3
    case .addressAndPortDependent: 4
    }
  }
}

// PortAllocation: kind (1): 0 not known, 1 preserving, 2 offset: ports (4, signed), 3 sequential: step (4, signed), lowest
// and highest port (2 each), 4 random: lowest and highest.
extension PortAllocation {
  static func bytes(of allocation: PortAllocation?) -> [UInt8] {
    var bytes: [UInt8] = []
    switch allocation {
    case nil: bytes.append(0)
    case .preserving?: bytes.append(1)
    case .offset(let ports)?:
      bytes.append(2)
      bytes.append(uint32: UInt32(bitPattern: Int32(clamping: ports)))
    case .sequential(let step, let range)?:
      bytes.append(3)
      bytes.append(uint32: UInt32(bitPattern: Int32(clamping: step)))
      bytes.append(range)
    case .random(let range)?:
      bytes.append(4)
      bytes.append(range)
    }
    return bytes
  }

  /// The outer nil: it cannot be; the inner one: it is not known.
  static func read(_ reader: inout ByteReader) -> PortAllocation?? {
    switch reader.byte() {
    case 0: return .some(nil)
    case 1: return .preserving
    case 2: return reader.uint32().map { .offset(Int(Int32(bitPattern: $0))) }
    case 3:
      guard let step = reader.uint32(), let range = range(&reader) else { return nil }
      return .sequential(step: Int(Int32(bitPattern: step)), range: range)
    case 4:
      guard let range = range(&reader) else { return nil }
      return .random(range: range)
    default: return nil
    }
  }

  private static func range(_ reader: inout ByteReader) -> ClosedRange<UInt16>? {
    guard let low = reader.uint16(), let high = reader.uint16(), low <= high else { return nil }
    return low...high
  }
}

extension [UInt8] {
  fileprivate mutating func append(_ range: ClosedRange<UInt16>) {
    append(uint16: range.lowerBound)
    append(uint16: range.upperBound)
  }
}

// A path of a PunchSide:
//   family (1: 4 or 6), NATWay, hairpin (1): 0 not known, 1 no, 2 external, 3 internal
//   ports (1); of each: predicted (1 bit), endpoints (7 bits), then address and port of each endpoint
extension PunchSide.Path {
  var bytes: [UInt8] {
    var bytes = [family.rawValue]
    bytes += NATWay(mapping: mapping, filtering: filtering, allocation: allocation).bytes
    switch hairpin {
    case nil: bytes.append(0)
    case .no?: bytes.append(1)
    case .externalSource?: bytes.append(2)
    case .internalSource?: bytes.append(3)
    }
    let ports = ports.prefix(PunchSide.mostPorts)
    bytes.append(UInt8(ports.count))
    for port in ports {
      let endpoints = port.endpoints.filter { $0.ip.family == family }.prefix(PunchSide.mostEndpoints)
      bytes.append((port.isPredicted ? 0x80 : 0) | UInt8(endpoints.count))
      for endpoint in endpoints {
        bytes += endpoint.ip.bytes
        bytes.append(uint16: endpoint.port)
      }
    }
    return bytes
  }

  init?(_ reader: inout ByteReader) {
    guard let family = reader.byte().flatMap({ AddressFamily(rawValue: $0) }), let way = NATWay(&reader),
      let hairpin = reader.byte(), let count = reader.byte(), count <= PunchSide.mostPorts
    else { return nil }
    self.init(family, mapping: way.mapping, filtering: way.filtering, allocation: way.allocation)
    switch hairpin {
    case 1: self.hairpin = .no
    case 2: self.hairpin = .externalSource
    case 3: self.hairpin = .internalSource
    default: break
    }
    for _ in 0..<count {
      guard let head = reader.byte(), head & 0x7f <= PunchSide.mostEndpoints else { return nil }
      var endpoints: [Endpoint] = []
      for _ in 0..<head & 0x7f {
        guard let ip = reader.bytes(family == .v4 ? 4 : 16).flatMap({ IPAddress(bytes: $0) }),
          let port = reader.uint16()
        else { return nil }
        endpoints.append(Endpoint(ip: ip, port: port))
      }
      ports.append(PunchSide.Port(endpoints, isPredicted: head & 0x80 != 0))
    }
  }
}

// PathAttempt:
//   strategy (1), outcome (1), local there (1 bit), remote there (1 bit), 0 (6 bits), local, remote, words as UTF-8
extension PathAttempt {
  var bytes: [UInt8] {
    var bytes = [strategy.number, Self.outcomes.firstIndex(of: outcome).map { UInt8($0) } ?? 0]
    bytes.append((local == nil ? 0 : 1) | (remote == nil ? 0 : 2))
    if let local { bytes += local.bytes }
    if let remote { bytes += remote.bytes }
    var words = seen
    while words.utf8.count > Rendezvous.longestWords { words.removeLast() }
    return bytes + Array(words.utf8)
  }

  /// The outer nil: it cannot be; the inner one: of a strategy this version does not know. The words are another node's:
  /// only what can be shown is taken.
  static func read(_ reader: inout ByteReader) -> PathAttempt?? {
    guard let number = reader.byte(), let outcome = reader.byte(), let flags = reader.byte() else { return nil }
    var ends: [Endpoint?] = [nil, nil]
    for index in ends.indices where flags & 1 << index != 0 {
      guard let endpoint = Endpoint(&reader) else { return nil }
      ends[index] = endpoint
    }
    let words = reader.rest()
    guard words.count <= Rendezvous.longestWords else { return nil }
    guard let strategy = ConnectStrategy(number: number) else { return .some(nil) }
    let shown = words.map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }
    return PathAttempt(
      strategy, local: ends[0], remote: ends[1], outcome < outcomes.count ? outcomes[Int(outcome)] : .io,
      String(decoding: shown, as: UTF8.self))
  }

  /// By number, the first for all that have none; numbers are given once and never again.
  static let outcomes: [NetError.Code] = [
    .io, .timeout, .closed, .reset, .refused, .unreachable, .limit, .tls, .cancelled, .unsupported, .inUse, .permission,
    .badAddress, .noProtocol, .wrongKey, .notP2PD,
  ]
}
