import NIOCore
import P2PDNet

/// Decides about each message that arrives, cheapest reasons first, in bounded memory. Stepped by hand: time is handed in.
///
/// | step | costs about | who can pay to get past it |
/// |---|---|---|
/// | length | nothing | everybody |
/// | gate: one ChaCha20-Poly1305 | 2 µs | who knows the node's id, or holds a message to it |
/// | age, seen before | 1 µs | who knows the id |
/// | budget for strangers, of each broker | nothing | nobody, for long |
/// | seal and signature | 200 µs | a real sender |
/// | budget of the sender | nothing | |
struct Inbox {
  enum Verdict: Equatable {
    case message(from: SignalKey, payload: [UInt8])
    /// `secret` makes the answer; `id` is what a repetition is known by.
    case request(from: SignalKey, payload: [UInt8], secret: [UInt8], id: SeenFilter.Digest)
    /// It came before; counted as a duplicate.
    case repeated(SeenFilter.Digest)
    case answer(Gate.Label, payload: [UInt8], held: UInt32)
    case refused(SignalStats.Refusal)
  }

  /// Where a message came in. Each of the node's own brokers has its budget for strangers, so that who floods one of them
  /// leaves the others' free; those of other nodes share one.
  enum Door: Hashable {
    case own(Broker)
    case foreign
  }

  private struct Expected {
    let gate: Gate
    let from: SignalKey
    var tries = 0
    var isAnswered = false
  }

  private(set) var stats = SignalStats()
  private let identity: SignalIdentity
  private let conf: SignalingConf
  private let gate: Gate
  private var seen: SeenFilter
  private var strangers: [Door: TokenBucket] = [:]
  private var senders: KeyedRates<SignalKey>
  private var expected: [Gate.Label: Expected] = [:]

  init(_ identity: SignalIdentity, _ conf: SignalingConf, at now: NIODeadline) {
    self.identity = identity
    self.conf = conf
    gate = Gate(of: identity.key)
    seen = SeenFilter(capacity: conf.seenCapacity, retention: conf.retention)
    strangers[.foreign] = TokenBucket(rate: conf.strangersPerSecond, burst: conf.strangersBurst, at: now)
    senders = KeyedRates(rate: conf.senderPerSecond, burst: conf.senderBurst, capacity: conf.senders)
  }

  /// What is kept in memory: messages in mind, senders, answers waited for.
  var kept: (seen: Int, senders: Int, expected: Int) { (seen.count, senders.count, expected.count) }

  mutating func receive(_ message: [UInt8], by door: Door = .foreign, now: NIODeadline, clock: UInt32) -> Verdict {
    let verdict = judge(message, door, now, clock)
    switch verdict {
    case .refused(let why): refuse(why)
    case .repeated: refuse(.duplicate)
    case .message, .request, .answer: stats.delivered &+= 1
    }
    return verdict
  }

  /// A message thrown away before it came here.
  mutating func refuse(_ why: SignalStats.Refusal) { stats.refused[why, default: 0] &+= 1 }

  // MARK: Answers

  /// Waits for an answer with this secret. nil: too many are waited for.
  mutating func expect(_ secret: [UInt8], from sender: SignalKey) -> Gate.Label? {
    let gate = Gate(answering: secret)
    guard expected.count < conf.requests, let label = gate.label else { return nil }
    expected[label] = Expected(gate: gate, from: sender)
    return label
  }

  mutating func forget(_ label: Gate.Label) { expected[label] = nil }

  // MARK: Judging

  private mutating func judge(_ message: [UInt8], _ door: Door, _ now: NIODeadline, _ clock: UInt32) -> Verdict {
    guard Gate.sizes.contains(message.count), let label = Gate.label(of: message) else { return .refused(.form) }
    if expected[label] != nil { return judge(answer: message, label, clock) }
    guard let inner = gate.open(message) else { return .refused(.junk) }
    guard let sealed = SealedMessage(inner: inner) else { return .refused(.version) }
    if let refusal = age(of: sealed, clock) { return .refused(refusal) }
    guard !seen.contains(sealed.digest, at: now) else { return .repeated(sealed.digest) }
    guard hasBudget(door, now) else { return .refused(.busy) }
    guard seen.insert(sealed.digest, at: now) else { return .refused(.busy) }
    guard let (sender, content) = sealed.open(by: identity) else { return .refused(.forged) }
    guard senders.allows(sender, at: now) else { return .refused(.sender) }
    switch content.kind {
    case .message: return .message(from: sender, payload: content.payload)
    case .request(let secret):
      return .request(from: sender, payload: content.payload, secret: secret, id: sealed.digest)
    case .answer: return .refused(.unasked)
    }
  }

  private mutating func hasBudget(_ door: Door, _ now: NIODeadline) -> Bool {
    var door = door
    if strangers[door] == nil {
      if strangers.count < conf.doors {
        strangers[door] = TokenBucket(rate: conf.strangersPerSecond, burst: conf.strangersBurst, at: now)
      } else {
        door = .foreign
      }
    }
    return strangers[door]?.take(at: now) ?? false
  }

  /// Only who read the request can make this, so no budget for strangers stands before it.
  private mutating func judge(answer message: [UInt8], _ label: Gate.Label, _ clock: UInt32) -> Verdict {
    guard var entry = expected[label] else { return .refused(.junk) }
    if entry.isAnswered { return .refused(.duplicate) }
    guard entry.tries < Self.triesPerAnswer else { return .refused(.busy) }
    guard let inner = entry.gate.open(message) else { return .refused(.junk) }
    guard let sealed = SealedMessage(inner: inner) else { return .refused(.version) }
    if let refusal = age(of: sealed, clock) { return .refused(refusal) }
    entry.tries += 1
    expected[label] = entry
    guard let (sender, content) = sealed.open(by: identity) else { return .refused(.forged) }
    guard sender == entry.from, case .answer(let held) = content.kind else { return .refused(.unasked) }
    entry.isAnswered = true
    expected[label] = entry
    return .answer(label, payload: content.payload, held: held)
  }

  private func age(of message: SealedMessage, _ clock: UInt32) -> SignalStats.Refusal? {
    let age = Int64(clock) - Int64(message.issued)
    if age < -Int64(conf.clockTolerance) { return .early }
    return age > min(Int64(message.lifetime), SignalingConf.longestLifetime) + Int64(conf.clockTolerance)
      ? .expired : nil
  }

  /// The node that was asked has no reason to send more than copies of one.
  private static let triesPerAnswer = 4
}
