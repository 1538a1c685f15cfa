import NIOCore

/// When to look after a burst of changes: some time after the last of them, but at most so long after the first.
struct Debounce {
  private let quiet: TimeAmount
  private let limit: TimeAmount
  private var first: NIODeadline?
  private var last: NIODeadline?
  private var isWriting = false

  init(quiet: TimeAmount = defaultQuiet, limit: TimeAmount = defaultLimit) {
    self.quiet = quiet
    self.limit = limit
  }

  var isArmed: Bool { first != nil }

  /// When to look; nil while nothing has changed.
  var due: NIODeadline? {
    guard let first, let last else { return nil }
    // Whoever has written and not closed yet is given all the time there is.
    return isWriting ? first + limit : min(last + quiet, first + limit)
  }

  /// Something changed.
  /// - Parameter isWriting: a file was written to and is still open.
  mutating func touch(_ now: NIODeadline, isWriting: Bool = false) {
    first = first ?? now
    last = now
    self.isWriting = isWriting
  }

  /// What was found is better looked at again.
  /// - Returns: false where there is no time left for that.
  mutating func wait(_ now: NIODeadline) -> Bool {
    let first = first ?? now
    guard now < first + limit else { return false }
    self.first = first
    last = now
    isWriting = false
    return true
  }

  /// The burst was dealt with.
  mutating func clear() {
    (first, last) = (nil, nil)
    isWriting = false
  }

  /// Editors make their renames and writes within a few milliseconds of each other.
  static let defaultQuiet: TimeAmount = .milliseconds(100)
  static let defaultLimit: TimeAmount = .seconds(1)
}
