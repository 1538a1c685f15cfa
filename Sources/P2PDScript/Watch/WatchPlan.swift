import NIOCore

/// What changed, by the paths as they were given.
public struct SourceChanges: Equatable, Sendable {
  /// Tracked files whose content is another now; also those that are gone, or are there again.
  public var files: Set<String> = []
  /// Handler files that came into a hosted folder.
  public var added: Set<String> = []
  /// Handler files that are gone from a hosted folder. A folder that is gone itself takes none with it.
  public var removed: Set<String> = []

  public init(files: Set<String> = [], added: Set<String> = [], removed: Set<String> = []) {
    (self.files, self.added, self.removed) = (files, added, removed)
  }

  public var isEmpty: Bool { files.isEmpty && added.isEmpty && removed.isEmpty }

  /// Takes in what happened after it.
  mutating func add(_ later: SourceChanges) {
    files.formUnion(later.files)
    added = added.subtracting(later.removed).union(later.added)
    removed = removed.subtracting(later.added).union(later.removed)
  }
}

/// Decides when the tracked files are looked at and what is told then: once after a burst of events, content and not
/// times, nothing half-written. Stepped by hand; it looks at nothing itself.
struct WatchPlan {
  enum Event {
    /// From now on these are tracked.
    /// - Parameters:
    ///   - files: with what is known of each; nil: what the first look finds.
    ///   - folders: hosted folders with the names of the handler files known in each; nil likewise.
    case track(files: [String: SourceContent?], folders: [String: Set<String>?])
    case signs(WatchSigns)
    case surveyed(Survey)
    /// The time asked for has come.
    case woke
  }

  enum Action: Equatable {
    /// Look, and bring `surveyed`. Never asked for twice at a time.
    case survey(SurveyOrder)
    /// Bring `woke` then, and not at another time asked for before; nil: not at all.
    case wake(NIODeadline?)
    case report(SourceChanges)
    /// From now on the files are polled because of this, said once for each; none: no longer.
    case polling(Set<BlindSpot>)
  }

  private var debounce: Debounce
  private let pollInterval: TimeAmount
  private var files: [String: SourceContent?] = [:]
  private var folders: [String: Set<String>?] = [:]
  private var blindSpots: Set<BlindSpot> = []
  private var pollAt: NIODeadline?
  private var wakeAt: NIODeadline?
  private var isSurveying = false
  /// What is tracked changed during a look: look again at once.
  private var isStale = false
  /// The signs that came during a look.
  private var meanwhile: WatchSigns?

  init(debounce: Debounce = Debounce(), pollInterval: TimeAmount = defaultPollInterval) {
    self.debounce = debounce
    self.pollInterval = pollInterval
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    switch event {
    case .track(let newFiles, let newFolders):
      // What is tracked already keeps what was told of it last: else a broken save would be told again and again.
      files = newFiles.merging(files.filter { newFiles[$0.key] != nil && $0.value != nil }) { $1 }
      folders = newFolders.merging(folders.filter { newFolders[$0.key] != nil && $0.value != nil }) { $1 }
      actions += survey()
    case .signs(let signs):
      if isSurveying { meanwhile = signs }
      debounce.touch(now, isWriting: signs.isWriting)
    case .surveyed(let survey):
      isSurveying = false
      actions += found(survey, now)
      meanwhile = nil
      if isStale {
        isStale = false
        actions += self.survey()
      }
    case .woke:
      wakeAt = nil
      if [debounce.due, pollAt].contains(where: { $0.map { $0 <= now } ?? false }) { actions += survey() }
    }
    let next = isSurveying ? nil : [debounce.due, pollAt].compactMap { $0 }.min()
    if next != wakeAt {
      wakeAt = next
      actions.append(.wake(next))
    }
    return actions
  }

  private mutating func survey() -> [Action] {
    guard !isSurveying else {
      isStale = true
      return []
    }
    isSurveying = true
    pollAt = nil
    return [.survey(SurveyOrder(files: Set(files.keys), folders: Set(folders.keys)))]
  }

  private mutating func found(_ survey: Survey, _ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if survey.blindSpots != blindSpots {
      let new = survey.blindSpots.subtracting(blindSpots)
      blindSpots = survey.blindSpots
      if !new.isEmpty || blindSpots.isEmpty { actions.append(.polling(new)) }
    }
    pollAt = blindSpots.isEmpty ? nil : now + pollInterval
    let (changes, isProvisional) = compare(survey)
    if changes.isEmpty {
      if survey.isMoving, debounce.wait(now) { return actions }
    } else {
      // Not told of by the kernel but found by chance: whoever writes may be at it still.
      let isFirstSight = !debounce.isArmed
      let mustWait = isFirstSight || survey.isMoving || meanwhile != nil || isProvisional
      if mustWait, debounce.wait(now) { return actions }
      accept(survey, changes)
      actions.append(.report(changes))
    }
    debounce.clear()
    if let meanwhile { debounce.touch(now, isWriting: meanwhile.isWriting) }
    return actions
  }

  /// What is other than known. `isProvisional`: some of it looks like the middle of a save.
  private mutating func compare(_ survey: Survey) -> (SourceChanges, isProvisional: Bool) {
    var changes = SourceChanges()
    var isProvisional = false
    for (path, found) in survey.files {
      guard let entry = files[path] else { continue }
      guard let known = entry else {
        files[path] = .some(found)
        continue
      }
      guard found != known else { continue }
      changes.files.insert(path)
      if found.isProvisional { isProvisional = true }
    }
    for (folder, found) in survey.folders {
      guard let entry = folders[folder] else { continue }
      guard let known = entry else {
        folders[folder] = .some(found)
        continue
      }
      let prefix = folder.hasSuffix("/") ? folder : folder + "/"
      for name in found.subtracting(known) { changes.added.insert(prefix + name) }
      for name in known.subtracting(found) {
        changes.removed.insert(prefix + name)
        isProvisional = true
      }
    }
    return (changes, isProvisional)
  }

  private mutating func accept(_ survey: Survey, _ changes: SourceChanges) {
    for path in changes.files { files[path] = survey.files[path] }
    for (folder, found) in survey.folders where folders[folder] != nil { folders[folder] = .some(found) }
  }

  static let defaultPollInterval: TimeAmount = .seconds(2)
}
