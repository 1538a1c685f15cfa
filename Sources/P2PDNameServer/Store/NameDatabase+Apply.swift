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
      rows.add(added, ordering: .relaxed)
      transactions.add(1, ordering: .relaxed)
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
              (SELECT rowid FROM names WHERE owned_until <= ? ORDER BY owned_until LIMIT ?)
            """, arguments: [Int64(clamping: now), limit])
        return db.changesCount
      }
      rows.subtract(count, ordering: .relaxed)
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

  mutating func apply(_ change: NameChange) throws -> NameOutcome {
    let record = change.record
    let row = try Row.fetchOne(
      try db.cachedStatement(sql: "SELECT record, owned_until, source FROM names WHERE name = ?"),
      arguments: [record.name.description])
    let kept = try row.map { row in
      NameRules.Kept(
        record: try NameDatabase.record(row[0] as DatabaseValue),
        ownedUntil: UInt64(clamping: Int64.fromDatabaseValue(row[1] as DatabaseValue) ?? 0))
    }
    switch NameRules.judge(record, over: kept, now: now) {
    case .same: return .same
    case .wrongKey: return .wrongKey
    case .stale(let newest): return .stale(newest)
    case .register:
      if kept != nil { try remove(record.name.description) }
      if let refusal = try makeRoom(change) { return refusal }
      try put(change, source: Data(change.source.bytes), ownedUntil: record.expires)
      rows += 1
      return .registered
    case .replace(let ownedUntil):
      // The name moves with its owner to another source's allowance, where there is room; it is no new name anyhow.
      let source = Data(change.source.bytes)
      let old = row.flatMap { Data.fromDatabaseValue($0[2] as DatabaseValue) } ?? source
      let moves = try old == source || count("source", source) < limits.namesPerSource
      try put(change, source: moves ? source : old, ownedUntil: ownedUntil)
      return .replaced
    }
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
      try db.cachedStatement(sql: "SELECT MIN(owned_until) FROM names WHERE \(column) = ?"), arguments: [value])
    let (wait, isOver) = UInt64(clamping: first ?? 0).subtractingReportingOverflow(now)
    return isOver ? 1 : max(1, wait)
  }

  private mutating func removeExpired(_ condition: String, _ arguments: [Data]) throws -> Bool {
    let all = StatementArguments(arguments) + [Int64(clamping: now)]
    let oldest = try String.fetchOne(
      try db.cachedStatement(
        sql: "SELECT name FROM names WHERE \(condition) AND owned_until <= ? ORDER BY owned_until LIMIT 1"),
      arguments: all)
    guard let oldest else { return false }
    try remove(oldest)
    return true
  }

  private mutating func remove(_ name: String) throws {
    try db.cachedStatement(sql: "DELETE FROM names WHERE name = ?").execute(arguments: [name])
    rows -= 1
  }

  private func put(_ change: NameChange, source: Data, ownedUntil: UInt64) throws {
    try db.cachedStatement(
      sql: "INSERT OR REPLACE INTO names (name, key, owned_until, source, record) VALUES (?, ?, ?, ?, ?)"
    ).execute(arguments: [
      change.record.name.description, Data(change.record.key), Int64(clamping: ownedUntil), source,
      Data(change.record.bytes),
    ])
  }

  /// Seconds: the background sweep comes by more often.
  private static let fullRetry: UInt64 = 600
}
