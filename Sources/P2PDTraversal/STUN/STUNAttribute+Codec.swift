import P2PDNet

/// The attributes' bytes.
extension STUNAttribute {
  /// The number in front of the value.
  public var type: UInt16 {
    switch self {
    case .mappedAddress: 0x0001
    case .changeRequest: 0x0003
    case .sourceAddress: 0x0004
    case .changedAddress: 0x0005
    case .username: 0x0006
    case .messageIntegrity: 0x0008
    case .errorCode: 0x0009
    case .unknownAttributes: 0x000a
    case .channelNumber: 0x000c
    case .lifetime: 0x000d
    case .xorPeerAddress: 0x0012
    case .data: 0x0013
    case .realm: 0x0014
    case .nonce: 0x0015
    case .xorRelayedAddress: 0x0016
    case .requestedAddressFamily: 0x0017
    case .evenPort: 0x0018
    case .requestedTransport: 0x0019
    case .dontFragment: 0x001a
    case .messageIntegritySHA256: 0x001c
    case .passwordAlgorithm: 0x001d
    case .userHash: 0x001e
    case .xorMappedAddress: 0x0020
    case .reservationToken: 0x0022
    case .padding: 0x0026
    case .responsePort: 0x0027
    case .connectionID: 0x002a
    case .additionalAddressFamily: 0x8000
    case .addressErrorCode: 0x8001
    case .passwordAlgorithms: 0x8002
    case .alternateDomain: 0x8003
    case .icmp: 0x8004
    case .software: 0x8022
    case .alternateServer: 0x8023
    case .fingerprint: 0x8028
    case .responseOrigin: 0x802b
    case .otherAddress: 0x802c
    case .other(let type, _): type
    }
  }

  /// Reads a value. An attribute that may be ignored and does not have its form is ``other(_:_:)``.
  static func read(
    _ type: UInt16, _ value: ArraySlice<UInt8>, _ id: STUNTransactionID
  ) throws(STUNError) -> STUNAttribute {
    guard let known = parse(type, value, id) else {
      guard type >= 0x8000 else { throw .malformed(attribute: type) }
      return .other(type, [UInt8](value))
    }
    return known
  }

  private static func parse(_ type: UInt16, _ value: ArraySlice<UInt8>, _ id: STUNTransactionID) -> STUNAttribute? {
    var reader = ByteReader(value)
    switch type {
    case 0x0001: return endpoint(value).map { .mappedAddress($0) }
    case 0x0003: return exactly(value, reader.uint32()).map { .changeRequest(STUNChange(rawValue: $0 & 6)) }
    case 0x0004: return endpoint(value).map { .sourceAddress($0) }
    case 0x0005: return endpoint(value).map { .changedAddress($0) }
    case 0x0006: return text(value).map { .username($0) }
    case 0x0008: return value.count == 20 ? .messageIntegrity([UInt8](value)) : nil
    case 0x0009: return error(&reader).map { .errorCode($0, $1) }
    case 0x000a: return .unknownAttributes(words(&reader))
    case 0x000c: return value.count == 4 ? reader.uint16().map { .channelNumber($0) } : nil
    case 0x000d: return exactly(value, reader.uint32()).map { .lifetime($0) }
    case 0x0012: return endpoint(value, id).map { .xorPeerAddress($0) }
    case 0x0013: return .data([UInt8](value))
    case 0x0014: return text(value).map { .realm($0) }
    case 0x0015: return .nonce([UInt8](value))
    case 0x0016: return endpoint(value, id).map { .xorRelayedAddress($0) }
    case 0x0017: return value.count == 4 ? family(reader.byte()).map { .requestedAddressFamily($0) } : nil
    case 0x0018: return value.count == 1 ? reader.byte().map { .evenPort(reserve: $0 & 0x80 != 0) } : nil
    case 0x0019: return value.count == 4 ? reader.byte().map { .requestedTransport($0) } : nil
    case 0x001a: return value.isEmpty ? .dontFragment : nil
    case 0x001c:
      return value.count >= 16 && value.count <= 32 && value.count % 4 == 0
        ? .messageIntegritySHA256([UInt8](value)) : nil
    case 0x001d: return algorithm(&reader).map { .passwordAlgorithm($0) }
    case 0x001e: return value.count == 32 ? .userHash([UInt8](value)) : nil
    case 0x0020: return endpoint(value, id).map { .xorMappedAddress($0) }
    case 0x0022: return value.count == 8 ? .reservationToken([UInt8](value)) : nil
    case 0x0026: return .padding(value.count)
    case 0x0027: return value.count >= 2 ? reader.uint16().map { .responsePort($0) } : nil
    case 0x002a: return exactly(value, reader.uint32()).map { .connectionID($0) }
    case 0x8000: return value.count == 4 ? family(reader.byte()).map { .additionalAddressFamily($0) } : nil
    case 0x8001:
      guard let family = family(value.first), let (code, reason) = error(&reader) else { return nil }
      return .addressErrorCode(family, code, reason)
    case 0x8002: return algorithms(&reader).map { .passwordAlgorithms($0) }
    case 0x8003: return text(value).map { .alternateDomain($0) }
    case 0x8004: return icmp(&reader)
    case 0x8022: return text(value).map { .software($0) }
    case 0x8023: return endpoint(value).map { .alternateServer($0) }
    case 0x8028: return exactly(value, reader.uint32()).map { .fingerprint($0) }
    case 0x802b: return endpoint(value).map { .responseOrigin($0) }
    case 0x802c: return endpoint(value).map { .otherAddress($0) }
    default: return .other(type, [UInt8](value))
    }
  }

