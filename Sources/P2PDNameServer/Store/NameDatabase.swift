import Foundation
import GRDB
import P2PDNames
import P2PDNet
import Synchronization

/// The names on disk: one table in SQLite, in WAL mode with `synchronous=FULL`, so that what a transaction stored is there after
/// the power failed. All calls block; the registry makes them on threads of its own, all that write on one.
final class NameDatabase: Sendable {
  let path: String
  private let lock: DatabaseLock
  let pool: DatabasePool
  /// Rows, those included whose time is over. Kept here because counting a million rows takes longer than a push may.
  let rows = Atomic(0)
  let transactions = Atomic(0)

  /// Opens the file, or makes it.
  /// - Throws: ``NetError``: `in_use` where another server has it.
  init(path: String) throws(NetError) {
    self.path = path
    lock = try DatabaseLock(beside: path)
    do {
      try Self.make(path)
      pool = try DatabasePool(path: path, configuration: Self.configuration)
      let count = try pool.writeWithoutTransaction { db in
        // GRDB sets NORMAL in WAL mode, by which the last pushes could be lost with the power.
        try db.execute(sql: "PRAGMA synchronous = FULL")
        try Self.migrate(db)
        return try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM names") ?? 0
      }
      rows.store(count, ordering: .relaxed)
    } catch {
      throw Self.explained(error, "open the names in \(path)")
    }
  }

  /// No call may be under way or come later.
  func close() throws(NetError) {
    do { try pool.close() } catch { throw Self.explained(error, "close the names in \(path)") }
  }

  /// Each name's record, whether or not it has expired; nil where there is none.
  func read(_ names: [PeerName]) throws(NetError) -> [NameRecord?] {
    do {
      return try pool.read { db in
        let statement = try db.cachedStatement(sql: "SELECT record FROM names WHERE name = ? AND holds")
        return try names.map { name in
          try Row.fetchOne(statement, arguments: [name.description]).map { try Self.record($0[0] as DatabaseValue) }
        }
      }
    } catch {
      throw Self.explained(error, "read names")
    }
  }

  /// Bytes of the file and of the log beside it.
  var size: Int {
    [path, path + "-wal"].reduce(0) { sum, path in
      var status = stat()
      return stat(path, &status) == 0 ? sum + Int(status.st_size) : sum
    }
  }

  static func record(_ value: DatabaseValue) throws -> NameRecord {
    guard let bytes = Data.fromDatabaseValue(value), let record = NameRecord(bytes: bytes) else {
      throw NetError(.io, "read a name", cause: "its record on disk is damaged")
    }
    return record
  }

  /// SQLite's failures as ours, with what to do about the likely ones.
  static func explained(_ error: any Error, _ what: String) -> NetError {
    guard let error = error as? DatabaseError else { return NetError(error, what) }
    let cause = error.message ?? "\(error.resultCode)"
    switch error.resultCode {
    case .SQLITE_FULL:
      return NetError(.limit, what, cause: "the disk is full (\(cause))", remedy: "Make room where the file is.")
    case .SQLITE_NOTADB, .SQLITE_CORRUPT:
      return NetError(
        .io, what, cause: cause, remedy: "The file is damaged or something else; put a backup in its place.")
    case .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM:
      return NetError(
        .permission, what, cause: cause,
        remedy: "The folder must exist, and it and the file must be writable for this user.")
    default: return NetError(.io, what, cause: cause)
    }
  }

  /// Everybody's addresses are in it: it is for its owner only. SQLite gives the files beside it the same rights.
  static func make(_ path: String) throws(NetError) {
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw NetError(
        .permission, "open the names in \(path)", cause: String(cString: strerror(errno)),
        remedy: "The folder must exist and be writable for this user.")
    }
    Glibc.close(descriptor)
  }

  static let configuration: Configuration = {
    var configuration = Configuration()
    // A backup takes the lock for moments.
    configuration.busyMode = .timeout(5)
    configuration.maximumReaderCount = 2
    configuration.label = "names"
    return configuration
  }()

  private static func migrate(_ db: Database) throws {
    let (id, version) = try identify(db)
    guard id == 0 || id == applicationID else {
      throw NetError(.io, "read it", cause: "it is another program's database")
    }
    guard version <= schemaVersion else {
      throw NetError(.unsupported, "read it", cause: "a newer p2pd-lua wrote it", remedy: "Use that version.")
    }
    guard version == 0 else { return }
    guard try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM sqlite_schema") == 0 else {
      throw NetError(.io, "read it", cause: "it is another program's database")
    }
    try db.inTransaction {
      try db.execute(sql: schema)
      try db.execute(sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(schemaVersion)")
      return .commit
    }
  }

  static func identify(_ db: Database) throws -> (application: Int32, version: Int) {
    (
      try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0, try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
    )
  }

  private static let schema = """
    CREATE TABLE names (
      name TEXT NOT NULL,
      key BLOB NOT NULL,      -- whose record it is, 32 bytes
      holds INTEGER NOT NULL, -- 1: what a lookup finds; 0: kept until it cannot be played again
      until INTEGER NOT NULL, -- seconds since 1970: the latest expiry of all records of the key for the name
      source BLOB NOT NULL,   -- whence it was registered: an IPv4 address, or the /64 of an IPv6 one
      record BLOB NOT NULL,   -- the key's newest, signed
      PRIMARY KEY (name, key)
    ) STRICT;
    CREATE UNIQUE INDEX names_holder ON names (name) WHERE holds;
    CREATE INDEX names_key ON names (key, until);
    CREATE INDEX names_source ON names (source, until);
    CREATE INDEX names_until ON names (until);
    """
  /// "p2pn", by which file(1) and we tell it from other databases.
  static let applicationID: Int32 = 0x7032_706e
  private static let schemaVersion = 1
}
