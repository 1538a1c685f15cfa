/// What the files of a script held at one moment: the script, every module it required, data files it watches, and the
/// places where `require` looked in vain. Two snapshots with equal contents behave alike.
struct SourceSnapshot: Sendable {
  /// By path, as the program opens it. A file without a hash was not there.
  private(set) var files: [String: ContentHash?] = [:]
  /// The bytes of Lua files, for a rollback; data files and missing ones have none.
  private(set) var bytes: [String: [UInt8]] = [:]

  mutating func add(_ path: String, _ content: [UInt8]?) {
    files[path] = .some(content.map { ContentHash(of: $0) })
    bytes[path] = content
  }

  /// A file that is not Lua: only its hash is kept.
  mutating func add(data path: String, _ hash: ContentHash?) { files[path] = .some(hash) }

  var paths: Set<String> { Set(files.keys) }

  /// One hash for all files that are there.
  var hash: ContentHash {
    let lines = files.compactMap { path, hash in hash.map { "\($0) \(path)" } }.sorted()
    return ContentHash(of: Array(lines.joined(separator: "\n").utf8))
  }

  /// Whether each of its files holds the same in `other`, which may have read more.
  func isSame(in other: SourceSnapshot) -> Bool {
    files.allSatisfy { path, hash in other.files[path].map { $0 == hash } ?? false }
  }

  /// What is different in `new`, in the order of the paths. Files that are there in neither do not count.
  func changes(to new: SourceSnapshot) -> [FileChange] {
    paths.union(new.paths).sorted().compactMap { path in
      let (before, after) = (files[path] ?? nil, new.files[path] ?? nil)
      switch (before, after) {
      case (nil, let hash?): return FileChange(path: path, change: .added, hash: hash.description)
      case (_?, nil): return FileChange(path: path, change: .removed, hash: nil)
      case (let old?, let hash?) where old != hash:
        return FileChange(path: path, change: .changed, hash: hash.description)
      default: return nil
      }
    }
  }

  /// Reads files from the disk. Blocks; may run on any thread. What cannot be read counts as missing here: whoever
  /// needs it will say why.
  static func read(_ paths: Set<String>, dataPaths: Set<String>) -> SourceSnapshot {
    var snapshot = SourceSnapshot()
    for path in paths {
      if dataPaths.contains(path) {
        snapshot.add(data: path, ScriptFiles.hash(ofData: path))
      } else {
        snapshot.add(path, (try? ScriptFiles.readIfThere(path)) ?? nil)
      }
    }
    return snapshot
  }
}

/// One file that differs from what the generation before was made of.
public struct FileChange: Codable, Sendable, Equatable {
  public enum Change: String, Codable, Sendable { case added, changed, removed }
  public let path: String
  public let change: Change
  /// SHA-256 of the new content, 64 hex digits; nil for a removed file.
  public let hash: String?
}

/// Gives a generation the bytes of its files, each read once, and remembers them. Confined to the host's loop.
final class SourceReader {
  private(set) var snapshot = SourceSnapshot()
  private(set) var dataPaths: Set<String> = []
  /// What was read off the loop before, or kept from an earlier generation; the rest is read when it is asked for.
  private let prepared: SourceSnapshot
  /// Called when a file was read that was not known before.
  var grew: (() -> Void)?

  init(prepared: SourceSnapshot = SourceSnapshot()) { self.prepared = prepared }

  /// The bytes of a Lua file; nil where there is none. Throws ScriptError for one that cannot be read.
  func read(_ path: String) throws -> [UInt8]? {
    if snapshot.files[path] != nil { return snapshot.bytes[path] }
    let content: [UInt8]?
    if let known = prepared.files[path], known == nil || prepared.bytes[path] != nil {
      content = prepared.bytes[path]
    } else {
      content = try ScriptFiles.readIfThere(path)
    }
    snapshot.add(path, content)
    grew?()
    return content
  }

  /// A data file the script wants to hear of. Hashed now, before the script reads it, so that no change is missed.
  func watch(_ path: String) {
    dataPaths.insert(path)
    guard snapshot.files[path] == nil else { return }
    snapshot.add(data: path, ScriptFiles.hash(ofData: path))
    grew?()
  }
}