  /// The value's bytes, without padding.
  func value(_ id: STUNTransactionID) -> [UInt8] {
    var out: [UInt8] = []
    switch self {
    case .mappedAddress(let endpoint), .alternateServer(let endpoint), .responseOrigin(let endpoint),
      .otherAddress(let endpoint), .sourceAddress(let endpoint), .changedAddress(let endpoint):
      Self.write(endpoint, nil, &out)
    case .xorMappedAddress(let endpoint), .xorPeerAddress(let endpoint), .xorRelayedAddress(let endpoint):
      Self.write(endpoint, id, &out)
    case .username(let text), .realm(let text), .software(let text), .alternateDomain(let text): out += text.utf8
    case .userHash(let bytes), .nonce(let bytes), .data(let bytes), .reservationToken(let bytes),
      .messageIntegrity(let bytes), .messageIntegritySHA256(let bytes), .other(_, let bytes):
      out += bytes
    case .passwordAlgorithm(let algorithm): Self.write(algorithm, &out)
    case .passwordAlgorithms(let all): for algorithm in all { Self.write(algorithm, &out) }
    case .errorCode(let code, let reason): Self.write(0, code, reason, &out)
    case .addressErrorCode(let family, let code, let reason): Self.write(Self.number(family), code, reason, &out)
    case .unknownAttributes(let types): for type in types { out.append(uint16: type) }
    case .changeRequest(let change): out.append(uint32: change.rawValue & 6)
    case .responsePort(let port):
      out.append(uint16: port)
      out.append(uint16: 0)
    case .padding(let count): out += repeatElement(0, count: max(0, min(count, 0xffff)))
    case .channelNumber(let number):
      out.append(uint16: number)
      out.append(uint16: 0)
    case .lifetime(let value), .connectionID(let value), .fingerprint(let value): out.append(uint32: value)
    case .requestedTransport(let number): out.append(uint32: UInt32(number) << 24)
    case .evenPort(let reserve): out.append(reserve ? 0x80 : 0)
    case .dontFragment: break
    case .requestedAddressFamily(let family), .additionalAddressFamily(let family):
      out.append(uint32: UInt32(Self.number(family)) << 24)
    case .icmp(let type, let code, let data):
      out.append(uint16: 0)
      out.append(uint16: UInt16(type & 0x7f) << 9 | code & 0x1ff)
      out.append(uint32: data)
    }
    return out
  }

  // MARK: Parts

  private static func exactly<T>(_ value: ArraySlice<UInt8>, _ parsed: T?) -> T? { value.count == 4 ? parsed : nil }

  private static func text(_ value: ArraySlice<UInt8>) -> String? { String(validating: value, as: UTF8.self) }

