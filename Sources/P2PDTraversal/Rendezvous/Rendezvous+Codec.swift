import NIOCore
import P2PDNet

// One message:
//
//   +---------+------+---------------+--------- - - -
//   | version | kind | sid, 16 bytes | fields ...
//   +---------+------+---------------+--------- - - -
//
// A field is its type (1 byte), its length (2 bytes) and its value; those of an unknown type, and bytes that follow what is
// known of a value, are skipped: room for later. Lists are fields that come several times, their order counts.
//
//   1 protocol   UTF-8                              6 refusal    reason (1)
//   2 strategies bits: direct, reverse, punch, relay 7 declined   strategy (1), reason (1)
//   3 path       see PeerPath below                 8 relay      endpoint
//   4 punch path see PunchSide below; empty: none   9 attempt    see PathAttempt below
//   5 leg        microseconds (4)                  16 address    printable ASCII
//
// An endpoint is its family (1: 4 or 6), the address (4 or 16) and the port (2).

extension Rendezvous {
  /// Lists that are too long lose their end.
  public var bytes: [UInt8] {
    var writer = FieldWriter(version: Self.version, kind: message.kind, session)
    switch message {
    case .offer(let offer):
      writer.add(.protocolName, Array(offer.protocolName.utf8.prefix(Self.longestProtocol)))
      writer.add(.strategies, [offer.strategies.reduce(0) { $0 | $1.bit }])
      writer.add(offer.side)
    case .answer(let answer):
      if let refusal = answer.refusal { writer.add(.refusal, [refusal.rawValue]) }
      for strategy in ConnectStrategy.allCases {
        if let refusal = answer.declined[strategy] { writer.add(.declined, [strategy.number, refusal.rawValue]) }
      }
      writer.add(answer.side)
    case .relay(let endpoints), .round(let endpoints):
      for endpoint in endpoints.prefix(Self.mostRelays) { writer.add(.relay, endpoint.bytes) }
    case .report(let attempts):
      for attempt in attempts.prefix(Self.mostAttempts) { writer.add(.attempt, attempt.bytes) }
    case .abort, .whereabouts: break
    case .here(let address): writer.add(.address, Array(address.utf8.prefix(Self.longestAddress)))
    }
    return writer.bytes
  }

  /// nil: of another version, of an unknown kind, cut short, or with something in it that cannot be.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count <= Self.longest else { return nil }
    var reader = ByteReader(bytes)
    guard reader.byte() == Self.version, let kind = reader.byte(),
      let id = reader.bytes(SessionID.length).flatMap({ SessionID($0) })
    else { return nil }
    var fields = Fields()
    while !reader.isAtEnd {
      guard let type = reader.byte(), let length = reader.uint16(), let body = reader.bytes(Int(length)) else {
        return nil
      }
      // Of a type of a later version.
      guard let type = FieldType(rawValue: type) else { continue }
      var value = ByteReader(body)
      guard fields.take(type, &value) else { return nil }
    }
    guard let message = fields.message(kind) else { return nil }
    self.init(id, message)
  }

  static let version: UInt8 = 1
}

private enum FieldType: UInt8 {
  case protocolName = 1
  case strategies, path, punchPath, leg, refusal, declined, relay, attempt
  case address = 16
}

extension Rendezvous.Message {
  fileprivate var kind: UInt8 {
    switch self {
    case .offer: 1
    case .answer: 2
    case .relay: 3
    case .report: 4
    case .abort: 5
    case .round: 6
    case .whereabouts: 8
    case .here: 9
    }
  }
}

/// What a message's fields say, whatever its kind.
private struct Fields {
  var protocolName = ""
  var strategies: Set<ConnectStrategy> = []
  var side = Rendezvous.Side()
  var refusal: Rendezvous.Refusal?
  var declined: [ConnectStrategy: Rendezvous.Refusal] = [:]
  var relays: [Endpoint] = []
  var attempts: [PathAttempt] = []
  var address = ""

  /// False: it cannot be. What is over the number of a list is passed over.
  mutating func take(_ type: FieldType, _ value: inout ByteReader) -> Bool {
    switch type {
    case .protocolName:
      let text = value.rest()
      guard text.count <= Rendezvous.longestProtocol else { return false }
      protocolName = String(decoding: text, as: UTF8.self)
    case .strategies:
      guard let bits = value.byte() else { return false }
      strategies = Set(ConnectStrategy.allCases.filter { bits & $0.bit != 0 })
    case .path:
      guard let path = PeerPath(&value) else { return false }
      if side.paths.count < Rendezvous.mostPaths { side.paths.append(path) }
    case .punchPath:
      if side.punch == nil { side.punch = PunchSide() }
      guard !value.isAtEnd else { return true }
      guard let path = PunchSide.Path(&value) else { return false }
      if let count = side.punch?.paths.count, count < PunchSide.mostPaths { side.punch?.paths.append(path) }
    case .leg:
      guard let microseconds = value.uint32() else { return false }
      side.leg = .microseconds(Int64(microseconds))
    case .refusal:
      guard let reason = value.byte() else { return false }
      refusal = Rendezvous.Refusal(rawValue: reason) ?? .other
    case .declined:
      guard let number = value.byte(), let reason = value.byte() else { return false }
      if let strategy = ConnectStrategy(number: number) {
        declined[strategy] = Rendezvous.Refusal(rawValue: reason) ?? .other
      }
    case .relay:
      guard let endpoint = Endpoint(&value) else { return false }
      if relays.count < Rendezvous.mostRelays { relays.append(endpoint) }
    case .attempt:
      guard let attempt = PathAttempt.read(&value) else { return false }
      if let attempt, attempts.count < Rendezvous.mostAttempts { attempts.append(attempt) }
    case .address:
      let text = value.rest()
      guard text.count <= Rendezvous.longestAddress, text.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        return false
      }
      address = String(decoding: text, as: UTF8.self)
    }
    return true
  }

  func message(_ kind: UInt8) -> Rendezvous.Message? {
    switch kind {
    case 1:
      var offer = Rendezvous.Offer()
      (offer.protocolName, offer.strategies, offer.side) = (protocolName, strategies, side)
      return .offer(offer)
    case 2:
      var answer = Rendezvous.Answer()
      (answer.refusal, answer.declined, answer.side) = (refusal, declined, side)
      return .answer(answer)
    case 3: return .relay(relays)
    case 4: return .report(attempts)
    case 5: return .abort
    case 6: return relays.isEmpty ? nil : .round(relays)
    case 8: return .whereabouts
    case 9: return address.isEmpty ? nil : .here(address)
    default: return nil
    }
  }
}

private struct FieldWriter {
  private(set) var bytes: [UInt8]

  init(version: UInt8, kind: UInt8, _ session: SessionID) { bytes = [version, kind] + session.bytes }

  mutating func add(_ type: FieldType, _ value: [UInt8]) {
    bytes.append(type.rawValue)
    bytes.append(uint16: UInt16(truncatingIfNeeded: value.count))
    bytes += value
  }

  mutating func add(_ side: Rendezvous.Side) {
    for path in side.paths.prefix(Rendezvous.mostPaths) { add(.path, path.bytes) }
    if let punch = side.punch {
      if punch.paths.isEmpty { add(.punchPath, []) }
      for path in punch.paths.prefix(PunchSide.mostPaths) { add(.punchPath, path.bytes) }
    }
    if let leg = side.leg {
      var value: [UInt8] = []
      value.append(uint32: UInt32(clamping: leg.nanoseconds / 1000))
      add(.leg, value)
    }
  }
}
