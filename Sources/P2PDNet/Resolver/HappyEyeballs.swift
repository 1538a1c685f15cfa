import NIOCore

/// Which of several ways to the same peer is tried when, and which of them wins (RFC 8305 §5): the first at once, each next
/// one when the one before has failed or has had its head start; the first that succeeds wins and the others are cancelled.
///
/// A decision only: it owns no channel and asks no clock. Hand it events with the time, and perform what it answers, in
/// order. Candidates are tried in the order given; ``AddressOrder`` gives addresses theirs. An attempt is known by its
/// place in the list of candidates.
public struct HappyEyeballs<Candidate: Sendable>: Sendable {
  public enum Event: Sendable {
    /// The candidates, once, before anything else. `complete: false` when more may come.
    case start([Candidate], complete: Bool = true)
    /// Further candidates, to be tried after those known (RFC 8305 §3 allows them to come late).
    case more([Candidate], complete: Bool = true)
    case attemptFailed(Int, NetError)
    case attemptSucceeded(Int)
    /// The time asked for by `.wake(at:)` has come. One that comes early or late does no harm.
    case tick
    /// The caller gives up: its deadline has passed or it was cancelled, as the error says.
    case stop(NetError)
  }

  public enum Action: Sendable {
    case attempt(Int, Candidate)
    /// Give the attempt up, or close what came of it. It needs no answer.
    case cancel(Int)
    /// The end: that attempt is the one. Every other has been cancelled before.
    case succeed(Int)
    /// The end: what each attempt met, in the order they were started.
    case fail([NetError])
    /// Send a `.tick` then; replaces any time asked for before.
    case wake(at: NIODeadline)
  }

  private enum Attempt: Sendable {
    case waiting, running
    case over(NetError?)
  }

  private let delay: TimeAmount
  private var candidates: [Candidate] = []
  private var attempts: [Attempt] = []
  private var started = 0
  private var nextAt: NIODeadline?
  private var isComplete = false
  private(set) public var isOver = false

  /// - Parameter attemptDelay: the head start of each attempt over the next; kept within 10 ms and 2 s (RFC 8305 §8).
  public init(attemptDelay: TimeAmount = HappyEyeballsNumbers.attemptDelay) {
    delay = min(max(attemptDelay, HappyEyeballsNumbers.leastDelay), HappyEyeballsNumbers.mostDelay)
  }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    switch event {
    case .start(let some, let complete), .more(let some, let complete):
      guard !isOver else { return [] }
      candidates += some
      attempts += some.map { _ in .waiting }
      isComplete = complete
      // A head start that is running goes on; otherwise the first of the new ones starts now.
      return nextAt.map { now < $0 } ?? false ? waitOrFail() : startNext(now)
    case .tick:
      guard !isOver, let nextAt else { return [] }
      return now < nextAt ? waitOrFail() : startNext(now)
    case .attemptFailed(let index, let error):
      guard isRunning(index), !isOver else { return [] }
      attempts[index] = .over(error)
      return startNext(now)
    case .attemptSucceeded(let index):
      guard isRunning(index) else { return [] }
      // It crossed with its own cancellation: what it opened must be closed.
      guard !isOver else { return [.cancel(index)] }
      isOver = true
      attempts[index] = .over(nil)
      return running.map { .cancel($0) } + [.succeed(index)]
    case .stop(let error):
      guard !isOver else { return [] }
      isOver = true
      let cancelled = running
      let failures = attempts.compactMap { attempt -> NetError? in
        switch attempt {
        case .over(let met): met
        case .running: error
        case .waiting: nil
        }
      }
      return cancelled.map { .cancel($0) } + [.fail(failures.isEmpty ? [error] : failures)]
    }
  }

  private mutating func startNext(_ now: NIODeadline) -> [Action] {
    guard started < candidates.count else {
      nextAt = nil
      return waitOrFail()
    }
    let index = started
    started += 1
    attempts[index] = .running
    nextAt = now + delay
    return [.attempt(index, candidates[index])] + waitOrFail()
  }

  /// What follows when nothing starts now: a time to look again, the end, or only the answers to come.
  private mutating func waitOrFail() -> [Action] {
    if started < candidates.count, let nextAt { return [.wake(at: nextAt)] }
    guard isComplete, running.isEmpty, started == candidates.count else { return [] }
    isOver = true
    return [.fail(errors)]
  }

  private func isRunning(_ index: Int) -> Bool {
    guard attempts.indices.contains(index), case .running = attempts[index] else { return false }
    return true
  }

  private var running: [Int] { attempts.indices.filter(isRunning) }

  private var errors: [NetError] {
    attempts.compactMap { attempt in
      if case .over(let error) = attempt { return error }
      return nil
    }
  }
}

/// RFC 8305 §8.
public enum HappyEyeballsNumbers {
  /// "Connection Attempt Delay": 250 ms recommended.
  public static let attemptDelay: TimeAmount = .milliseconds(250)
  /// "MUST NOT be less than 10 ms".
  public static let leastDelay: TimeAmount = .milliseconds(10)
  /// "Maximum Connection Attempt Delay": 2 s recommended.
  public static let mostDelay: TimeAmount = .seconds(2)
}
