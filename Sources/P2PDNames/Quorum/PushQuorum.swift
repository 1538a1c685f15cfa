import P2PDNet

/// One change of a name, brought to a majority of its servers. Stepped by hand; the driver signs, sends and waits.
///
/// The record goes to all servers at once. One that has a newer record of the same owner says so, and the change is signed
/// again with a number above that and sent to all. Where two keys fight for a free name each may get some servers: who can
/// no longer get a majority withdraws what it got, so that the name is not stuck between them.
struct PushQuorum {
  enum Answer {
    /// It keeps the record. `isNew`: nobody had the name there.
    case accepted(isNew: Bool)
    /// It keeps a newer one of the same key.
    case stale(NameRecord)
    /// Another key owns the name there.
    case wrongKey
    /// To a deletion: the name was nobody's there. It keeps the tombstone all the same.
    case absent
    case failed(NetError)
  }

  enum Action {
    /// Sign the change with this number and send it to every server; answers name the round.
    case send(sequence: UInt64, round: Int)
    /// Registered, with the record of this round.
    case finish(round: Int)
    case fail(NetError)
    /// Tell these servers to forget it again: a tombstone of this number.
    case withdraw(servers: [Int], sequence: UInt64)
  }

  let name: PeerName
  let isDeletion: Bool
  private let majority: Int
  private let servers: Int
  /// It was the owner's before, as far as it knows: then what a short push leaves behind is right and stays.
  private var isOwned: Bool
  /// To a deletion: some server had the name, so there was one to give up.
  private var existed = false
  private var sequence: UInt64
  private var round = 0
  private var answers: [Answer?] = []
  private var isDone = false
  /// Servers where this push took a free name.
  private var taken: Set<Int> = []
  private var lateWithdrawals = false

  /// - Parameter last: the number of the owner's last change of the name, 0 where none is known.
  init(_ name: PeerName, servers: Int, majority: Int, after last: UInt64, isDeletion: Bool = false) {
    (self.name, self.servers, self.majority, self.isDeletion) = (name, servers, majority, isDeletion)
    sequence = last
    isOwned = last > 0
  }

  mutating func start() -> [Action] { send(after: sequence) }

  private mutating func send(after last: UInt64) -> [Action] {
    guard last < NameRecord.highestSequence else {
      isDone = true
      return [
        .fail(NetError(.limit, what, cause: "its sequence numbers are used up", remedy: "Register another name."))
      ]
    }
    sequence = last + 1
    round += 1
    answers = Array(repeating: nil, count: servers)
    return [.send(sequence: sequence, round: round)]
  }

  mutating func handle(_ answer: Answer, from server: Int, round: Int) -> [Action] {
    guard (0..<servers).contains(server) else { return [] }
    switch answer {
    case .accepted(isNew: true):
      taken.insert(server)
      // It was too slow to count, and would keep what was withdrawn.
      if lateWithdrawals { return [.withdraw(servers: [server], sequence: sequence + 1)] }
    case .accepted(isNew: false):
      (isOwned, existed) = (true, true)
    case .stale(let newer):
      isOwned = true
      if !newer.isDeleted { existed = true }
    default: break
    }
    guard round == self.round, !isDone, answers[server] == nil else { return [] }
    answers[server] = answer
    if case .stale(let newer) = answer, self.round < Self.mostRounds {
      return send(after: max(sequence, newer.sequence))
    }
    return decide()
  }

  private mutating func decide() -> [Action] {
    var accepted = 0
    var absent = 0
    var pending = 0
    var others = 0
    for answer in answers {
      switch answer {
      case .accepted?: accepted += 1
      case .absent?: absent += 1
      case .wrongKey?: others += 1
      case nil: pending += 1
      default: break
      }
    }
    if isDeletion, !existed, absent >= majority {
      isDone = true
      return [.fail(NetError(.notFound, what, cause: "nobody has this name"))]
    }
    let agreed = accepted + absent
    if agreed >= majority {
      isDone = true
      return [.finish(round: round)]
    }
    // Another owner is reason enough; else every server's failure is worth telling.
    guard agreed + pending < majority, pending == 0 || others > 0 else { return [] }
    isDone = true
    return [.fail(failure(agreed))] + withdrawal()
  }

  /// Only what this push made: a name that was ours already stays, and so does one that others have.
  private mutating func withdrawal() -> [Action] {
    guard !isDeletion, !isOwned, sequence < NameRecord.highestSequence else { return [] }
    lateWithdrawals = true
    guard !taken.isEmpty else { return [] }
    return [.withdraw(servers: taken.sorted(), sequence: sequence + 1)]
  }

  // MARK: Failures

  private func failure(_ agreed: Int) -> NetError {
    var attempts: [NetError] = []
    var others = 0
    for case let answer? in answers {
      switch answer {
      case .failed(let error): attempts.append(error)
      case .wrongKey: others += 1
      default: break
      }
    }
    if others > 0 {
      return NetError(
        .taken, what, cause: "another key owns it on \(others) of \(servers) name servers", attempts: attempts,
        remedy: "Choose another name; a name is free again when its owner deletes it or has not renewed it for 7 days.")
    }
    // What most of them say is wrong with it is the reason; a lost server is only one where nobody says anything else.
    for code in Self.telling where attempts.count(where: { $0.code == code }) + agreed > servers - majority {
      guard let first = attempts.first(where: { $0.code == code }) else { continue }
      return NetError(code, what, cause: first.cause, attempts: attempts, remedy: first.remedy)
    }
    if agreed == 0, !attempts.contains(where: { Self.telling.contains($0.code) }) {
      return NetError(
        .unreachable, what, cause: "none of its \(servers) name servers took it", attempts: attempts,
        remedy: "Check this host's own connection, then the list of name servers.")
    }
    return NetError(
      .noQuorum, what, cause: "\(agreed) of \(servers) name servers took it, and \(majority) must", attempts: attempts,
      remedy: "Try again when more of them can be reached.")
  }

  private var what: String { isDeletion ? "delete \(name)" : "register \(name)" }

  /// What a server says of the record itself or of who sends it.
  private static let telling: [NetError.Code] = [.limit, .tooLarge, .badName, .badRecord, .expired]
  /// Newer records of one's own are at most two here: another program with the same key, and a server behind the others.
  /// A server that goes on so is of no use.
  private static let mostRounds = 4
}
