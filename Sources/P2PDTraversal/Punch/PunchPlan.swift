import NIOCore
import P2PDNet

/// Who dials what when in a TCP hole punch. Both sides make the same plan out of the two ``PunchSide``s, so that their
/// SYNs cross. Knows no socket and no clock; ``TCPPunch`` performs what it answers.
///
/// The rules behind it: one socket for each pair of ports, and one that waits for an answer is never replaced, since
/// routers track sequence numbers. Against a lost SYN, other pairs of ports help. After a refusal the same pair is dialled
/// again, after a pause that chance chooses: with equal ones two routers that refuse can miss each other for ever.
public struct PunchPlan: Sendable {
  /// Two ends of a connection: one of our ports and a place of the peer's.
  public struct Pair: Hashable, Sendable {
    /// The place of our way out in our side's list, and of the port in that.
    public let path: Int
    public let port: Int
    public let to: Endpoint
  }

  public enum Event: Sendable {
    /// The agreed start is known, and may be in the past.
    case start
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
    case connected(Pair)
    case failed(Pair, PunchReport.Seen)
  }

  public enum Action: Hashable, Sendable {
    /// Take what comes to that port of ours.
    case listen(path: Int, port: Int)
    case dial(Pair)
    case wait(until: NIODeadline)
    /// Nothing more will be dialled: the time is over, nothing may be dialled, or nothing is left to wait for.
    case end
  }

  public let verdict: PunchRule.Verdict
  /// Each pair once it was dialled, in the order of first dials.
  public private(set) var attempts: [(pair: Pair, attempt: Try)] = []

  public struct Try: Hashable, Sendable {
    /// After the agreed start.
    public var first: TimeAmount
    public var count = 1
    public var seen: PunchReport.Seen = .silent
  }

  private struct Due {
    let pair: Pair
    var time: NIODeadline
    /// Its place among dials of one time: a sequential router's ports are given in that order.
    let order: Int
  }

  private let start: NIODeadline
  private let until: NIODeadline
  private var due: [Due] = []
  private var listens: [(path: Int, port: Int)] = []
  private var places: [Pair: Int] = [:]
  private var open: Set<Pair> = []
  private var retries = 0
  private var isOver = false

  /// - Parameters:
  ///   - peer: as it was believed (``PunchSide/believed(by:)``).
  ///   - start: when both sides dial.
  ///   - until: when to give up, at the latest `start` and ``patience``.
  ///   - used: how many of our predicted ports other connections have taken since; as many of a peer's predicted places
  ///     have lost their counterpart.
  public init(
    own: PunchSide, peer: PunchSide, at start: NIODeadline, until: NIODeadline? = nil, used: Int = 0
  ) {
    self.start = start
    self.until = min(until ?? .distantFuture, start + Self.patience)
    verdict = PunchRule.verdict(own: own, peer: peer)
    for (ours, theirs) in PunchRule.pairs(own, peer) {
      plan(ours, own.paths[ours], peer.paths[theirs], used)
    }
  }

  private mutating func plan(_ index: Int, _ own: PunchSide.Path, _ peer: PunchSide.Path, _ used: Int) {
    let rule = PunchRule(own: own, peer: peer)
    if rule.listens {
      for port in own.ports.indices where !listens.contains(where: { $0 == (index, port) }) {
        listens.append((index, port))
      }
    }
    guard rule.dials else { return }
    let ourselves = Set(own.endpoints)
    for (port, one) in own.ports.enumerated() {
      for (place, other) in peer.ports.enumerated() {
        guard let delay = Self.delay(port, place) else { continue }
        // The n-th connection of one sequential router must meet the n-th of the other.
        let skipped = one.isPredicted && other.isPredicted && used < other.endpoints.count ? used : 0
        for to in other.endpoints.dropFirst(skipped) where !ourselves.contains(to) {
          let pair = Pair(path: index, port: port, to: to)
          guard due.count < Self.mostPairs, !due.contains(where: { $0.pair == pair }) else { continue }
          due.append(Due(pair: pair, time: start + delay, order: due.count))
        }
      }
    }
  }

