import NIOCore
import P2PDNet

/// What one server said when it was asked for a name.
public struct ServerReply: Sendable {
  public enum Word: Sendable {
    /// Its record, whose signature holds.
    case record(NameRecord)
    /// It has none.
    case nothing
    /// No usable answer, and why.
    case failed(NetError)
    /// It had said nothing when the matter was settled.
    case pending
  }

  public let server: NameServerURL
  public var word: Word
  /// From the question to the answer; nil where there was none.
  public var took: TimeAmount?
  /// It was sent the newest record because its own was older.
  public var isRepaired: Bool

  public init(server: NameServerURL, word: Word = .pending, took: TimeAmount? = nil, isRepaired: Bool = false) {
    (self.server, self.word, self.took, self.isRepaired) = (server, word, took, isRepaired)
  }
}

/// The outcome of a lookup, and every server's own answer.
public struct NameAnswer: Sendable {
  public let name: PeerName
  /// The newest record of the key that a majority names; `not_found`, `expired`, `no_quorum` or `unreachable`.
  public let result: Result<NameRecord, NetError>
  /// One for each server, in the order of the set.
  public let replies: [ServerReply]

  public init(name: PeerName, result: Result<NameRecord, NetError>, replies: [ServerReply]) {
    (self.name, self.result, self.replies) = (name, result, replies)
  }
}
