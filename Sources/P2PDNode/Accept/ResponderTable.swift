import NIOCore
import P2PDNet
import P2PDSignaling
import P2PDTraversal

/// What this node does for others who want to reach it, and how much of that it lets them have. A value but for the
/// responders it holds; the time is handed in.
struct ResponderTable {
  private(set) var sessions: [Responder.Session: Responder?] = [:]
  private var perKey: [NodeKey: Int] = [:]
  private var dialled: StrangerBudget
  private var punches: StrangerBudget
  private var punchCalls: StrangerBudget
  /// Relays that were told of before this node was ready to take part.
  private var early: [Responder.Session: [Endpoint]] = [:]
  /// Allocations that are open for others.
  private(set) var lent = 0
  private var lentTo: [NodeKey: Int] = [:]
  /// Sessions whose pipe came before their offer: the way over brokers is the longer one.
  private var used: [SessionID] = []

  init(at now: NIODeadline) {
    dialled = StrangerBudget(each: Self.dialsOfKey, all: Self.dials, at: now)
    punches = StrangerBudget(each: Self.punchesOfKey, all: Self.punches, at: now)
    punchCalls = StrangerBudget(each: Self.punchCallsOfKey, all: Self.punchCalls, at: now)
  }

  enum Verdict: Equatable {
    case begin
    case refuse(Rendezvous.Refusal)
    /// A copy, or too late.
    case ignore
  }

  /// A node wants this one to take part. `begin` reserves a place, until ``end(_:)``.
  /// - Parameter isRelayed: its pipe is there, over a relay.
  mutating func admit(_ session: Responder.Session, isRelayed: Bool = false) -> Verdict {
    guard sessions[session] == nil, isRelayed || !used.contains(session.id) else { return .ignore }
    guard sessions.count < Self.mostSessions, perKey[session.key] ?? 0 < Self.mostPerKey else { return .refuse(.busy) }
    sessions[session] = .some(nil)
    perKey[session.key, default: 0] += 1
    return .begin
  }

  /// How many of so many addresses may be dialled for this key now.
  mutating func dials(_ wanted: Int, for key: NodeKey, at now: NIODeadline) -> Int {
    dialled.take(wanted, for: key, at: now)
  }

  /// Whether this node may make ready for one more hole punch with this key.
  mutating func punch(for key: NodeKey, at now: NIODeadline) -> Bool { punches.take(1, for: key, at: now) == 1 }

  /// Whether one more call of such a punch may leave.
  mutating func punchCall(for key: NodeKey, at now: NIODeadline) -> Bool {
    punchCalls.take(1, for: key, at: now) == 1
  }

  /// Notes relays for a session that has a place and is not begun; false: there is none.
  mutating func keep(_ endpoints: [Endpoint], for session: Responder.Session) -> Bool {
    guard let place = sessions[session], place == nil else { return false }
    early[session] = endpoints
    return true
  }

  mutating func takeKept(_ session: Responder.Session) -> [Endpoint]? { early.removeValue(forKey: session) }

  /// Whether an allocation may be opened for this key now; it counts until ``gotBack(from:)``. It costs as much as a dial.
  mutating func lend(to key: NodeKey, at now: NIODeadline) -> Bool {
    guard lent < Self.mostLent, lentTo[key] ?? 0 < Self.mostLentToKey, dials(1, for: key, at: now) == 1 else {
      return false
    }
    lent += 1
    lentTo[key, default: 0] += 1
    return true
  }

  mutating func gotBack(from key: NodeKey) {
    guard let count = lentTo[key] else { return }
    lent -= 1
    lentTo[key] = count > 1 ? count - 1 : nil
  }

  mutating func set(_ responder: Responder) {
    if sessions[responder.session] != nil { sessions[responder.session] = .some(responder) }
  }

  mutating func end(_ session: Responder.Session) {
    guard sessions.removeValue(forKey: session) != nil else { return }
    early[session] = nil
    perKey[session.key] = perKey[session.key].flatMap { $0 > 1 ? $0 - 1 : nil }
  }

  var all: [Responder] { sessions.values.compactMap { $0 } }

  subscript(session: Responder.Session) -> Responder? { sessions[session] ?? nil }

  /// There is a pipe of this session.
  mutating func note(used session: SessionID) {
    used.append(session)
    if used.count > Self.mostUsed { used.removeFirst() }
  }

  /// Of all nodes, and of one: as many as pipes of one key (``AcceptLimits``).
  static let mostSessions = 512
  static let mostPerKey = 128
  /// Addresses dialled because others want it, a second and at once: a hundred connects of one node at once, and a hundred
  /// a minute after that; of all nodes together as much as a small server's pipes come and go.
  static let dialsOfKey = (rate: 4.0, burst: 400.0)
  static let dials = (rate: 100.0, burst: 1000.0)
  /// Hole punches: each takes ports whose mappings STUN servers have to be asked for, a few connections.
  static let punchesOfKey = (rate: 2.0, burst: 100.0)
  static let punches = (rate: 10.0, burst: 300.0)
  /// Their calls, repeated ones included: a punch makes five as a rule, fifty between two routers that refuse, and a hundred
  /// of these may begin at once. A call is a SYN or three of 60 bytes, so that this is no way to flood somebody.
  static let punchCallsOfKey = (rate: 100.0, burst: 4000.0)
  static let punchCalls = (rate: 1000.0, burst: 10_000.0)
  /// Allocations open at a time: a server's quota for one user is of this order (coturn's guides: 10 to 100), and the node
  /// needs some itself.
  static let mostLent = 32
  static let mostLentToKey = 4
  /// A pipe's offer is at most a broker's delay behind it.
  static let mostUsed = 256
}

/// What strangers may have: so much each, so much all together, in bounded memory.
private struct StrangerBudget {
  private let each: (rate: Double, burst: Double)
  private var all: TokenBucket
  private var keys: [NodeKey: TokenBucket] = [:]

  init(each: (rate: Double, burst: Double), all: (rate: Double, burst: Double), at now: NIODeadline) {
    self.each = each
    self.all = TokenBucket(rate: all.rate, burst: all.burst, at: now)
  }

  /// How many of so many this key gets now.
  mutating func take(_ wanted: Int, for key: NodeKey, at now: NIODeadline) -> Int {
    if keys[key] == nil {
      if keys.count >= Self.mostKeys {
        // Who has a full budget loses nothing.
        for (key, budget) in keys {
          var budget = budget
          if budget.isFull(at: now) { keys[key] = nil }
        }
      }
      guard keys.count < Self.mostKeys else { return 0 }
      keys[key] = TokenBucket(rate: each.rate, burst: each.burst, at: now)
    }
    var allowed = 0
    while allowed < wanted, keys[key]?.take(at: now) ?? false, all.take(at: now) { allowed += 1 }
    return allowed
  }

  private static let mostKeys = 4096
}
