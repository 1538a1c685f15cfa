import P2PDNet

/// Bytes and packets of MQTT 3.1.1, both ways: this side's, and the broker's for tests that play one. Strict: what the
/// standard calls malformed is an error, and nothing in the bytes traps.
enum MQTTCodec {
  // MARK: Writing

  /// The whole packet with its fixed header. Strings and payloads over what their length fields hold are cut; callers
  /// keep to ``longestString`` and ``longestBody``.
  static func encode(_ packet: MQTTPacket) -> [UInt8] {
    var body: [UInt8] = []
    var head: UInt8
    switch packet {
    case .connect(let connect):
      head = 0x10
      body.append(string: "MQTT")
      body.append(4)
      var flags: UInt8 = connect.cleanSession ? 2 : 0
      if connect.user != nil { flags |= 0x80 }
      if connect.user != nil, connect.password != nil { flags |= 0x40 }
      body.append(flags)
      body.append(uint16: connect.keepAlive)
      body.append(string: connect.clientID)
      if let user = connect.user {
        body.append(string: user)
        if let password = connect.password { body.append(field: password) }
      }
    case .connack(let sessionPresent, let code):
      head = 0x20
      body = [sessionPresent ? 1 : 0, code]
    case .publish(let publish):
      head = 0x30 | (publish.qos & 1) << 1 | (publish.isRetained ? 1 : 0)
      if publish.isDuplicate, publish.qos > 0 { head |= 8 }
      body.append(string: publish.topic)
      if publish.qos > 0 { body.append(uint16: publish.id ?? 0) }
      body += publish.payload.prefix(longestBody - body.count)
    case .puback(let id):
      head = 0x40
      body.append(uint16: id)
    case .subscribe(let id, let filters):
      head = 0x82
      body.append(uint16: id)
      for filter in filters {
        body.append(string: filter.topic)
        body.append(filter.qos)
      }
    case .suback(let id, let codes):
      head = 0x90
      body.append(uint16: id)
      body += codes
    case .unsubscribe(let id, let filters):
      head = 0xa2
      body.append(uint16: id)
      for filter in filters { body.append(string: filter) }
    case .unsuback(let id):
      head = 0xb0
      body.append(uint16: id)
    case .pingreq: head = 0xc0
    case .pingresp: head = 0xd0
    case .disconnect: head = 0xe0
    }
    return [head] + length(body.count) + body
  }

  /// The length field (§2.2.3): seven bits a byte, small end first.
  private static func length(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = count
    repeat {
      let low = UInt8(truncatingIfNeeded: rest & 0x7f)
      rest >>= 7
      bytes.append(rest > 0 ? low | 0x80 : low)
    } while rest > 0
    return bytes
  }

  // MARK: Reading

  /// The fixed header: its first byte, the body's length, and the bytes both took. nil: more bytes are needed.
  static func header(_ bytes: ArraySlice<UInt8>) throws(MQTTError) -> (first: UInt8, length: Int, size: Int)? {
    guard let first = bytes.first else { return nil }
    var length = 0
    for (index, byte) in bytes.dropFirst().prefix(4).enumerated() {
      length |= Int(byte & 0x7f) << (7 * index)
      if byte & 0x80 == 0 { return (first, length, index + 2) }
    }
    if bytes.count > 4 { throw .length }
    return nil
  }