  /// When a pair of ports, by their places in the two lists, is dialled first; nil: not at all.
  private static func delay(_ own: Int, _ peer: Int) -> TimeAmount? {
    switch (own, peer) {
    case (0, 0): .zero
    case (1, 1): secondPair
    case (0, 1), (1, 0), (2, 2): thirdPair
    default: nil
    }
  }

  // MARK: Steps

  /// - Parameter generator: for the pauses.
  public mutating func handle(
    _ event: Event, now: NIODeadline, using generator: inout some RandomNumberGenerator
  ) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: return listens.map { .listen(path: $0.path, port: $0.port) } + proceed(now)
    case .timer: return proceed(now)
    case .connected(let pair):
      guard open.remove(pair) != nil else { return [] }
      note(pair, .connected)
      // The other pairs were for the case that this one fails; the proof that it does not takes a moment.
      for index in due.indices { due[index].time = max(due[index].time, now + Self.proofTime) }
      return proceed(now)
    case .failed(let pair, let seen):
      guard open.remove(pair) != nil else { return [] }
      note(pair, seen)
      if seen.isPassing, retries < Self.mostRetries {
        retries += 1
        let pause = TimeAmount.nanoseconds(
          .random(in: Self.shortestPause.nanoseconds...Self.longestPause.nanoseconds, using: &generator))
        due.append(Due(pair: pair, time: now + pause * slowing(pair), order: places[pair] ?? 0))
      }
      return proceed(now)
    }
  }

  private mutating func proceed(_ now: NIODeadline) -> [Action] {
    guard now < until, !verdict.isImpossible else { return end() }
    var actions: [Action] = []
    let ready = due.filter { $0.time <= now }.sorted { ($0.time, $0.order) < ($1.time, $1.order) }
    due.removeAll { $0.time <= now }
    for one in ready {
      open.insert(one.pair)
      if let place = places[one.pair] {
        attempts[place].attempt.count += 1
        attempts[place].attempt.seen = .silent
      } else {
        places[one.pair] = attempts.count
        attempts.append((one.pair, Try(first: max(.zero, now - start))))
      }
      actions.append(.dial(one.pair))
    }
    // Whoever got a stream still has to find out who is at its other end, and may want the ports until then.
    let isFutile = !attempts.contains { $0.attempt.seen == .connected }
    if due.isEmpty, open.isEmpty, listens.isEmpty, isFutile { return actions + end() }
    return actions + [.wait(until: min(until, due.map(\.time).min() ?? until))]
  }

  private mutating func end() -> [Action] {
    isOver = true
    due = []
    open = []
    return [.end]
  }

  private mutating func note(_ pair: Pair, _ seen: PunchReport.Seen) {
    if let place = places[pair] { attempts[place].attempt.seen = seen }
  }

  /// Who was refused ten times is not about to meet the other: asking on at that rate is only noise.
  private func slowing(_ pair: Pair) -> Int {
    1 + (places[pair].map { attempts[$0].attempt.count } ?? 0) / Self.quickTries
  }

  // MARK: Constants

  /// A path that does not open in this time does not open: nearly all do at the first try.
  public static let patience: TimeAmount = .seconds(5)
  /// The kernel sends a lost SYN again after 1 s, no sooner; another pair of ports need not wait for that.
  private static let secondPair: TimeAmount = .milliseconds(80)
  private static let thirdPair: TimeAmount = .milliseconds(250)
  /// Measured with two routers that refuse: any skew is overcome within 0.6 s.
  private static let shortestPause: TimeAmount = .milliseconds(10)
  private static let longestPause: TimeAmount = .milliseconds(90)
  /// A handshake over a slow path.
  private static let proofTime: TimeAmount = .milliseconds(500)
  private static let quickTries = 10
  /// What one peer can make us dial, however it describes itself.
  static let mostPairs = 32
  static let mostRetries = 300
}
