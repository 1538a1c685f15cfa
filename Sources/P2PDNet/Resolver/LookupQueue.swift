/// Decides which lookups run: some at a time, more in line, the rest refused. A lookup that nobody waits for any more but
/// that cannot be interrupted gives its place to the next one, up to a bound, so that names whose servers do not answer
/// hold up the others for their time limit at most. Stepped by hand; it starts nothing itself.
struct LookupQueue<ID: Hashable & Sendable>: Sendable {
  enum Event: Sendable {
    /// A new lookup is wanted.
    case asked(ID)
    /// Nobody waits for it any more.
    case abandoned(ID)
    /// It ran and is over.
    case finished(ID)
  }

  enum Action: Hashable, Sendable {
    case start(ID)
    /// There is no place, not even in line.
    case refuse(ID)
  }

  private let bounds: Bounds
  private var running: Set<ID> = []
  private var stuck: Set<ID> = []
  private var line: [ID] = []

  init(_ bounds: Bounds = Bounds()) { self.bounds = bounds }

  /// Lookups with a thread, those abandoned included.
  var threads: Int { running.count + stuck.count }
  var waiting: Int { line.count }
  /// True while the lookup has no thread yet.
  func isInLine(_ id: ID) -> Bool { line.contains(id) }

  mutating func handle(_ event: Event) -> [Action] {
    switch event {
    case .asked(let id):
      guard line.count < bounds.line || hasRoom else { return [.refuse(id)] }
      line.append(id)
    case .abandoned(let id):
      if running.contains(id), stuck.count < bounds.stuck {
        running.remove(id)
        stuck.insert(id)
      }
      line.removeAll { $0 == id }
    case .finished(let id):
      running.remove(id)
      stuck.remove(id)
    }
    var actions: [Action] = []
    while hasRoom, !line.isEmpty {
      let id = line.removeFirst()
      running.insert(id)
      actions.append(.start(id))
    }
    return actions
  }

  private var hasRoom: Bool { running.count < bounds.running }
}

/// How many lookups there may be.
struct Bounds: Sendable {
  /// At a time.
  var running = 4
  /// In line behind them.
  var line = 64
  /// Abandoned ones that still hold a thread, on top of those that run.
  var stuck = 12
}
