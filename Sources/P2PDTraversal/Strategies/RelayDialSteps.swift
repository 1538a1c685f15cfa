import NIOCore
import P2PDNet

/// When a relayed address is dialled, and when the way round is taken: an allocation of this side's own, from which its
/// server connects there. Dialling costs nobody anything and comes first; the way round starts beside it when the address is
/// out of reach: refused on the spot, silent for longer than a path takes to answer, or taken by something that does not
/// pass anything on. The first word that comes through either wins.
///
/// A decision only: hand it events with the time, and perform what it answers, in order.
struct RelayDialSteps: Sendable {
  enum Way: Hashable, Sendable {
    case plain
    /// Through this side's own relay.
    case round
  }

  enum Event: Sendable {
    case start
    /// The time asked for by `.wake(at:)` has come. One that comes early or late does no harm.
    case tick
    /// A stream is there, over which nothing has come yet.
    case connected(Way)
    /// No stream came about.
    case failed(Way, NetError.Code)
    /// A stream ended before its first word.
    case cut(Way)
    /// The own relay is there, and the other side lets it through as far as can be known.
    case opened
    /// There is no own relay, or not any longer.
    case closed
  }

  enum Action: Hashable, Sendable {
    /// Make a stream. By the way round there is one at a time (446): the silent one goes first.
    case dial(Way)
    /// Open the own relay.
    case open
    /// Send a `.tick` then; replaces any time asked for before.
    case wake(at: NIODeadline)
  }

  /// Streams that were begun by dialling.
  var tries: Int { plain.tries }
  /// Something took the connection at the address, though it may not have been the relay.
  private(set) var wasReached = false
  private var plain = Line()
  private var round = Line()
  private var began: NIODeadline?
  private var openAt: NIODeadline?
  /// nil: it cannot be opened.
  private let headStart: TimeAmount?
  private let random: @Sendable () -> Double

  private struct Line {
    var tries = 0
    var isDialling = false
    /// Connected, and silent so far.
    var silent = 0
    var next: NIODeadline?
    /// It was refused for good.
    var isOver = false
  }

  /// - Parameters:
  ///   - canOpen: this side knows TURN servers.
  ///   - isWalled: dialling was of no use the last time, in this network.
  ///   - random: 0 to 1.
  init(canOpen: Bool, isWalled: Bool = false, random: @escaping @Sendable () -> Double = { .random(in: 0...1) }) {
    headStart = canOpen ? isWalled ? .zero : Self.usualHeadStart : nil
    self.random = random
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    switch event {
    case .start:
      began = now
      plain.next = now
      openAt = headStart.map { now + $0 }
    case .tick: break
    case .connected(.plain):
      reached()
      plain.isDialling = false
      plain.silent += 1
      // The reset of a relay that does not let us through yet may be lost on its way.
      if plain.silent < Self.mostSilent { plain.next = now + Self.silence }
    case .connected(.round):
      (round.isDialling, round.silent) = (false, 1)
      round.next = now + Self.silence
    case .cut(.plain):
      reached()
      plain.silent = max(0, plain.silent - 1)
      plain.next = now + pause(after: plain.tries)
    case .cut(.round):
      round.silent = 0
      round.next = now + pause(after: round.tries)
    case .failed(.plain, let code):
      plain.isDialling = false
      plain.next = now + pause(after: plain.tries)
      if code == .reset { reached() }
      // Nobody is there, says somebody on the way: a firewall, if the relay lives.
      if !wasReached, openAt != nil, [.refused, .unreachable, .permission].contains(code) { openAt = now }
    case .failed(.round, let code):
      round.isDialling = false
      round.next = now + pause(after: round.tries)
      // Neither the server's mind nor the address's family changes.
      if [.permission, .unsupported, .closed].contains(code) { round.isOver = true }
    case .opened: round.next = now
    case .closed:
      (round.isOver, round.next) = (true, nil)
    }
    return due(now)
  }

  /// The relay's server, or something that stands before it and takes every connection: that is given more time.
  private mutating func reached() {
    wasReached = true
    if openAt != nil, let began { openAt = began + Self.silence }
  }

  private mutating func due(_ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if Self.isDue(&plain, now) { actions.append(.dial(.plain)) }
    if let at = openAt, at <= now {
      openAt = nil
      actions.append(.open)
    }
    if Self.isDue(&round, now) { actions.append(.dial(.round)) }
    let next = [plain.isDialling ? nil : plain.next, round.isDialling || round.isOver ? nil : round.next, openAt]
    if let first = next.compactMap({ $0 }).min() { actions.append(.wake(at: first)) }
    return actions
  }

  private static func isDue(_ line: inout Line, _ now: NIODeadline) -> Bool {
    guard !line.isDialling, !line.isOver, let next = line.next, next <= now else { return false }
    line.next = nil
    line.isDialling = true
    line.tries += 1
    return true
  }

  /// With jitter and growing: the permission is one message of the other side away, or it never comes.
  private func pause(after tries: Int) -> TimeAmount {
    let most = min(Self.firstPause * (1 << min(max(tries, 1) - 1, 4)), Self.longestPause)
    return .nanoseconds(most.nanoseconds / 2 + Int64(Double(most.nanoseconds / 2) * random()))
  }

  /// A relay that can be reached has taken the connection by then, on all but the longest paths; an allocation is other
  /// people's property.
  private static let usualHeadStart: TimeAmount = .milliseconds(400)
  /// How long a connection may be silent before another is tried beside it: some round trips of a slow path, with a SYN sent
  /// twice among them.
  private static let silence: TimeAmount = .milliseconds(1500)
  private static let firstPause: TimeAmount = .milliseconds(20)
  private static let longestPause: TimeAmount = .milliseconds(250)
  private static let mostSilent = 3
}
