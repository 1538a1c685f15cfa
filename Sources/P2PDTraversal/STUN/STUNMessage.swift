import P2PDNet

/// A STUN or TURN message (RFC 8489 §5): what is asked or answered, the transaction it belongs to, and its attributes.
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---+---------------------------+-------------------------------+
///     |0 0|  method and class mixed   |   length of the attributes    |
///     +---+---------------------------+-------------------------------+
///     |                  magic cookie 0x2112A442                      |
///     +---------------------------------------------------------------+
///     |                   transaction id, 96 bits                     |
///     +---------------------------------------------------------------+
public struct STUNMessage: Sendable {
  public enum Kind: UInt16, Hashable, Sendable {
    case request = 0b00
    case indication = 0b01
    case success = 0b10
    case failure = 0b11
  }

  public var kind: Kind
  public var method: STUNMethod
  public var transaction: STUNTransactionID
  /// In the order they stand in the message. What follows MESSAGE-INTEGRITY and must be ignored (RFC 8489 §14.5) is not
  /// among them.
  public var attributes: [STUNAttribute]

  /// The bytes it was read from, which the integrity check needs; nil for a message made here.
  var source: STUNSource?

  public init(
    _ kind: Kind, _ method: STUNMethod, transaction: STUNTransactionID = .random(), attributes: [STUNAttribute] = []
  ) {
    self.kind = kind
    self.method = method
    self.transaction = transaction
    self.attributes = attributes
  }

  /// Attributes below 0x8000 that this program does not know. A request that has any is answered with error 420, a
  /// response with any is dropped (RFC 8489 §6.3).
  public var unknownRequired: [UInt16] {
    attributes.compactMap { attribute in
      if case .other(let type, _) = attribute, type < 0x8000 { return type }
      return nil
    }
  }
}

extension STUNMessage: Equatable {
  public static func == (a: STUNMessage, b: STUNMessage) -> Bool {
    a.kind == b.kind && a.method == b.method && a.transaction == b.transaction && a.attributes == b.attributes
  }
}

/// What a message is about. Numbers: RFC 8489 §18.2, RFC 8656 §17, RFC 6062 §6.1.
public struct STUNMethod: RawRepresentable, Hashable, Sendable {
  /// Twelve bits.
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue & 0xfff }

  public static let binding = STUNMethod(rawValue: 0x001)
  public static let allocate = STUNMethod(rawValue: 0x003)
  public static let refresh = STUNMethod(rawValue: 0x004)
  public static let send = STUNMethod(rawValue: 0x006)
  public static let data = STUNMethod(rawValue: 0x007)
  public static let createPermission = STUNMethod(rawValue: 0x008)
  public static let channelBind = STUNMethod(rawValue: 0x009)
  public static let connect = STUNMethod(rawValue: 0x00a)
  public static let connectionBind = STUNMethod(rawValue: 0x00b)
  public static let connectionAttempt = STUNMethod(rawValue: 0x00c)
}

/// The 96 random bits that join an answer to its question, and the word before them: the magic cookie, or 32 more bits
/// of the id with a peer that speaks RFC 3489 only.
public struct STUNTransactionID: Hashable, Sendable {
  /// ``magicCookie``, or anything with RFC 3489.
  public let cookie: UInt32
  let high: UInt32
  let low: UInt64

  public static let magicCookie: UInt32 = 0x2112_a442

  init(cookie: UInt32 = magicCookie, high: UInt32, low: UInt64) {
    self.cookie = cookie
    self.high = high
    self.low = low
  }

  /// Cryptographically random, so that an answer cannot be forged unseen (RFC 8489 §5).
  public static func random() -> STUNTransactionID {
    var source = SystemRandomNumberGenerator()
    return STUNTransactionID(high: .random(in: .min ... .max, using: &source), low: source.next())
  }

  /// Sixteen bytes: the cookie and the id.
  init?(_ bytes: ArraySlice<UInt8>) {
    var reader = ByteReader(bytes)
    guard let cookie = reader.uint32(), let high = reader.uint32(), let low = reader.uint64(), reader.isAtEnd else {
      return nil
    }
    self.init(cookie: cookie, high: high, low: low)
  }

  /// The peer uses RFC 8489's form (or RFC 5389's).
  public var hasMagicCookie: Bool { cookie == Self.magicCookie }

  func write(to out: inout [UInt8]) {
    out.append(uint32: cookie)
    out.append(uint32: high)
    out.append(uint64: low)
  }
}

/// Why bytes are no STUN message that one can use.
public enum STUNError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Too short, the wrong first bits, or a length that does not fit.
  case notSTUN
  /// An attribute that must be understood does not have the form it must have.
  case malformed(attribute: UInt16)
  /// An attribute goes past the message's end.
  case truncated
  /// The checksum is another: not STUN, or damaged.
  case fingerprint
  /// More attributes than any message has.
  case tooMany
  /// To be written: longer than the 16-bit length can say.
  case tooLong

  public var description: String {
    switch self {
    case .notSTUN: "not a STUN message"
    case .malformed(let type): "a STUN message whose attribute 0x\(String(type, radix: 16)) is malformed"
    case .truncated: "a STUN message that is cut off"
    case .fingerprint: "a STUN message with a wrong fingerprint"
    case .tooMany: "a STUN message with more than \(STUNMessage.mostAttributes) attributes"
    case .tooLong: "longer than a STUN message can be"
    }
  }
}
