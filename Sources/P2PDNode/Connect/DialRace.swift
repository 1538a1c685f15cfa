import NIOCore
import P2PDNet

/// Candidates raced with a head start for the better ones, after RFC 8305 §5. Pure: the driver reports events and performs the actions;
/// it calls `start` once, then `failed` and `proven` as attempts end, and `timer` at the last `wake` asked for.
struct DialRace {
  enum Action: Equatable {
    case dial(Int)
    /// Forget the earlier wish, call `timer` then.
    case wake(NIODeadline)
    /// Give this attempt up; a pipe it makes nevertheless is to be closed.
    case cancel(Int)
    case won(Int)
    /// Nobody is left, or the time is up (`timedOut`).
    case lost(timedOut: Bool)
  }

  private let paths: [DialPath]
  private let deadline: NIODeadline
  private var next = 0
  private var running: [Int] = []
  private var nextStart = NIODeadline.distantPast
  private(set) var isOver = false

  init(_ paths: [DialPath], deadline: NIODeadline) {
    self.paths = paths
    self.deadline = deadline
  }

  mutating func start(now: NIODeadline) -> [Action] { advance(now: now) }

  mutating func timer(now: NIODeadline) -> [Action] { isOver ? [] : advance(now: now) }

  /// An attempt failed: its place goes to the next one at once.
  mutating func failed(_ index: Int, now: NIODeadline) -> [Action] {
    guard !isOver, running.contains(index) else { return [] }
    running.removeAll { $0 == index }
    nextStart = now
    return advance(now: now)
  }

  /// An attempt has proven the peer's key. The first one wins; a later one is to be closed.
  mutating func proven(_ index: Int) -> [Action] {
    guard !isOver, running.contains(index) else { return [.cancel(index)] }
    isOver = true
    return [.won(index)] + running.filter { $0 != index }.map { .cancel($0) }
  }

  /// The caller wants it no more.
  mutating func cancelled() -> [Action] {
    guard !isOver else { return [] }
    isOver = true
    return running.map { .cancel($0) }
  }

  private mutating func advance(now: NIODeadline) -> [Action] {
    if now >= deadline {
      isOver = true
      return running.map { .cancel($0) } + [.lost(timedOut: true)]
    }
    var actions: [Action] = []
    if next < paths.count, running.isEmpty || now >= nextStart {
      actions.append(.dial(next))
      running.append(next)
      nextStart = now + Self.headStart(paths[next])
      next += 1
    }
    if running.isEmpty {
      isOver = true
      return [.lost(timedOut: false)]
    }
    actions.append(.wake(next < paths.count ? min(nextStart, deadline) : deadline))
    return actions
  }

  /// What an attempt gets before the next one starts. Near ones answer in a few milliseconds or not at all; for the others RFC 8305 §5
  /// allows down to 100 ms, and a wasted attempt between nodes costs little.
  private static func headStart(_ path: DialPath) -> TimeAmount {
    switch path {
    case .sameMachine, .lan, .linkLocal: .milliseconds(50)
    case .ipv6, .ipv4: .milliseconds(100)
    }
  }
}
