import Foundation
import GRDB
import P2PDNames
import P2PDNet

/// A copy of the names of a server that may be running meanwhile, by SQLite's online backup.
public enum NameBackup {
  public struct Report: Sendable, Equatable {
    /// Names in the copy, those that have expired included.
    public let names: Int
    public let bytes: Int
  }

  /// Writes the copy beside `target`, checks it as a whole, and puts it in target's place at once. Blocks.
  /// - Throws: ``NetError``; what stood at `target` then still stands there.
  public static func make(of source: String, to target: String) throws(NetError) -> Report {
    let what = "back the names in \(source) up to \(target)"
    guard access(source, F_OK) == 0 else { throw NetError(errno: errno, what) }
    if let from = identity(source), from == identity(target) {
      throw NetError(.badAddress, what, cause: "that is the same file")
    }
    let temporary = "\(target).\(getpid()).part"
    defer { for end in ["", "-journal", "-wal", "-shm"] { unlink(temporary + end) } }
    unlink(temporary)
    do {
      let report = try copy(source, temporary)
      guard rename(temporary, target) == 0 else { throw NetError(errno: errno, what) }
      try sync(folder(of: target), what)
      return report
    } catch {
      throw NameDatabase.explained(error, what)
    }
  }

  private static func copy(_ source: String, _ target: String) throws -> Report {
    try NameDatabase.make(target)
    var configuration = Configuration()
    configuration.busyMode = .timeout(5)
    let from = try DatabaseQueue(path: source, configuration: configuration)
    try check(from, isWhole: false)
    let to = try DatabaseQueue(path: target, configuration: configuration)
    try from.backup(to: to)
    try from.close()
    // One file, that can be moved about.
    try to.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
    try check(to, isWhole: true)
    let names = try to.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM names") ?? 0 }
    try to.close()
    try sync(target, "write \(target)")
    var status = stat()
    guard stat(target, &status) == 0 else { throw NetError(errno: errno, "write \(target)") }
    return Report(names: names, bytes: Int(status.st_size))
  }

  private static func check(_ database: DatabaseQueue, isWhole: Bool) throws {
    try database.read { db in
      guard try NameDatabase.identify(db).application == NameDatabase.applicationID else {
        throw NetError(.io, "read it", cause: "it is no file of a name server")
      }
      guard isWhole else { return }
      let problems = try String.fetchAll(db, sql: "PRAGMA integrity_check(3)")
      guard problems == ["ok"] else {
        throw NetError(
          .io, "check the copy", cause: problems.joined(separator: "; "),
          remedy: "The server's file may be damaged; keep the older backups.")
      }
    }
  }

  private static func identity(_ path: String) -> [UInt64]? {
    var status = stat()
    return stat(path, &status) == 0 ? [UInt64(status.st_dev), UInt64(status.st_ino)] : nil
  }

  private static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func sync(_ path: String, _ what: String) throws(NetError) {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw NetError(errno: errno, what) }
    defer { Glibc.close(descriptor) }
    guard fsync(descriptor) == 0 else { throw NetError(errno: errno, what) }
  }
}
