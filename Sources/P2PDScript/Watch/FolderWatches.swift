import Glibc

/// What of a folder matters.
struct FolderInterest: Equatable {
  /// These names in it.
  var names: Set<String> = []
  /// Every handler file in it.
  var handlers = false

  /// Only whether the folder itself is moved or removed: it is on the way to another one.
  var isPassed: Bool { names.isEmpty && !handlers }

  mutating func formUnion(_ other: FolderInterest) {
    names.formUnion(other.names)
    handlers = handlers || other.handlers
  }

  func includes(_ name: String) -> Bool { names.contains(name) || (handlers && ScriptFiles.isHandler(name)) }
}

/// inotify's answer in short: something that matters happened.
struct WatchSigns: Equatable, Sendable {
  /// A file was written to and is still open.
  var isWriting = false
  /// The kernel lost events, so anything may have happened.
  var isOverflow = false
}

/// The two calls of inotify(7) that fail in ways worth testing. Each answers a descriptor, or a negative errno.
struct InotifyCalls: Sendable {
  var open: @Sendable () -> CInt
  var add: @Sendable (_ descriptor: CInt, _ folder: String, _ mask: UInt32) -> CInt

  static let kernel = InotifyCalls(
    open: {
      let descriptor = inotify_init1(CInt(IN_NONBLOCK) | CInt(IN_CLOEXEC))
      return descriptor < 0 ? 0 &- errno : descriptor
    },
    add: { descriptor, folder, mask in
      let watch = inotify_add_watch(descriptor, folder, mask)
      return watch < 0 ? 0 &- errno : watch
    })
}

/// An inotify descriptor with the folders it watches. Files are not watched themselves: such a watch ends with
/// the first editor that writes a new file and renames it over the old one. Confined to one thread.
final class FolderWatches {
  /// -1 where the kernel gives none.
  let descriptor: CInt
  private let calls: InotifyCalls
  private let openFailure: Int32
  private var watches: [CInt: (interest: FolderInterest, mask: UInt32)] = [:]
  /// Files that were written to and not closed since.
  private var writing: Set<PathTrail.Place> = []
  private var buffer = [UInt8](repeating: 0, count: bufferSize)

  init(_ calls: InotifyCalls) {
    self.calls = calls
    let opened = calls.open()
    descriptor = max(opened, -1)
    openFailure = opened < 0 ? 0 &- opened : 0
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  var count: Int { watches.count }

  /// What watching these folders came to.
  struct Outcome {
    /// A folder is watched that was not before, or one is gone: the way there must be looked at again.
    var isNew = false
    var blindSpots: Set<BlindSpot> = []
  }

  /// Watches exactly these folders (paths without links).
  func watch(_ wanted: [String: FolderInterest]) -> Outcome {
    writing = []
    var outcome = Outcome()
    guard descriptor >= 0 else {
      outcome.blindSpots = [.noInotify(openFailure)]
      return outcome
    }
    var kept: [CInt: (interest: FolderInterest, mask: UInt32)] = [:]
    // Those with files first: where the kernel's limit is near, they get what is left.
    for (folder, interest) in wanted.sorted(by: { !$0.value.isPassed && $1.value.isPassed }) {
      var mask = interest.isPassed ? Self.passedMask : Self.contentMask
      let watch = calls.add(descriptor, folder, mask | Self.folderOnly)
      guard watch >= 0 else {
        switch 0 &- watch {
        case ENOENT, ENOTDIR, ELOOP: outcome.isNew = true
        case ENOSPC, ENOMEM: outcome.blindSpots.insert(.watchLimit)
        case EACCES where interest.isPassed: break
        case let number: outcome.blindSpots.insert(.refused(folder, number))
        }
        continue
      }
      if watches[watch] == nil { outcome.isNew = true }
      var merged = interest
      if let same = kept[watch] {
        // Two paths to one folder (a bind mount): the second call has replaced the mask of the first.
        merged.formUnion(same.interest)
        mask |= same.mask
        _ = calls.add(descriptor, folder, mask | Self.folderOnly)
      }
      kept[watch] = (merged, mask)
    }
    for watch in watches.keys where kept[watch] == nil { inotify_rm_watch(descriptor, watch) }
    watches = kept
    return outcome
  }

  /// Takes the waiting events; nil where none of them matters.
  func read() -> WatchSigns? {
    var signs: WatchSigns?
    for _ in 0..<Self.readsAtOnce {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      guard count > 0 else { break }
      let events = buffer.withUnsafeBytes {
        InotifyCodec.events(in: UnsafeRawBufferPointer(rebasing: $0.prefix(count)))
      }
      for event in events where matters(event) {
        var merged = signs ?? WatchSigns()
        if event.isOverflow { merged.isOverflow = true }
        signs = merged
      }
    }
    signs?.isWriting = !writing.isEmpty
    return signs
  }

  private func matters(_ event: InotifyEvent) -> Bool {
    if event.isOverflow { return true }
    // A watch that was removed may still have events in the queue.
    guard let interest = watches[event.watch]?.interest else { return false }
    if event.has(IN_IGNORED) { watches[event.watch] = nil }
    guard !event.name.isEmpty else { return true }
    guard interest.includes(event.name) else { return false }
    let place = PathTrail.Place(folder: "\(event.watch)", name: event.name)
    if event.has(IN_MODIFY) {
      writing.insert(place)
    } else if !event.has(IN_ATTRIB | IN_CREATE) {
      writing.remove(place)
    }
    return true
  }

  /// Any sign of a file that may have other bytes now: written, closed, made, renamed here or away, removed, or readable since.
  private static let contentMask =
    UInt32(IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB) | passedMask
  private static let passedMask = UInt32(IN_MOVE_SELF | IN_DELETE_SELF)
  /// The paths have no links; where one has come since, the way is looked at again.
  private static let folderOnly = UInt32(IN_ONLYDIR | IN_DONT_FOLLOW)
  /// Bytes. Some 2 000 events of short names.
  private static let bufferSize = 64 << 10
  /// Reads before it is told that something happened; more are waiting then.
  private static let readsAtOnce = 16
}