  /// RFC 8489 §14.1 and, with an id, §14.2: port and address XORed with the cookie and the id.
  private static func endpoint(_ value: ArraySlice<UInt8>, _ id: STUNTransactionID? = nil) -> Endpoint? {
    var reader = ByteReader(value)
    guard reader.skip(1), let family = family(reader.byte()), let port = reader.uint16() else { return nil }
    guard reader.remaining == (family == .v4 ? 4 : 16), let ip = IPAddress(bytes: reader.rest()) else { return nil }
    let endpoint = Endpoint(ip: ip, port: port)
    return id.map { endpoint.xored(with: $0) } ?? endpoint
  }

  private static func write(_ endpoint: Endpoint, _ id: STUNTransactionID?, _ out: inout [UInt8]) {
    let endpoint = id.map { endpoint.xored(with: $0) } ?? endpoint
    out.append(0)
    out.append(number(endpoint.ip.family))
    out.append(uint16: endpoint.port)
    out += endpoint.ip.bytes
  }

  private static func family(_ number: UInt8?) -> AddressFamily? { number == 1 ? .v4 : number == 2 ? .v6 : nil }
  private static func number(_ family: AddressFamily) -> UInt8 { family == .v4 ? 1 : 2 }

  /// RFC 8489 §14.8: 21 bits of nothing (or RFC 8656 §18.12's family), the hundreds, the rest, a sentence.
  private static func error(_ reader: inout ByteReader) -> (Int, String)? {
    guard reader.skip(2), let hundreds = reader.byte(), let rest = reader.byte() else { return nil }
    let code = Int(hundreds & 7) * 100 + Int(rest)
    guard rest < 100, code >= 300, code < 700 else { return nil }
    return (code, String(decoding: reader.rest(), as: UTF8.self))
  }

  private static func write(_ family: UInt8, _ code: Int, _ reason: String, _ out: inout [UInt8]) {
    let code = min(max(code, 300), 699)
    out.append(family)
    out.append(0)
    out.append(UInt8(truncatingIfNeeded: code / 100))
    out.append(UInt8(truncatingIfNeeded: code % 100))
    out += reason.utf8
  }

  private static func words(_ reader: inout ByteReader) -> [UInt16] {
    var words: [UInt16] = []
    while let word = reader.uint16() { words.append(word) }
    return words
  }

  private static func algorithm(_ reader: inout ByteReader) -> STUNPasswordAlgorithm? {
    guard let number = reader.uint16(), let length = reader.uint16(), let parameters = reader.bytes(Int(length)) else {
      return nil
    }
    // The padding of the last one may be left to the attribute's own.
    _ = reader.skip(min(reader.remaining, (4 - Int(length) % 4) % 4))
    return STUNPasswordAlgorithm(number: number, parameters: [UInt8](parameters))
  }

  private static func algorithms(_ reader: inout ByteReader) -> [STUNPasswordAlgorithm]? {
    var all: [STUNPasswordAlgorithm] = []
    while !reader.isAtEnd {
      guard let next = algorithm(&reader) else { return nil }
      all.append(next)
    }
    return all
  }

  private static func write(_ algorithm: STUNPasswordAlgorithm, _ out: inout [UInt8]) {
    let parameters = algorithm.parameters.prefix(0xffff)
    out.append(uint16: algorithm.number)
    out.append(uint16: UInt16(truncatingIfNeeded: parameters.count))
    out += parameters
    out += repeatElement(0, count: (4 - parameters.count % 4) % 4)
  }

  /// RFC 8656 §18.13.
  private static func icmp(_ reader: inout ByteReader) -> STUNAttribute? {
    guard reader.remaining == 8, reader.skip(2), let word = reader.uint16(), let data = reader.uint32() else {
      return nil
    }
    return .icmp(type: UInt8(truncatingIfNeeded: word >> 9), code: word & 0x1ff, data: data)
  }
}

extension Endpoint {
  /// RFC 8489 §14.2; doing it twice gives the endpoint back.
  fileprivate func xored(with id: STUNTransactionID) -> Endpoint {
    let port = port ^ UInt16(truncatingIfNeeded: STUNTransactionID.magicCookie >> 16)
    let top = UInt64(STUNTransactionID.magicCookie) << 32
    let ip =
      switch ip.family {
      case .v4: IPAddress(family: .v4, high: ip.high ^ top, low: 0)
      case .v6: IPAddress(family: .v6, high: ip.high ^ (top | UInt64(id.high)), low: ip.low ^ id.low)
      }
    return Endpoint(ip: ip, port: port)
  }
}
