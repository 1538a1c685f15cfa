import P2PDNet

/// What the servers of a set know of one name, put together. Stepped by hand; the driver asks and sends.
///
/// All are asked at once. A key owns the name when a majority of the set answers with its records; of these the newest
/// counts, so that a server which plays back an old one is outvoted by its neighbour. Nobody owns it when a majority has
/// no record that may be used. Servers found to be behind are sent the newest record, also those that answer later.
struct LookupQuorum {
  enum Event {
    /// A record whose name and signature were checked.
    case record(NameRecord)
    case nothing
    case failed(NetError)
  }

  enum Action {
    case finish(Result<NameRecord, NetError>)
    /// The server lacks this record.
    case repair(server: Int, NameRecord)
  }

  let name: PeerName
  private let majority: Int
  private let waitsForAll: Bool
  private var answers: [Event?]
  private var repaired: Set<Int> = []
  private var outcome: Outcome?

  private enum Outcome {
    /// Of the owner's records the newest, which may be a tombstone or expired.
    case owner(NameRecord)
    /// A majority knows nothing that may be used; what a minority, or a majority of several owners, had.
    case nobody(NameRecord?)
    case undecided
  }

  /// - Parameter waitsForAll: nothing is said before every server has answered or failed.
  init(_ name: PeerName, servers: Int, majority: Int, waitsForAll: Bool = false) {
    (self.name, self.majority, self.waitsForAll) = (name, majority, waitsForAll)
    answers = Array(repeating: nil, count: servers)
  }

  /// Every server has answered or failed.
  var isOver: Bool { answers.allSatisfy { $0 != nil } }

  /// - Parameter now: seconds since 1970.
  mutating func handle(_ event: Event, from server: Int, now: UInt64) -> [Action] {
    guard answers.indices.contains(server), answers[server] == nil else { return [] }
    answers[server] = event
    if outcome == nil, !waitsForAll || isOver, let found = decide(now) {
      outcome = found
      return [.finish(result(found, now))] + repairs(now)
    }
    return repairs(now)
  }

  // MARK: Deciding

  private func decide(_ now: UInt64) -> Outcome? {
    var votes: [[UInt8]: (count: Int, newest: NameRecord)] = [:]
    var nothing = 0
    var pending = 0
    var last: NameRecord?
    for answer in answers {
      switch answer {
      case nil: pending += 1
      case .failed?: break
      case .nothing?: nothing += 1
      case .record(let record)?:
        let before = votes[record.key]
        let newest = before.map { record.isNewer(than: $0.newest) ? record : $0.newest } ?? record
        votes[record.key] = ((before?.count ?? 0) + 1, newest)
        if record.isDeleted || record.isExpired(now: now) {
          // It says what an empty hand says, of whoever it is.
          nothing += 1
          if last.map({ record.expires > $0.expires }) ?? true { last = record }
        }
      }
    }
    let first = votes.values.max { $0.count < $1.count }
    if let first, first.count >= majority { return .owner(first.newest) }
    if nothing >= majority { return .nobody(last) }
    // With what is still out nobody could get there: no need to wait for it. Where all failed so far, the last one's word
    // tells a network that is down from servers that are.
    let best = max(first?.count ?? 0, nothing)
    return pending == 0 || best > 0 && best + pending < majority ? .undecided : nil
  }

  private func result(_ outcome: Outcome, _ now: UInt64) -> Result<NameRecord, NetError> {
    switch outcome {
    case .owner(let record) where !record.isDeleted && !record.isExpired(now: now): .success(record)
    case .owner(let record): .failure(gone(record, now))
    case .nobody(let record): .failure(gone(record, now))
    case .undecided: .failure(undecided(now))
    }
  }

  private func gone(_ record: NameRecord?, _ now: UInt64) -> NetError {
    guard let record, !record.isDeleted else {
      return NetError(
        .notFound, what, cause: record == nil ? "no node has registered it" : "its owner gave it up",
        remedy: "Check the spelling, and that the other node runs with this nickname.")
    }
    return NetError(
      .expired, what, cause: "its registration ended \(ago(now, record.expires)) ago",
      remedy: "Start the node that has this nickname: it renews its name while it runs.")
  }

  private func undecided(_ now: UInt64) -> NetError {
    var failures: [NetError] = []
    var keys: Set<[UInt8]> = []
    var said = 0
    for case let answer? in answers {
      switch answer {
      case .failed(let error): failures.append(error)
      case .nothing: said += 1
      case .record(let record):
        said += 1
        keys.insert(record.key)
      }
    }
    let needed = "\(majority) of \(answers.count) name servers"
    guard said > 0 else {
      return NetError(
        .unreachable, what, cause: "none of its \(answers.count) name servers gave an answer", attempts: failures,
        remedy: "Check this host's own connection, then the list of name servers.")
    }
    let cause =
      keys.count > 1
      ? "its name servers name \(keys.count) different owners, and \(needed) must agree"
      : "only \(said) answered or agree, and \(needed) must"
    return NetError(
      .noQuorum, what, cause: cause, attempts: failures,
      remedy: "Try again when more of them can be reached; names lookup shows what each one says.")
  }

  private var what: String { "look up \(name)" }

  private func ago(_ now: UInt64, _ then: UInt64) -> String {
    let seconds = now > then ? now - then : 0
    if seconds >= 2 * 86_400 { return "\(seconds / 86_400) days" }
    return seconds >= 2 * 3600 ? "\(seconds / 3600) h" : seconds >= 120 ? "\(seconds / 60) min" : "\(seconds) s"
  }

  // MARK: Repairing

  /// Sends the owner's newest record to who answered without it. Not to who names another owner that may still be one:
  /// it would refuse.
  private mutating func repairs(_ now: UInt64) -> [Action] {
    guard case .owner(let decided)? = outcome else { return [] }
    var newest = decided
    for case .record(let record)? in answers where record.key == newest.key && record.isNewer(than: newest) {
      newest = record
    }
    guard !newest.isExpired(now: now) else { return [] }
    outcome = .owner(newest)
    var actions: [Action] = []
    for (server, answer) in answers.enumerated() where !repaired.contains(server) {
      let isBehind =
        switch answer {
        case .record(let record)?:
          record.key == newest.key
            ? newest.isNewer(than: record) : !newest.isDeleted && (record.isDeleted || record.isExpired(now: now))
        case .nothing?: !newest.isDeleted
        case .failed?, nil: false
        }
      guard isBehind else { continue }
      repaired.insert(server)
      actions.append(.repair(server: server, newest))
    }
    return actions
  }
}