  /// The packet of a fixed header's first byte and its whole body.
  static func decode(_ first: UInt8, _ body: ArraySlice<UInt8>) throws(MQTTError) -> MQTTPacket {
    let type = first >> 4
    var reader = ByteReader(body)
    func malformed(_ what: String) -> MQTTError { .malformed(type, what) }
    if type != 3 {
      // §2.2.2: all other types have one allowed set of flags.
      guard first & 15 == (type == 8 || type == 10 ? 2 : 0) else { throw malformed("flags") }
    }
    let packet: MQTTPacket
    switch type {
    case 1: packet = .connect(try connect(&reader))
    case 2:
      guard let flags = reader.byte(), let code = reader.byte() else { throw malformed("cut short") }
      guard flags <= 1 else { throw malformed("flags") }
      packet = .connack(sessionPresent: flags == 1, code: code)
    case 3: packet = .publish(try publish(first, &reader))
    case 4: packet = .puback(id: try identifier(type, &reader))
    case 8:
      let id = try identifier(type, &reader)
      var filters: [MQTTFilter] = []
      while !reader.isAtEnd {
        guard let topic = reader.string(), !topic.isEmpty, let qos = reader.byte() else { throw malformed("filter") }
        guard qos <= 2 else { throw malformed("quality") }
        filters.append(MQTTFilter(topic: topic, qos: qos))
      }
      guard !filters.isEmpty else { throw malformed("no filter") }
      packet = .subscribe(id: id, filters: filters)
    case 9:
      let id = try identifier(type, &reader)
      guard let codes = reader.bytes(reader.remaining), !codes.isEmpty else { throw malformed("no code") }
      guard codes.allSatisfy({ $0 <= 2 || $0 == 0x80 }) else { throw malformed("code") }
      packet = .suback(id: id, codes: Array(codes))
    case 10:
      let id = try identifier(type, &reader)
      var filters: [String] = []
      while !reader.isAtEnd {
        guard let topic = reader.string(), !topic.isEmpty else { throw malformed("filter") }
        filters.append(topic)
      }
      guard !filters.isEmpty else { throw malformed("no filter") }
      packet = .unsubscribe(id: id, filters: filters)
    case 11: packet = .unsuback(id: try identifier(type, &reader))
    case 12: packet = .pingreq
    case 13: packet = .pingresp
    case 14: packet = .disconnect
    default: throw .unexpected(type)
    }
    guard reader.isAtEnd else { throw malformed("too long") }
    return packet
  }

  private static func identifier(_ type: UInt8, _ reader: inout ByteReader) throws(MQTTError) -> UInt16 {
    guard let id = reader.uint16(), id != 0 else { throw .malformed(type, "identifier") }
    return id
  }

  private static func publish(_ first: UInt8, _ reader: inout ByteReader) throws(MQTTError) -> MQTTPublish {
    let qos = first >> 1 & 3
    guard qos <= 1 else { throw .malformed(3, "quality") }
    guard qos == 1 || first & 8 == 0 else { throw .malformed(3, "flags") }
    // §3.3.2.1: a topic to publish on has no wildcard.
    guard let topic = reader.string(), !topic.isEmpty, !topic.utf8.contains(where: { "+#".utf8.contains($0) }) else {
      throw .malformed(3, "topic")
    }
    let id = qos == 1 ? try identifier(3, &reader) : nil
    let payload = reader.bytes(reader.remaining).map(Array.init) ?? []
    return MQTTPublish(
      topic: topic, payload: payload, qos: qos, id: id, isDuplicate: first & 8 != 0, isRetained: first & 1 != 0)
  }

  private static func connect(_ reader: inout ByteReader) throws(MQTTError) -> MQTTConnect {
    guard reader.string() == "MQTT", reader.byte() == 4, let flags = reader.byte(), let keepAlive = reader.uint16(),
      let clientID = reader.string()
    else { throw .malformed(1, "cut short") }
    // Bit 0 is reserved; bits 2 to 5 are the will's, which no client of ours has; a password needs a user.
    guard flags & 0x3d == 0, flags & 0xc0 != 0x40 else { throw .malformed(1, "flags") }
    var connect = MQTTConnect(clientID: clientID, cleanSession: flags & 2 != 0, keepAlive: keepAlive)
    if flags & 0x80 != 0 {
      guard let user = reader.string() else { throw .malformed(1, "user") }
      connect.user = user
    }
    if flags & 0x40 != 0 {
      guard let count = reader.uint16(), let bytes = reader.bytes(Int(count)) else { throw .malformed(1, "password") }
      connect.password = Array(bytes)
    }
    return connect
  }

  static let longestString = 0xffff
  /// §2.2.3.
  static let longestBody = 268_435_455
}

extension ByteReader {
  /// §1.5.3: well-formed UTF-8 without U+0000, behind two bytes of length.
  fileprivate mutating func string() -> String? {
    guard let count = uint16(), let bytes = bytes(Int(count)), !bytes.contains(0) else { return nil }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension [UInt8] {
  fileprivate mutating func append(string: String) { append(field: Array(string.utf8)) }

  fileprivate mutating func append(field: [UInt8]) {
    let bytes = field.prefix(MQTTCodec.longestString)
    append(uint16: UInt16(truncatingIfNeeded: bytes.count))
    self += bytes
  }
}
