import P2PDNet

/// The byte form of PCP (RFC 6887 §7, §11.1, §13).
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+-+-------------+---------------+---------------+
///     |  version = 2  |R|   opcode    |   reserved    | reserved (R=0)|
///     |               | |             |               | result   (R=1)|
///     +---------------+-+-------------+---------------+---------------+
///     |                      lifetime in seconds                      |
///     +---------------------------------------------------------------+
///     |  R=0: the client's address, 16 bytes                          |
///     |  R=1: epoch time, 4 bytes, then 12 reserved                   |
///     +---------------------------------------------------------------+
///     |  MAP: nonce 12, protocol 1, reserved 3, internal port 2,      |
///     |  external port 2, external address 16                         |
///     +---------------------------------------------------------------+
///     |  options: code 1, reserved 1, length 2, data, padding to 4    |
///     +---------------------------------------------------------------+
public enum PCPCodec {
  /// §7: what a message may have at most, in bytes.
  public static let longest = 1100
  static let headerSize = 24
  static let version: UInt8 = 2
  private static let mapSize = 36
  /// More than anybody sends; each is 4 bytes at least.
  static let mostOptions = 16

  // MARK: Requests

  public static func encode(_ request: PCPRequest) -> [UInt8] {
    var out: [UInt8] = [version, 0, 0, 0]
    out.append(uint32: request.lifetime)
    out += wide(request.client)
    switch request.operation {
    case .announce: break
    case .map(let map):
      out[1] = 1
      append(map, to: &out)
    }
    for option in request.options.prefix(mostOptions) { append(option, to: &out) }
    return out
  }

  /// As a server reads it. nil for what is no request of version 2 that this program could have made.
  public static func request(_ bytes: [UInt8]) -> PCPRequest? {
    var reader = ByteReader(bytes)
    guard isSized(bytes), reader.byte() == version, let opcode = reader.byte(), opcode & 0x80 == 0, reader.skip(2),
      let lifetime = reader.uint32(), let client = address(&reader)
    else { return nil }
    let operation: PCPRequest.Operation
    switch opcode {
    case 0: operation = .announce
    case 1:
      guard let map = map(&reader) else { return nil }
      operation = .map(map)
    default: return nil
    }
    guard let options = options(&reader) else { return nil }
    return PCPRequest(client: client, lifetime: lifetime, operation: operation, options: options)
  }

  // MARK: Responses

  public static func encode(_ response: PCPResponse) -> [UInt8] {
    var out: [UInt8] = [version, 0x80, 0, response.result.code]
    out.append(uint32: response.lifetime)
    out.append(uint32: response.epoch)
    out += [UInt8](repeating: 0, count: 12)
    switch response.operation {
    case .announce: break
    case .map(let map):
      out[1] = 0x81
      append(map, to: &out)
    case .other(let opcode): out[1] = 0x80 | opcode
    }
    for option in response.options.prefix(mostOptions) { append(option, to: &out) }
    return out
  }

  /// nil for what must be dropped without a word (§8.3): no response, no version 2, a length that none has, a success
  /// without its content.
  public static func response(_ bytes: [UInt8]) -> PCPResponse? {
    var reader = ByteReader(bytes)
    // A server of another version answers in its own (§9), which only its result says.
    guard isSized(bytes), let spoken = reader.byte(), let opcode = reader.byte(), opcode & 0x80 != 0, reader.skip(1),
      let code = reader.byte(), let lifetime = reader.uint32(), let epoch = reader.uint32(), reader.skip(12)
    else { return nil }
    let result = PCPResult(code)
    guard spoken == version else {
      guard spoken != 0, result == .unsupportedVersion else { return nil }
      return PCPResponse(result, lifetime: lifetime, epoch: epoch, operation: .other(opcode & 0x7f))
    }
    var operation = PCPResponse.Operation.other(opcode & 0x7f)
    switch opcode & 0x7f {
    case 0: operation = .announce
    case 1:
      if let map = map(&reader) {
        operation = .map(map)
      } else if result == .success {
        return nil
      }
    default: break
    }
    // A refusal carries what was asked, which may be what could not be read.
    guard let options = options(&reader) ?? (result == .success ? nil : []) else { return nil }
    return PCPResponse(result, lifetime: lifetime, epoch: epoch, operation: operation, options: options)
  }

  private static func isSized(_ bytes: [UInt8]) -> Bool {
    bytes.count >= headerSize && bytes.count <= longest && bytes.count % 4 == 0
  }

  // MARK: Parts

  private static func append(_ map: PCPMap, to out: inout [UInt8]) {
    out += map.nonce.bytes
    out += [map.transport, 0, 0, 0]
    out.append(uint16: map.internalPort)
    out.append(uint16: map.external.port)
    out += wide(map.external.ip)
  }

  private static func map(_ reader: inout ByteReader) -> PCPMap? {
    guard reader.remaining >= mapSize, let nonce = reader.bytes(PCPNonce.size).flatMap({ PCPNonce($0) }),
      let transport = reader.byte(), reader.skip(3), let inside = reader.uint16(), let outside = reader.uint16(),
      let ip = address(&reader)
    else { return nil }
    return PCPMap(
      nonce: nonce, transport: transport, internalPort: inside, external: Endpoint(ip: ip, port: outside))
  }

  private static func append(_ option: PCPOption, to out: inout [UInt8]) {
    let (code, data): (UInt8, [UInt8]) =
      switch option {
      case .thirdParty(let ip): (1, wide(ip))
      case .preferFailure: (2, [])
      case .filter(let prefix, let port, let ip):
        (3, [0, prefix, UInt8(truncatingIfNeeded: port >> 8), UInt8(truncatingIfNeeded: port)] + wide(ip))
      case .other(let code, let data): (code, Array(data.prefix(longest)))
      }
    out += [code, 0]
    out.append(uint16: UInt16(truncatingIfNeeded: data.count))
    out += data
    out += [UInt8](repeating: 0, count: (4 - data.count % 4) % 4)
  }

  private static func options(_ reader: inout ByteReader) -> [PCPOption]? {
    var found: [PCPOption] = []
    while !reader.isAtEnd {
      guard found.count < mostOptions, let code = reader.byte(), reader.skip(1), let length = reader.uint16(),
        let data = reader.bytes(Int(length)), reader.skip((4 - Int(length) % 4) % 4),
        let option = option(code, data)
      else { return nil }
      found.append(option)
    }
    return found
  }

  private static func option(_ code: UInt8, _ data: ArraySlice<UInt8>) -> PCPOption? {
    var reader = ByteReader(data)
    switch code {
    case 1:
      guard data.count == 16, let ip = address(&reader) else { return nil }
      return .thirdParty(ip)
    case 2: return data.isEmpty ? .preferFailure : nil
    case 3:
      guard data.count == 20, reader.skip(1), let prefix = reader.byte(), prefix <= 128,
        let port = reader.uint16(), let ip = address(&reader)
      else { return nil }
      return .filter(prefix: prefix, port: port, address: ip)
    default: return .other(code, Array(data))
    }
  }

  /// Sixteen bytes: IPv4 stands in them as `::ffff:a.b.c.d` (§5).
  private static func wide(_ ip: IPAddress) -> [UInt8] {
    ip.family == .v6 ? ip.bytes : [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + ip.bytes
  }

  private static func address(_ reader: inout ByteReader) -> IPAddress? {
    reader.bytes(16).flatMap { IPAddress(bytes: $0) }?.unmapped
  }
}
