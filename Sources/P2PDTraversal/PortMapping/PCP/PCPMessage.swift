import P2PDNet

/// The Port Control Protocol, version 2 (RFC 6887): what a client asks its router for.
public struct PCPRequest: Hashable, Sendable {
  /// The address this is sent from; the server compares it with the packet's, to notice a NAT between.
  public var client: IPAddress
  /// Seconds asked for; 0 takes the mapping away.
  public var lifetime: UInt32
  public var operation: Operation
  public var options: [PCPOption]

  public init(client: IPAddress, lifetime: UInt32 = 0, operation: Operation, options: [PCPOption] = []) {
    self.client = client
    self.lifetime = lifetime
    self.operation = operation
    self.options = options
  }

  public enum Operation: Hashable, Sendable {
    /// "Are you there, and since when?" (§14.1).
    case announce
    /// A port that is open to everybody (§11).
    case map(PCPMap)
  }
}

/// What a PCP server answers.
public struct PCPResponse: Hashable, Sendable {
  public var result: PCPResult
  /// Seconds: of a mapping how long it was given, of a refusal how long it will stand.
  public var lifetime: UInt32
  /// Seconds since the server's state began (§8.5).
  public var epoch: UInt32
  public var operation: Operation
  public var options: [PCPOption]

  public init(
    _ result: PCPResult, lifetime: UInt32, epoch: UInt32, operation: Operation, options: [PCPOption] = []
  ) {
    self.result = result
    self.lifetime = lifetime
    self.epoch = epoch
    self.operation = operation
    self.options = options
  }

  public enum Operation: Hashable, Sendable {
    case announce
    case map(PCPMap)
    /// An opcode that is not ours, or the refusal of a server that did not read so far.
    case other(UInt8)
  }
}

/// The MAP opcode's part (§11.1): asked for, or given.
public struct PCPMap: Hashable, Sendable {
  /// Twelve bytes that only the mapping's owner knows.
  public var nonce: PCPNonce
  /// An IP protocol: 6 TCP, 17 UDP, 0 all.
  public var transport: UInt8
  public var internalPort: UInt16
  /// Suggested in a request: port 0 and the wildcard address for any. Assigned in a response.
  public var external: Endpoint

  public init(nonce: PCPNonce, transport: UInt8, internalPort: UInt16, external: Endpoint) {
    self.nonce = nonce
    self.transport = transport
    self.internalPort = internalPort
    self.external = external
  }
}

/// The Mapping Nonce.
public struct PCPNonce: Hashable, Sendable {
  public let bytes: [UInt8]

  /// nil unless there are twelve bytes.
  public init?(_ bytes: some Sequence<UInt8>) {
    let bytes = Array(bytes)
    guard bytes.count == Self.size else { return nil }
    self.bytes = bytes
  }

  private init(drawn bytes: [UInt8]) { self.bytes = bytes }

  /// From the system's generator: nobody else can guess it.
  public static func random() -> PCPNonce {
    var generator = SystemRandomNumberGenerator()
    return PCPNonce(drawn: (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) })
  }

  static let size = 12
}

/// A further wish (§13), or the server's copy of it.
public enum PCPOption: Hashable, Sendable {
  /// For another host than the one that asks.
  case thirdParty(IPAddress)
  /// Rather none than another external port than the suggested one.
  case preferFailure
  /// Only for peers of this prefix (as long as an IPv6 one: 128 is one host) and port (0: any).
  case filter(prefix: UInt8, port: UInt16, address: IPAddress)
  /// One this program does not know. Codes below 128 must be understood by whom they are sent to.
  case other(UInt8, [UInt8])
}

/// §7.4.
public enum PCPResult: Hashable, Sendable {
  case success, unsupportedVersion, notAuthorized, malformedRequest, unsupportedOpcode, unsupportedOption
  case malformedOption, networkFailure, noResources, unsupportedProtocol, quotaExceeded, cannotProvideExternal
  case addressMismatch, excessiveRemotePeers
  case other(UInt8)

  public init(_ code: UInt8) { self = Self.known.indices.contains(Int(code)) ? Self.known[Int(code)] : .other(code) }

  public var code: UInt8 {
    if case .other(let code) = self { return code }
    return UInt8(clamping: Self.known.firstIndex(of: self) ?? 255)
  }

  /// For people.
  public var words: String {
    switch self {
    case .success: "granted"
    case .unsupportedVersion: "it speaks another version of PCP"
    case .notAuthorized: "the router does not allow it, or another program owns this mapping"
    case .malformedRequest, .malformedOption: "the router could not read the request"
    case .unsupportedOpcode, .unsupportedOption, .unsupportedProtocol: "the router has no such function"
    case .networkFailure: "the router has no outside address just now"
    case .noResources: "the router has no room for more mappings just now"
    case .quotaExceeded: "this computer has as many mappings as the router allows"
    case .cannotProvideExternal: "the router cannot give this outside port"
    case .addressMismatch: "another router translates addresses between here and the one that answered"
    case .excessiveRemotePeers: "too many filters"
    case .other(let code): "refused with code \(code)"
    }
  }

  /// In the order of their codes.
  private static let known: [PCPResult] = [
    .success, .unsupportedVersion, .notAuthorized, .malformedRequest, .unsupportedOpcode, .unsupportedOption,
    .malformedOption, .networkFailure, .noResources, .unsupportedProtocol, .quotaExceeded, .cannotProvideExternal,
    .addressMismatch, .excessiveRemotePeers,
  ]
}
