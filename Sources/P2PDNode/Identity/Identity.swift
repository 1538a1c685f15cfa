import Crypto
import P2PDNet

/// A node's Ed25519 key pair. The secret half lives in one file of the state folder, made at the first start.
///
/// The file is one line, `p2pd-node-key-1 ` and base64url of the 32-byte seed and the first 4 bytes of its SHA-256,
/// so that a damaged file is told from another key. Whoever reads it can pose as the node: it is made with mode 0600
/// and refused when others may read it.
public struct Identity: Sendable {
  public let key: NodeKey
  private let secret: Curve25519.Signing.PrivateKey

  /// The node id, see ``NodeKey``.
  public var id: String { key.description }

  private init(_ secret: Curve25519.Signing.PrivateKey) {
    self.secret = secret
    // CryptoKit's raw form of an Ed25519 public key is always 32 bytes.
    key = NodeKey(bytes: secret.publicKey.rawRepresentation) ?? NodeKey.zero
  }

  /// A key of this process only, written nowhere.
  public static func ephemeral() -> Identity { Identity(Curve25519.Signing.PrivateKey()) }

  /// The key kept in the folder; made there if there is none. Blocks on the disk: not for an event loop's thread.
  ///
  /// Two processes that start at once get the same key: the folder is locked while the file is made.
  /// Throws ``NetError``: `permission` (unreadable, or readable by others), `io` (damaged, disk full, no such folder).
  public static func load(from folder: StateFolder) throws -> Identity {
    if let text = try folder.read(fileName, maximum: 4096, secret: true) {
      return try parse(text, path: folder.path(of: fileName))
    }
    return try folder.locked {
      // Another process may have made it while this one waited for the lock.
      if let text = try folder.read(fileName, maximum: 4096, secret: true) {
        return try parse(text, path: folder.path(of: fileName))
      }
      let fresh = ephemeral()
      try folder.write(fresh.fileText, to: fileName)
      return fresh
    }
  }

  /// An Ed25519 signature (64 bytes) by this node.
  func sign(_ message: [UInt8]) throws -> [UInt8] { Array(try secret.signature(for: message)) }

  /// The 32-byte seed, for the TLS library's copy of the key.
  var seed: [UInt8] { Array(secret.rawRepresentation) }

  private var fileText: [UInt8] {
    let seed = seed
    return Array((Self.fileHead + Base64URL.encode(seed + SHA256.hash(data: seed).prefix(4)) + "\n").utf8)
  }

  private static func parse(_ text: [UInt8], path: String) throws -> Identity {
    let damaged = NetError(
      .io, "read the node key \(path)",
      cause: "the file is damaged; restore it from a copy, or move it away and the node gets a new key and a new id")
    let line = text.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
    guard line.starts(with: fileHead.utf8), let bytes = Base64URL.decode(line.dropFirst(fileHead.utf8.count)),
      bytes.count == 36, SHA256.hash(data: bytes.prefix(32)).prefix(4).elementsEqual(bytes.suffix(4)),
      let secret = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes.prefix(32))
    else { throw damaged }
    return Identity(secret)
  }

  static let fileName = "node.key"
  private static let fileHead = "p2pd-node-key-1 "
}

extension NodeKey {
  fileprivate static let zero = NodeKey(unchecked: [UInt8](repeating: 0, count: length))
  private init(unchecked bytes: [UInt8]) { self.bytes = bytes }
}
