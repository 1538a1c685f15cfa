import Crypto
import Glibc
import NIOCore

/// What a tracked file holds.
enum SourceContent: Hashable, Sendable {
  case content(ContentHash)
  case missing
  /// It is there but cannot be read; the errno.
  case unreadable(Int32)

  /// Gone or empty: maybe only until an editor's next step.
  var isProvisional: Bool { self == .missing || self == .content(.empty) }
}

/// What to look at.
struct SurveyOrder: Equatable, Sendable {
  var files: Set<String> = []
  var folders: Set<String> = []
}

/// What was there.
struct Survey: Equatable, Sendable {
  var files: [String: SourceContent] = [:]
  /// The names of the handler files of each folder; a folder that is not there is left out.
  var folders: [String: Set<String>] = [:]
  /// Something changed while it was looked at.
  var isMoving = false
  var blindSpots: Set<BlindSpot> = []
}

/// Looks at the tracked files and folders, and keeps the kernel's watches on every folder that leads to them. All of it
/// may block, so it lives on a thread of its own.
final class SourceSurveyor: @unchecked Sendable {  // confined to its thread
  private struct Reading {
    var signature: Signature
    /// Since when the signature was seen, and when the bytes were read last.
    var since: NIODeadline
    var readAt: NIODeadline
    var content: SourceContent
  }

  /// What changes with the bytes, nearly always: clocks of file systems tick slowly.
  private struct Signature: Equatable {
    var device: dev_t
    var inode: ino_t
    var size: off_t
    var modified: [Int]
    var changed: [Int]

    init(_ info: stat) {
      (device, inode, size) = (info.st_dev, info.st_ino, info.st_size)
      modified = [info.st_mtim.tv_sec, info.st_mtim.tv_nsec]
      changed = [info.st_ctim.tv_sec, info.st_ctim.tv_nsec]
    }
  }

  private let watches: FolderWatches
  private var watched: [String: FolderInterest] = [:]
  private var readings: [String: Reading] = [:]

  init(_ calls: InotifyCalls) { watches = FolderWatches(calls) }

  /// inotify's, to be polled; -1 where there is none.
  var descriptor: CInt { watches.descriptor }

  /// What inotify has told since; nil where nothing of it matters.
  func signs() -> WatchSigns? { watches.read() }

  func survey(_ order: SurveyOrder) -> Survey {
    var survey = Survey()
    survey.isMoving = true
    // The watches come before the look: what changes after it is told. New watches need a new look at the way.
    for _ in 0..<Self.attempts {
      var wanted: [String: FolderInterest] = [:]
      let ends = trails(order, &wanted)
      let outcome = watches.watch(wanted)
      survey.blindSpots = outcome.blindSpots
      let isSame = !outcome.isNew && wanted == watched
      watched = wanted
      guard isSame else { continue }
      survey.isMoving = false
      survey.folders = ends.compactMapValues { $0.flatMap { ScriptFiles.handlerNames(in: $0).map(Set.init) } }
      break
    }
    for (folder, interest) in watched where !interest.isPassed {
      if let spot = BlindSpot.remote(folder) { survey.blindSpots.insert(spot) }
    }
    readings = readings.filter { order.files.contains($0.key) }
    for path in order.files {
      let (content, isMoving) = read(path)
      survey.files[path] = content
      if isMoving { survey.isMoving = true }
    }
    return survey
  }

  /// Walks to every file and folder; gives where the folders lie, nil for those that are not there.
  private func trails(_ order: SurveyOrder, _ wanted: inout [String: FolderInterest]) -> [String: String?] {
    var seen: [String: PathTrail.Entry] = [:]
    let look = { (path: String) -> PathTrail.Entry in
      if let entry = seen[path] { return entry }
      let entry = Self.look(path)
      seen[path] = entry
      return entry
    }
    guard let here = Self.workingFolder() else { return [:] }
    var ends: [String: String?] = [:]
    for (paths, isHosted) in [(order.files, false), (order.folders, true)] {
      for path in paths {
        let trail = PathTrail(path, from: here, look: look)
        for folder in trail.folders { wanted[folder, default: FolderInterest()].formUnion(FolderInterest()) }
        for place in trail.places { wanted[place.folder, default: FolderInterest()].names.insert(place.name) }
        guard isHosted else { continue }
        if trail.end == .folder { wanted[trail.endPath, default: FolderInterest()].handlers = true }
        ends[path] = .some(trail.end == .folder ? trail.endPath : nil)
      }
    }
    return ends
  }

  private static func look(_ path: String) -> PathTrail.Entry {
    var info = stat()
    guard lstat(path, &info) == 0 else { return errno == ENOENT || errno == ENOTDIR ? .missing : .failed(errno) }
    switch info.st_mode & S_IFMT {
    case S_IFDIR: return .folder
    case S_IFLNK:
      var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
      let count = target.withUnsafeMutableBytes { buffer in
        buffer.bindMemory(to: CChar.self).baseAddress.map { readlink(path, $0, buffer.count) } ?? -1
      }
      guard count > 0 else { return .missing }
      return .link(String(decoding: target.prefix(count), as: UTF8.self))
    default: return .file
    }
  }

  private static func workingFolder() -> String? {
    guard let path = getcwd(nil, 0) else { return nil }
    defer { free(path) }
    return String(cString: path)
  }

  // MARK: Content

  private func read(_ path: String) -> (SourceContent, isMoving: Bool) {
    var info = stat()
    guard stat(path, &info) == 0 else { return (forget(path, errno), false) }
    // A folder by that name is no file.
    if info.st_mode & S_IFMT == S_IFDIR { return (forget(path, ENOENT), false) }
    guard info.st_mode & S_IFMT == S_IFREG else { return (forget(path, EINVAL), false) }
    let old = readings[path]
    if let old, old.signature == Signature(info), old.readAt - old.since >= Self.settleTime {
      return (old.content, false)
    }
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { return (forget(path, errno), false) }
    defer { close(file) }
    guard fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return (forget(path, EINVAL), false) }
    let before = Signature(info)
    let readAt = NIODeadline.now()
    var hasher = SHA256()
    var chunk = [UInt8](repeating: 0, count: Self.chunkSize)
    while true {
      let count = Glibc.read(file, &chunk, chunk.count)
      if count < 0 { return (forget(path, errno), false) }
      if count == 0 { break }
      chunk.withUnsafeBytes { hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0.prefix(count))) }
    }
    let content = SourceContent.content(ContentHash(hasher.finalize()))
    let isMoving = fstat(file, &info) != 0 || Signature(info) != before
    let since = old.flatMap { $0.signature == before ? $0.since : nil } ?? readAt
    readings[path] = isMoving ? nil : Reading(signature: before, since: since, readAt: readAt, content: content)
    return (content, isMoving)
  }

  private func forget(_ path: String, _ number: Int32) -> SourceContent {
    readings[path] = nil
    return number == ENOENT || number == ENOTDIR ? .missing : .unreadable(number)
  }

  /// The way to a file changes again while the watches are put on it: then it is looked at later.
  private static let attempts = 4
  /// A file whose signature stood still for so long between two readings has no write hidden in one tick of its file
  /// system's clock (2 s on FAT), and is not read again before the signature changes.
  private static let settleTime: TimeAmount = .seconds(3)
  private static let chunkSize = 256 << 10
}
