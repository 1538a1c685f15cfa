import P2PDNames

/// Who may put what under a name. Decisions only: the store asks, and does what it is told.
///
/// A name belongs to the first key that pushes it, until its record expires or is a deletion; then it is anybody's. What a key has once
/// pushed is kept in mind until the latest expiry of all its records for the name, and not only of the newest: an older
/// one, whose signature is still good, could else be played again by anybody once a newer one with an earlier expiry is gone.
enum NameRules {
  /// The newest record of a key for a name.
  struct Kept: Equatable {
    var record: NameRecord
    /// Seconds since 1970: the latest expiry of all records of this key for this name.
    var until: UInt64
    /// It is the one that a lookup finds; else another key has taken the name since.
    var holds: Bool

    func isAlive(_ now: UInt64) -> Bool { holds && !record.isDeleted && !record.isExpired(now: now) }
  }

  enum Verdict: Equatable {
    /// It is stored.
    /// - Parameters:
    ///   - until: as ``Kept/until``.
    ///   - isNew: the name was nobody's.
    case store(until: UInt64, isNew: Bool)
    /// It is there already, byte for byte.
    case same
    case wrongKey
    /// This one is as new or newer.
    case stale(NameRecord)
  }

  /// - Parameters:
  ///   - record: one that passed ``NameRecord/check(now:)``.
  ///   - holder: what a lookup of the name finds, alive or not.
  ///   - own: what the record's key has pushed before; the same as `holder` where that is by this key.
  static func judge(_ record: NameRecord, holder: Kept?, own: Kept?, now: UInt64) -> Verdict {
    if let holder, holder.record.key != record.key, holder.isAlive(now) { return .wrongKey }
    let isNew = !(holder?.isAlive(now) ?? false)
    guard let own, own.until > now else { return .store(until: record.expires, isNew: isNew) }
    if own.record == record, own.holds { return .same }
    guard record.isNewer(than: own.record) else { return .stale(own.record) }
    return .store(until: max(own.until, record.expires), isNew: isNew)
  }
}
