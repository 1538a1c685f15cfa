import P2PDNet

/// NAT-PMP (RFC 6886), PCP's predecessor on the same port, for IPv4 alone: what a client asks for.
public enum NATPMPRequest: Hashable, Sendable {
  /// The outside address (§3.2).
  case address
  /// A mapping (§3.3); lifetime in seconds, with 0 it is taken away (§3.4).
  case map(PipeProto, internalPort: UInt16, externalPort: UInt16, lifetime: UInt32)

  public var bytes: [UInt8] {
    switch self {
    case .address: return [0, 0]
    case .map(let proto, let inside, let outside, let lifetime):
      var out: [UInt8] = [0, proto == .udp ? 1 : 2, 0, 0]
      out.append(uint16: inside)
      out.append(uint16: outside)
      out.append(uint32: lifetime)
      return out
    }
  }

  /// As a server reads it.
  public init?(_ bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    guard reader.byte() == 0, let opcode = reader.byte() else { return nil }
    switch opcode {
    case 0: self = .address
    case 1, 2:
      guard reader.skip(2), let inside = reader.uint16(), let outside = reader.uint16(),
        let lifetime = reader.uint32()
      else { return nil }
      self = .map(opcode == 1 ? .udp : .tcp, internalPort: inside, externalPort: outside, lifetime: lifetime)
    default: return nil
    }
  }
}

/// What a NAT-PMP router answers.
public struct NATPMPResponse: Hashable, Sendable {
  public var result: NATPMPResult
  /// Seconds since the router's table was empty (§3.6); nil in a refusal that is too short to tell.
  public var epoch: UInt32?
  public var content: Content

  public init(_ result: NATPMPResult, epoch: UInt32?, content: Content) {
    self.result = result
    self.epoch = epoch
    self.content = content
  }

  public enum Content: Hashable, Sendable {
    case address(IPAddress)
    case map(PipeProto, internalPort: UInt16, externalPort: UInt16, lifetime: UInt32)
    /// The opcode that was refused.
    case refused(UInt8)
  }

  /// nil for anything else: another version, a request, a success that is cut short.
  public init?(decoding bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    guard bytes.count <= Self.longest, reader.byte() == 0, let opcode = reader.byte(), opcode & 0x80 != 0,
      let code = reader.uint16()
    else { return nil }
    result = NATPMPResult(code)
    epoch = reader.uint32()
    guard result == .success else {
      content = .refused(opcode & 0x7f)
      return
    }
    guard epoch != nil else { return nil }
    switch opcode {
    case 128:
      guard let ip = reader.bytes(4).flatMap({ IPAddress(bytes: $0) }) else { return nil }
      content = .address(ip)
    case 129, 130:
      guard let inside = reader.uint16(), let outside = reader.uint16(), let lifetime = reader.uint32() else {
        return nil
      }
      content = .map(
        opcode == 129 ? .udp : .tcp, internalPort: inside, externalPort: outside, lifetime: lifetime)
    default: return nil
    }
  }

  public var bytes: [UInt8] {
    var out: [UInt8] = [0, 0]
    out.append(uint16: result.code)
    if let epoch { out.append(uint32: epoch) }
    switch content {
    case .address(let ip):
      out[1] = 128
      out += ip.bytes.prefix(4)
    case .map(let proto, let inside, let outside, let lifetime):
      out[1] = proto == .udp ? 129 : 130
      out.append(uint16: inside)
      out.append(uint16: outside)
      out.append(uint32: lifetime)
    case .refused(let opcode): out[1] = 0x80 | opcode
    }
    return out
  }

  /// A refusal may carry the request (§3.5); nothing is longer than PCP.
  private static let longest = 1100
}

/// §3.5.
public enum NATPMPResult: Hashable, Sendable {
  case success
  /// Also what a router that knows NAT-PMP alone answers to PCP (RFC 6887 §9).
  case unsupportedVersion
  case notAuthorized
  case networkFailure
  case outOfResources
  case unsupportedOpcode
  case other(UInt16)

  public init(_ code: UInt16) {
    self = Self.known.indices.contains(Int(code)) ? Self.known[Int(code)] : .other(code)
  }

  public var code: UInt16 {
    if case .other(let code) = self { return code }
    return UInt16(clamping: Self.known.firstIndex(of: self) ?? 0xffff)
  }

  /// For people.
  public var words: String {
    switch self {
    case .success: "granted"
    case .unsupportedVersion: "it speaks another version of NAT-PMP"
    case .notAuthorized: "port mapping is switched off in the router"
    case .networkFailure: "the router has no outside address just now"
    case .outOfResources: "the router has no room for more mappings"
    case .unsupportedOpcode: "the router has no such function"
    case .other(let code): "refused with code \(code)"
    }
  }

  /// In the order of their codes.
  private static let known: [NATPMPResult] = [
    .success, .unsupportedVersion, .notAuthorized, .networkFailure, .outOfResources, .unsupportedOpcode,
  ]
}
