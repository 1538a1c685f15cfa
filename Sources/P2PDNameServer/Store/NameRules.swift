import P2PDNames

/// Who may put what under a name. Decisions only: the store asks, and does what it is told.
///
/// A name belongs to the first key that pushes it, until the latest expiry of all records that were accepted from that key,
/// and not only of the newest: an older record whose signature is still good could else be played again by anybody once a
/// newer one with an earlier expiry (a deletion, say) is gone.
enum NameRules {
  /// What is known of a name.
  struct Kept: Equatable {
    var record: NameRecord
    /// Seconds since 1970; until then only the same key may push.
    var ownedUntil: UInt64
  }

  enum Verdict: Equatable {
    /// The name is free, or was somebody's whose time is over: it is registered if the allowances leave room.
    case register
    /// It is put in the place of the owner's older record.
    case replace(ownedUntil: UInt64)
    /// It is there already, byte for byte.
    case same
    case wrongKey
    /// This one is as new or newer.
    case stale(NameRecord)
  }

  /// - Parameter record: one that passed ``NameRecord/check(now:)``.
  static func judge(_ record: NameRecord, over kept: Kept?, now: UInt64) -> Verdict {
    guard let kept, kept.ownedUntil > now else { return .register }
    guard kept.record.key == record.key else { return .wrongKey }
    if kept.record == record { return .same }
    guard record.isNewer(than: kept.record) else { return .stale(kept.record) }
    return .replace(ownedUntil: max(kept.ownedUntil, record.expires))
  }
}
