import P2PDNet
import P2PDTraversal

/// The first bytes within TLS, by the node that called connect: this stream is the pipe. The other node makes no pipe of a
/// stream before it has them, so those that lose a race are never seen.
///
///     +------+----------------------+
///     | kind | sid, 16 bytes        |
///     +------+----------------------+
struct Nomination: Hashable {
  enum Kind: UInt8 {
    /// The stream is the pipe; its own bytes follow.
    case use = 1
    /// The pipe of this session moves here.
    case move = 2
  }

  var kind: Kind
  /// Which connect it belongs to.
  var session: SessionID

  init(_ kind: Kind, _ session: SessionID) {
    self.kind = kind
    self.session = session
  }

  /// nil for a kind this version does not know.
  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.length, let kind = Kind(rawValue: bytes[0]), let id = SessionID(bytes.dropFirst()) else {
      return nil
    }
    self.init(kind, id)
  }

  var bytes: [UInt8] { [kind.rawValue] + session.bytes }

  static let length = 1 + SessionID.length
}
