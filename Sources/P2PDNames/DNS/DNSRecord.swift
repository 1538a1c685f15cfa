import P2PDNet

/// What a record is about (RFC 1035 §3.2.2 and IANA's list).
struct DNSType: Hashable, Sendable, CustomStringConvertible {
  let number: UInt16
  init(_ number: UInt16) { self.number = number }

  static let a = DNSType(1)
  static let cname = DNSType(5)
  static let ptr = DNSType(12)
  static let txt = DNSType(16)
  /// RFC 3596.
  static let aaaa = DNSType(28)
  /// RFC 2782.
  static let srv = DNSType(33)
  /// RFC 6891: not a record, but the sender's abilities.
  static let opt = DNSType(41)
  /// RFC 4034 §4; in multicast DNS: what types the name has (RFC 6762 §6.1).
  static let nsec = DNSType(47)
  /// Questions only: all there is.
  static let any = DNSType(255)

  var description: String {
    switch self {
    case .a: "A"
    case .cname: "CNAME"
    case .ptr: "PTR"
    case .txt: "TXT"
    case .aaaa: "AAAA"
    case .srv: "SRV"
    case .opt: "OPT"
    case .nsec: "NSEC"
    case .any: "ANY"
    default: "TYPE\(number)"
    }
  }
}

/// A question of a message.
struct DNSQuestion: Hashable, Sendable {
  var name: DNSName
  var type: DNSType
  /// The class field as it is on the wire.
  var rawClass: UInt16 = 1

  /// Class Internet, or any.
  var isInternet: Bool { [1, 255].contains(rawClass & 0x7fff) }
  /// Multicast DNS: an answer to the asker alone will do (RFC 6762 §5.4).
  var wantsUnicast: Bool { rawClass & 0x8000 != 0 }
}

/// A record of a message.
struct DNSRecord: Hashable, Sendable {
  var name: DNSName
  /// The class field as it is on the wire; of ``DNSType/opt`` a size.
  var rawClass: UInt16 = 1
  /// Seconds. Of ``DNSType/opt`` flags.
  var ttl: UInt32
  var data: DNSData

  var type: DNSType { data.type }
  var isInternet: Bool { rawClass & 0x7fff == 1 }
  /// Multicast DNS: no other record of this name and type is true (RFC 6762 §10.2).
  var isUnique: Bool { rawClass & 0x8000 != 0 }

  /// It says the same, for however long.
  func saysSame(as other: DNSRecord) -> Bool {
    name == other.name && rawClass & 0x7fff == other.rawClass & 0x7fff && data == other.data
  }
}

/// What a record says.
enum DNSData: Hashable, Sendable {
  case a(IPAddress)
  case aaaa(IPAddress)
  case ptr(DNSName)
  case cname(DNSName)
  /// Where the service is; priorities and weights are not used here.
  case srv(priority: UInt16, weight: UInt16, port: UInt16, target: DNSName)
  /// At least one string, of 255 bytes at most each.
  case txt([[UInt8]])
  case nsec(next: DNSName, types: [DNSType])
  /// Of any other type, as it is on the wire.
  case other(DNSType, [UInt8])

  var type: DNSType {
    switch self {
    case .a: .a
    case .aaaa: .aaaa
    case .ptr: .ptr
    case .cname: .cname
    case .srv: .srv
    case .txt: .txt
    case .nsec: .nsec
    case .other(let type, _): type
    }
  }

  /// - Parameter part: the record's data alone.
  init?(_ type: DNSType, _ part: DNSReader) {
    var part = part
    switch type {
    case .a, .aaaa:
      let bytes = part.rest()
      guard let ip = IPAddress(bytes: bytes), ip.family == (type == .a ? .v4 : .v6) else { return nil }
      self = type == .a ? .a(ip) : .aaaa(ip)
    case .ptr, .cname:
      guard let name = part.name(), part.isAtEnd else { return nil }
      self = type == .ptr ? .ptr(name) : .cname(name)
    case .srv:
      guard let priority = part.uint16(), let weight = part.uint16(), let port = part.uint16(),
        let target = part.name(), part.isAtEnd
      else { return nil }
      self = .srv(priority: priority, weight: weight, port: port, target: target)
    case .txt:
      var strings: [[UInt8]] = []
      while let length = part.byte() {
        guard let string = part.take(Int(length)) else { return nil }
        strings.append(Array(string))
      }
      // None is written as one that is empty (RFC 6763 §6.1); some write none.
      self = .txt(strings.isEmpty ? [[]] : strings)
    case .nsec:
      guard let next = part.name() else { return nil }
      self = .nsec(next: next, types: Self.types(&part))
    default: self = .other(type, Array(part.rest()))
    }
  }

  func write(_ writer: inout DNSWriter) {
    switch self {
    case .a(let ip), .aaaa(let ip): writer.append(ip.bytes)
    case .ptr(let name), .cname(let name): writer.name(name)
    case .srv(let priority, let weight, let port, let target):
      writer.append(uint16: priority)
      writer.append(uint16: weight)
      writer.append(uint16: port)
      // RFC 6762 §18.14 lets this name be shortened, unlike RFC 2782. Only multicast DNS writes it.
      writer.name(target)
    case .txt(let strings):
      for string in strings {
        writer.append(UInt8(clamping: string.count))
        writer.append(string.prefix(255))
      }
    case .nsec(let next, let types):
      writer.name(next)
      Self.write(types, &writer)
    case .other(_, let bytes): writer.append(bytes)
    }
  }

  /// Its bytes with names in full, which is how RFC 6762 §8.2 compares.
  var canonical: [UInt8] {
    switch self {
    case .ptr(let name), .cname(let name): return name.wire
    case .srv(let priority, let weight, let port, let target):
      var bytes: [UInt8] = []
      for number in [priority, weight, port] { bytes.append(uint16: number) }
      return bytes + target.wire
    default:
      var writer = DNSWriter()
      write(&writer)
      return writer.bytes
    }
  }

  // MARK: Sets of types (RFC 4034 §4.1.2)

  /// As far as it can be read: python-zeroconf 0.47 of Debian 12 writes them wrongly, and nothing here hangs on them.
  private static func types(_ part: inout DNSReader) -> [DNSType] {
    var types: [DNSType] = []
    var last = -1
    while let window = part.byte(), Int(window) > last, let length = part.byte(), (1...32).contains(length),
      let bits = part.take(Int(length))
    {
      last = Int(window)
      for (index, byte) in bits.enumerated() {
        for bit in 0..<8 where byte & (0x80 >> bit) != 0 {
          types.append(DNSType(UInt16(window) << 8 | UInt16(index * 8 + bit)))
        }
      }
    }
    return types
  }

  private static func write(_ types: [DNSType], _ writer: inout DNSWriter) {
    let windows = Dictionary(grouping: Set(types)) { UInt8($0.number >> 8) }
    for window in windows.keys.sorted() {
      var bits = [UInt8](repeating: 0, count: 32)
      for type in windows[window] ?? [] { bits[Int(type.number & 0xff) / 8] |= 0x80 >> (type.number & 7) }
      let used = (bits.lastIndex { $0 != 0 } ?? 0) + 1
      writer.append(window)
      writer.append(UInt8(used))
      writer.append(bits.prefix(used))
    }
  }
}
