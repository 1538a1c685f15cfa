import Foundation
import GRDB
import P2PDNames
import P2PDNet

extension NameDatabase {
  /// All changes in one transaction, each judged after those before it. On disk when it returns.
  func apply(_ changes: [NameChange], limits: NameLimits, now: UInt64) -> [NameOutcome] {
    guard !changes.isEmpty else { return [] }
    do {
      let (outcomes, added) = try pool.write { db in
        var step = Step(db: db, limits: limits, now: now, rows: rows.load(ordering: .relaxed))
        let before = step.rows
        let outcomes = try changes.map { try step.apply($0) }
        return (outcomes, step.rows - before)
      }
      rows.wrappingAdd(added, ordering: .relaxed)
      transactions.wrappingAdd(1, ordering: .relaxed)
      return outcomes
    } catch {
      let error = Self.explained(error, "store names")
      return changes.map { _ in .failed(error) }
    }
  }

  /// Deletes names whose time is over, those longest over first.
  /// - Parameter limit: so many at most, so that pushes do not wait long for it.
  /// - Returns: how many there were.
  func sweep(now: UInt64, atMost limit: Int) throws(NetError) -> Int {
    do {
      let count = try pool.write { db in
        try db.execute(
          sql: """
            DELETE FROM names WHERE rowid IN
              (SELECT rowid FROM names WHERE until <= ? ORDER BY until LIMIT ?)
            """, arguments: [Int64(clamping: now), limit])
        return db.changesCount
      }
      rows.wrappingSubtract(count, ordering: .relaxed)
      return count
    } catch {
      throw Self.explained(error, "delete expired names")
    }
  }
}

/// Inside a transaction.
private struct Step {
  let db: Database
  let limits: NameLimits
  let now: UInt64
  var rows: Int

  private struct Stored {
    let kept: NameRules.Kept
    let source: Data
  }

  mutating func apply(_ change: NameChange) throws -> NameOutcome {
    let (record, name) = (change.record, change.record.name.description)
    var own: Stored?
    var holder: Stored?
    // The holder, and this key's own where that is another.
    for stored in try rows(name, Data(record.key)) {
      if stored.kept.record.key == record.key { own = stored }
      if stored.kept.holds { holder = stored }
    }
    switch NameRules.judge(record, holder: holder?.kept, own: own?.kept, now: now) {
    case .same: return .same
    case .wrongKey: return .wrongKey
    case .stale(let newest): return .stale(newest)
    case .store(let until, let isNew):
      var source = Data(change.source.bytes)
      if let own {
        // The name moves with its owner to another source's allowance, where there is room; it is no new name anyhow.
        if own.source != source, try count("source", source) >= limits.namesPerSource { source = own.source }
      } else {
        if let refusal = try makeRoom(change) { return refusal }
        rows += 1
      }
      if let holder, holder.kept.record.key != record.key { try retire(name, holder.kept) }
      try put(record, source, until)
      return isNew ? .registered : .replaced
    }
  }

  private func rows(_ name: String, _ key: Data) throws -> [Stored] {
    let rows = try Row.fetchAll(
      try db.cachedStatement(
        sql: "SELECT record, until, holds, source FROM names WHERE name = ? AND (holds OR key = ?)"),
      arguments: [name, key])
    return try rows.map { row in
      Stored(
        kept: NameRules.Kept(
          record: try NameDatabase.record(row[0] as DatabaseValue),
          until: UInt64(clamping: Int64.fromDatabaseValue(row[1] as DatabaseValue) ?? 0),
          holds: Bool.fromDatabaseValue(row[2] as DatabaseValue) ?? false),
        source: Data.fromDatabaseValue(row[3] as DatabaseValue) ?? Data())
    }
  }

  /// Another key takes the name. What the former holder pushed is kept in mind while it could be played again.
  private mutating func retire(_ name: String, _ kept: NameRules.Kept) throws {
    let key = Data(kept.record.key)
    guard kept.until > now else { return try remove(name, key) }
    try db.cachedStatement(sql: "UPDATE names SET holds = 0 WHERE name = ? AND key = ?").execute(arguments: [name, key])
  }

  /// A full allowance replaces the owner's oldest expired name, nobody else's and none that is alive.
  private mutating func makeRoom(_ change: NameChange) throws -> NameOutcome? {
    let (key, source) = (Data(change.record.key), Data(change.source.bytes))
    if try count("key", key) >= limits.namesPerKey, try !removeExpired("key = ?", [key]) {
      return .limit("this key has \(limits.namesPerKey) names", retry: try wait("key", key))
    }
    if try count("source", source) >= limits.namesPerSource,
      try !removeExpired("key = ? AND source = ?", [key, source])
    {
      return .limit(
        "\(limits.namesPerSource) names were registered from \(change.source)", retry: try wait("source", source))
    }
    if rows >= limits.names, try !removeExpired("key = ?", [key]) {
      return .limit("this server has \(limits.names) names", retry: Self.fullRetry)
    }
    return nil
  }

  private func count(_ column: String, _ value: Data) throws -> Int {
    try Int.fetchOne(try db.cachedStatement(sql: "SELECT COUNT(*) FROM names WHERE \(column) = ?"), arguments: [value])
      ?? 0
  }

  private func wait(_ column: String, _ value: Data) throws -> UInt64 {
    let first = try Int64.fetchOne(
      try db.cachedStatement(sql: "SELECT MIN(until) FROM names WHERE \(column) = ?"), arguments: [value])
    let (wait, isOver) = UInt64(clamping: first ?? 0).subtractingReportingOverflow(now)
    return isOver ? 1 : max(1, wait)
  }

  private mutating func removeExpired(_ condition: String, _ arguments: [Data]) throws -> Bool {
    let all = StatementArguments(arguments) + [Int64(clamping: now)]
    let oldest = try Row.fetchOne(
      try db.cachedStatement(
        sql: "SELECT name, key FROM names WHERE \(condition) AND until <= ? ORDER BY until LIMIT 1"),
      arguments: all)
    guard let oldest, let name = String.fromDatabaseValue(oldest[0] as DatabaseValue),
      let key = Data.fromDatabaseValue(oldest[1] as DatabaseValue)
    else { return false }
    try remove(name, key)
    return true
  }

  private mutating func remove(_ name: String, _ key: Data) throws {
    try db.cachedStatement(sql: "DELETE FROM names WHERE name = ? AND key = ?").execute(arguments: [name, key])
    rows -= db.changesCount
  }

  private func put(_ record: NameRecord, _ source: Data, _ until: UInt64) throws {
    try db.cachedStatement(
      sql: "INSERT OR REPLACE INTO names (name, key, holds, until, source, record) VALUES (?, ?, 1, ?, ?, ?)"
    ).execute(arguments: [
      record.name.description, Data(record.key), Int64(clamping: until), source, Data(record.bytes),
    ])
  }

  /// Seconds: the background sweep comes by more often.
  private static let fullRetry: UInt64 = 600
}
