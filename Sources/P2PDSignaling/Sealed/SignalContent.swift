import P2PDNet

// The inside of a message, sealed to the receiver:
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +---------------------------------------------------------------+
//   |            sender's Ed25519 public key (32 bytes)             |
//   +---------------------------------------------------------------+
//   |            Ed25519 signature (64 bytes) over                  |   "p2pd signal 1\0", the receiver's key, the header
//   |                                                               |   with the encapsulated key, and what follows here
//   +---------------+-----------------------------------------------+
//   |     kind      |  secret of the answer (32 bytes), request     |
//   |               |  or time held in µs (4 bytes), answer         |
//   +---------------+---------------+-------------------------------+
//   |         payload length        |  payload, then zeros ...      |
//   +-------------------------------+-------------------------------+

/// What one message says.
struct SignalContent: Equatable {
  enum Kind: Equatable {
    case message
    /// The sender wants an answer; the secret makes the answer's gate.
    case request(secret: [UInt8])
    /// `held`: microseconds between the request's arrival and this answer.
    case answer(held: UInt32)
  }

  var kind: Kind
  var payload: [UInt8]

  /// The bytes from `kind` on, with zeros up to `size` if that is more.
  func bytes(paddedTo size: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    switch kind {
    case .message: bytes.append(0)
    case .request(let secret):
      bytes.append(1)
      bytes += secret.prefix(Self.secretLength)
    case .answer(let held):
      bytes.append(2)
      bytes.append(uint32: held)
    }
    bytes.append(uint16: UInt16(truncatingIfNeeded: payload.count))
    bytes += payload
    if bytes.count < size { bytes += [UInt8](repeating: 0, count: size - bytes.count) }
    return bytes
  }

  /// nil: cut short, of an unknown kind, or padded with anything but zeros.
  init?(_ bytes: ArraySlice<UInt8>) {
    var reader = ByteReader(bytes)
    switch reader.byte() {
    case 0: kind = .message
    case 1:
      guard let secret = reader.bytes(Self.secretLength) else { return nil }
      kind = .request(secret: Array(secret))
    case 2:
      guard let held = reader.uint32() else { return nil }
      kind = .answer(held: held)
    default: return nil
    }
    guard let length = reader.uint16(), let payload = reader.bytes(Int(length)),
      let padding = reader.bytes(reader.remaining), padding.allSatisfy({ $0 == 0 })
    else { return nil }
    self.payload = Array(payload)
  }

  init(kind: Kind, payload: [UInt8]) {
    self.kind = kind
    self.payload = payload
  }

  static let secretLength = 32
  /// Kind, secret and length: the most that stands before the payload.
  static let longestHead = 1 + secretLength + 2
}
