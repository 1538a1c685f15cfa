import Crypto

// What a broker carries: random-looking bytes, whole. Every length is one of ``Gate/sizes``.
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +---------------------------------------------------------------+
//   |            label (12 bytes): nonce of the gate's cipher       |
//   +---------------------------------------------------------------+
//   | version | lifetime |   issued: seconds since 1970   | ...     |   ChaCha20-Poly1305 under the gate key:
//   |   HPKE encapsulated key (32 bytes)                            |   cheap to check, before any public key work
//   |   HPKE ciphertext                                             |
//   +---------------------------------------------------------------+
//   |            tag (16 bytes)                                     |
//   +---------------------------------------------------------------+

/// The outer, symmetric layer of a message: what lets a node throw away junk at the price of one ChaCha20-Poly1305.
///
/// Its key follows from the receiver's public key, so it hides from a broker, or from whoever subscribed to everything,
/// even what kind of message it is; who knows the node's id can make it, and is held back by rates instead. An answer's
/// key follows from a secret that only the request told, so that a flood by strangers who do know the id cannot shut out
/// the answers a node waits for.
struct Gate {
  let key: SymmetricKey
  /// Where a message's label is given and not random.
  let label: Label?

  struct Label: Hashable, Sendable {
    let bytes: [UInt8]
    init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes.prefix(Gate.labelLength)) }
  }

  /// For messages to a node from anybody.
  init(of receiver: SignalKey) {
    key = Self.derive(receiver.bytes, "p2pd signal gate 1", 32)
    label = nil
  }

  /// For the one answer to the request that carried this secret.
  init(answering secret: [UInt8]) {
    key = Self.derive(secret, "p2pd signal answer 1", 32)
    label = Label(Self.derive(secret, "p2pd signal answer label 1", Self.labelLength).withUnsafeBytes { Array($0) })
  }

  static func label(of message: [UInt8]) -> Label? {
    message.count >= labelLength ? Label(message) : nil
  }

  func close(_ inner: [UInt8]) throws -> [UInt8] {
    let nonce = try label.map { try ChaChaPoly.Nonce(data: $0.bytes) } ?? ChaChaPoly.Nonce()
    return Array(try ChaChaPoly.seal(inner, using: key, nonce: nonce).combined)
  }

  /// nil: not meant for this key, or changed.
  func open(_ message: [UInt8]) -> [UInt8]? {
    guard let box = try? ChaChaPoly.SealedBox(combined: message), let inner = try? ChaChaPoly.open(box, using: key)
    else {
      return nil
    }
    return Array(inner)
  }

  /// The topic of a node at a broker: 16 bytes that follow from its key, one way, and from the broker's name, so that two
  /// brokers' onlookers cannot tell that they see the same node.
  ///
  /// It does not change with time. Rotation would hide a node from nobody who knows its id (who can follow it), nor from
  /// its broker (which sees one connection move along); it would only keep an onlooker with a wildcard subscription from
  /// counting one stranger's messages for longer than a day. For that every node would listen on two or three topics, and
  /// one whose clock is off by a day could not be reached at all.
  static func topic(of receiver: SignalKey, at broker: Broker) -> String {
    let name = derive(receiver.bytes + Array(broker.host.utf8), "p2pd signal topic 1", 16)
    return "p2pd1/" + name.withUnsafeBytes { $0.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
  }

  private static func derive(_ input: [UInt8], _ use: String, _ count: Int) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(
      inputKeyMaterial: SymmetricKey(data: input), info: Array(use.utf8), outputByteCount: count)
  }

  static let labelLength = 12
  static let overhead = labelLength + 16
  /// All lengths a message can have: they tell an onlooker as little as can be had for the bytes.
  static let sizes = [512, 1024, 2048, 4096]
  static let longest = 4096
}
