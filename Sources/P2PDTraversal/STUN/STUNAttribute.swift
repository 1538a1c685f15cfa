import P2PDNet

/// One attribute of a message (RFC 8489 §14, RFC 8656 §18, RFC 6062 §6.2, RFC 5780 §7, RFC 3489 §11.2).
public enum STUNAttribute: Hashable, Sendable {
  // Addresses
  case mappedAddress(Endpoint)
  case xorMappedAddress(Endpoint)
  case xorPeerAddress(Endpoint)
  case xorRelayedAddress(Endpoint)
  case alternateServer(Endpoint)
  case responseOrigin(Endpoint)
  case otherAddress(Endpoint)
  /// RFC 3489's RESPONSE-ORIGIN.
  case sourceAddress(Endpoint)
  /// RFC 3489's OTHER-ADDRESS.
  case changedAddress(Endpoint)

  // Who and why
  case username(String)
  /// SHA-256 of `username:realm` (RFC 8489 §14.4).
  case userHash([UInt8])
  case realm(String)
  case nonce([UInt8])
  case software(String)
  case alternateDomain(String)
  case passwordAlgorithm(STUNPasswordAlgorithm)
  case passwordAlgorithms([STUNPasswordAlgorithm])
  /// 300 to 699, and a sentence.
  case errorCode(Int, String)
  case unknownAttributes([UInt16])

  // Behaviour discovery
  case changeRequest(STUNChange)
  case responsePort(UInt16)
  /// That many bytes of nothing, at most 64 KiB.
  case padding(Int)

  // Relays
  case channelNumber(UInt16)
  /// Seconds.
  case lifetime(UInt32)
  case data([UInt8])
  /// An IP protocol: 17 UDP, 6 TCP.
  case requestedTransport(UInt8)
  /// Whether the next higher port is to be reserved.
  case evenPort(reserve: Bool)
  /// Eight bytes.
  case reservationToken([UInt8])
  case dontFragment
  case requestedAddressFamily(AddressFamily)
  case additionalAddressFamily(AddressFamily)
  case addressErrorCode(AddressFamily, Int, String)
  /// An ICMP message that the relay got: type, code, error data.
  case icmp(type: UInt8, code: UInt16, data: UInt32)
  case connectionID(UInt32)

  // The end of a message
  /// HMAC-SHA1, 20 bytes.
  case messageIntegrity([UInt8])
  /// HMAC-SHA256, 16 to 32 bytes.
  case messageIntegritySHA256([UInt8])
  case fingerprint(UInt32)

  /// One this program does not know.
  case other(UInt16, [UInt8])
}

/// How a key is made of a long-term password (RFC 8489 §14.11, §18.5).
public struct STUNPasswordAlgorithm: Hashable, Sendable {
  public let number: UInt16
  public let parameters: [UInt8]

  public init(number: UInt16, parameters: [UInt8] = []) {
    self.number = number
    self.parameters = parameters
  }

  public static let md5 = STUNPasswordAlgorithm(number: 1)
  public static let sha256 = STUNPasswordAlgorithm(number: 2)
}

/// From where a server shall answer (RFC 5780 §7.2).
public struct STUNChange: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let port = STUNChange(rawValue: 2)
  public static let ip = STUNChange(rawValue: 4)
}

extension STUNMessage {
  /// Our address as the server saw it: XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of an old server.
  public var mapped: Endpoint? {
    first { if case .xorMappedAddress(let endpoint) = $0 { endpoint } else { nil } }
      ?? first { if case .mappedAddress(let endpoint) = $0 { endpoint } else { nil } }
  }

  /// The server's second address and port, of a server that can help with behaviour discovery.
  public var other: Endpoint? {
    first { if case .otherAddress(let endpoint) = $0 { endpoint } else { nil } }
      ?? first { if case .changedAddress(let endpoint) = $0 { endpoint } else { nil } }
  }

  /// The error of a failure response.
  public var error: (code: Int, reason: String)? {
    first { if case .errorCode(let code, let reason) = $0 { (code, reason) } else { nil } }
  }

  public var realm: String? { first { if case .realm(let realm) = $0 { realm } else { nil } } }
  public var nonce: [UInt8]? { first { if case .nonce(let nonce) = $0 { nonce } else { nil } } }
  public var software: String? { first { if case .software(let name) = $0 { name } else { nil } } }
  public var relayed: Endpoint? { first { if case .xorRelayedAddress(let endpoint) = $0 { endpoint } else { nil } } }
  public var peer: Endpoint? { first { if case .xorPeerAddress(let endpoint) = $0 { endpoint } else { nil } } }
  public var lifetime: UInt32? { first { if case .lifetime(let seconds) = $0 { seconds } else { nil } } }
  public var connectionID: UInt32? { first { if case .connectionID(let id) = $0 { id } else { nil } } }

  public var data: [UInt8]? { first { if case .data(let bytes) = $0 { bytes } else { nil } } }
  public var alternateServer: Endpoint? {
    first { if case .alternateServer(let endpoint) = $0 { endpoint } else { nil } }
  }
  public var alternateDomain: String? { first { if case .alternateDomain(let name) = $0 { name } else { nil } } }
  public var passwordAlgorithms: [STUNPasswordAlgorithm]? {
    first { if case .passwordAlgorithms(let all) = $0 { all } else { nil } }
  }

  /// Of several attributes of one type the first counts (RFC 8489 §14).
  private func first<T>(_ pick: (STUNAttribute) -> T?) -> T? {
    for attribute in attributes {
      if let value = pick(attribute) { return value }
    }
    return nil
  }
}
