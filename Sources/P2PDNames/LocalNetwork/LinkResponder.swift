import NIOCore
import P2PDNet

/// Holds one name on one link (an interface with both its families) as RFC 6762 wants it: asks whether it is free before it
/// claims it (§8.1), tells everybody (§8.3), answers who asks (§6), gives way to who has it (§9), and says goodbye (§10.1).
///
/// A name that another key answers for is taken. It is not renamed: a peer's name is what people know it by. It is
/// asked for again from time to time, in case the other leaves. Another that proves to have the same key, by its text or
/// its host's name, is the same node and no conflict.
struct LinkResponder: Sendable {
  enum Event: Sendable {
    case start
    /// The service has another address or port now. Its name and key stay.
    case changed(LocalService)
    /// The link's own addresses.
    case addresses([IPAddress])
    /// A message from the link.
    case received(DNSMessage, from: Endpoint)
    case stop
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
  }

  enum Action: Sendable {
    case multicast(DNSMessage)
    case unicast(DNSMessage, to: Endpoint)
    /// nil: for nothing.
    case wait(until: NIODeadline?)
    /// The name is ours on this link.
    case claimed
    /// Another has it; its key where it says one.
    case taken(by: [UInt8]?)
  }

  enum Phase: Hashable, Sendable {
    /// So many probes are out.
    case probing(Int)
    /// It is ours, and so many announcements are out.
    case announcing(Int)
    case owned
    case taken
    case over
  }

  private(set) var service: LocalService
  private(set) var phase = Phase.probing(0)
  private var addresses: [IPAddress]
  private var records: LinkRecords
  private let luck: @Sendable () -> Double
  /// When to go on with probing, announcing, or asking again.
  private var step: NIODeadline?
  private var waiting: NIODeadline?
  private var announced: NIODeadline?
  private var unicasts: TokenBucket

  /// - Parameter luck: 0 to 1, anew at each call.
  init(_ service: LocalService, addresses: [IPAddress], now: NIODeadline, luck: @escaping @Sendable () -> Double) {
    self.service = service
    self.addresses = addresses
    self.luck = luck
    records = LinkRecords(service, addresses: addresses)
    unicasts = TokenBucket(rate: Self.unicastRate, burst: Self.unicastBurst, at: now)
  }

  /// It answers for the name.
  var isOwner: Bool {
    switch phase {
    case .announcing, .owned: true
    default: false
    }
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard phase != .over else { return [] }
    var actions: [Action] = []
    switch event {
    case .start: step = now + Self.part(of: Self.probeSpread, luck())
    case .changed(let service): renew(service, addresses, now)
    case .addresses(let addresses) where addresses != self.addresses: renew(service, addresses, now)
    case .addresses: break
    case .received(let message, let source): actions = take(message, source, now)
    case .stop: actions = stop()
    case .timer:
      waiting = nil
      actions = goOn(now)
    }
    let next = [step, records.due].compactMap { $0 }.min()
    if next != waiting {
      waiting = next
      actions.append(.wait(until: next))
    }
    return actions
  }

  // MARK: Claiming

  private mutating func goOn(_ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if let time = step, time <= now {
      switch phase {
      case .probing(let sent) where sent < Self.probes:
        actions.append(.multicast(probe))
        phase = .probing(sent + 1)
        step = now + Self.probePause
      case .probing:
        actions.append(.claimed)
        actions += announce(0, now)
      case .announcing(let sent): actions += announce(sent, now)
      case .taken:
        phase = .probing(0)
        step = now
        return goOn(now)
      case .owned, .over: step = nil
      }
    }
    return actions + multicast(records.takeDue(now), now)
  }

  /// Both programs of one host hear what comes to all, but only one of them what comes to its port, so nobody is asked
  /// for an answer to us alone (RFC 6762 §15.1).
  private var probe: DNSMessage {
    var message = DNSMessage()
    message.questions = [DNSQuestion(name: service.instance, type: .any)]
    message.authorities = records.claimed
    return message
  }

  private mutating func announce(_ sent: Int, _ now: NIODeadline) -> [Action] {
    let isLast = sent + 1 >= Self.announcements
    phase = isLast ? .owned : .announcing(sent + 1)
    step = isLast ? nil : now + Self.announcementPause
    announced = now
    records.forgetDue()
    // What was told just now, in an answer, is not told again (RFC 6762 §6).
    let all = records.announced.filter { !records.wasSentJustNow($0, now) }
    records.markSent(all, now)
    return DNSMessage.packed(all.map { records.entries[$0].record }).map { .multicast($0) }
  }

  private mutating func renew(_ service: LocalService, _ addresses: [IPAddress], _ now: NIODeadline) {
    guard service.instance == self.service.instance, service.key == self.service.key else { return }
    (self.service, self.addresses) = (service, addresses)
    records = LinkRecords(service, addresses: addresses, after: records)
    guard isOwner else { return }
    // RFC 6762 §8.4: who has claimed a name tells what is new without asking again.
    phase = .announcing(0)
    step = max(now, announced.map { $0 + Self.announcementPause } ?? now)
  }

  private mutating func stop() -> [Action] {
    let isOwner = isOwner
    phase = .over
    step = nil
    records.forgetDue()
    guard isOwner else { return [] }
    // The list of services and the host's addresses may be others' too.
    let own = records.entries.filter { $0.record.name == service.instance || $0.record.name == LocalService.type }
    return DNSMessage.packed(own.filter { $0.record.type != .nsec }.map { $0.record.lasting(0) }).map { .multicast($0) }
  }

  // MARK: What others say

  private mutating func take(_ message: DNSMessage, _ source: Endpoint, _ now: NIODeadline) -> [Action] {
    // RFC 6762 §18.3 and §18.11.
    guard message.operation == 0, message.code == 0 else { return [] }
    if message.isResponse {
      // RFC 6762 §6: "MUST silently ignore" from any other port.
      return source.port == LocalNetwork.port ? hear(message, now) : []
    }
    if isOwner { return answer(message, source, now) }
    if case .probing = phase { tie(message, now) }
    return []
  }

  private mutating func hear(_ message: DNSMessage, _ now: NIODeadline) -> [Action] {
    let said = message.answers + message.additionals
    for record in said { records.cancel(record, knownTo: nil) }
    if phase == .taken, said.contains(where: { $0.name == service.instance && $0.ttl == 0 }) {
      // A goodbye. Others give up what they know of it a second later (RFC 6762 §10.1).
      step = now + Self.goodbyeTime
      return []
    }
    guard let other = said.compactMap({ claimant($0) }).first else { return [] }
    switch phase {
    // Nobody was asked yet: it is no answer to us, but may be the other family's copy of what brought us here.
    case .probing(0): break
    case .probing:
      phase = .taken
      step = now + Self.retryTime
      return [.taken(by: other.key)]
    case .announcing, .owned:
      // RFC 6762 §9: both ask again, not at the same moment, and who was asked first answers.
      records.forgetDue()
      ask(again: now + Self.part(of: Self.probeSpread, luck()))
    case .taken, .over: break
    }
    return []
  }

  private struct Claimant { let key: [UInt8]? }

  /// Who says that the name is theirs; nil where nobody but us does.
  private func claimant(_ record: DNSRecord) -> Claimant? {
    guard record.name == service.instance, record.isInternet, record.ttl > 0 else { return nil }
    let key: [UInt8]?
    switch record.data {
    case .txt(let strings): key = LocalText.read(strings)?.key
    case .srv(_, _, _, let target): key = LocalService.key(of: target)
    default: return nil
    }
    return key == service.key ? nil : Claimant(key: key)
  }

  /// RFC 6762 §8.2: of two that ask at once, the one whose records come later in the order of bytes goes on. The other
  /// waits, and then finds the name taken.
  private mutating func tie(_ message: DNSMessage, _ now: NIODeadline) {
    let theirs = message.authorities.filter { $0.name == service.instance && $0.isInternet }
    guard theirs.contains(where: { claimant($0.lasting(1)) != nil }) else { return }
    let pairs = (Self.order(records.claimed), Self.order(theirs))
    if pairs.0.lexicographicallyPrecedes(pairs.1, by: { $0.lexicographicallyPrecedes($1) }) {
      ask(again: now + Self.tiePause)
    }
  }

  private static func order(_ records: [DNSRecord]) -> [[UInt8]] {
    records.map { record in
      var bytes: [UInt8] = []
      bytes.append(uint16: record.rawClass & 0x7fff)
      bytes.append(uint16: record.type.number)
      return bytes + record.data.canonical
    }.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// Begins anew with probing. A name that somebody keeps contesting is asked for no more often than each 0.75 s, as that
  /// is how long the probes take, and so never fifteen times in ten seconds, at which RFC 6762 §8.1 wants a pause.
  private mutating func ask(again time: NIODeadline) {
    phase = .probing(0)
    step = time
  }

  // MARK: Answering

  private mutating func answer(_ query: DNSMessage, _ source: Endpoint, _ now: NIODeadline) -> [Action] {
    // Known answers that did not fit into the question come behind it (RFC 6762 §7.2).
    if query.questions.isEmpty {
      for record in query.answers { records.cancel(record, knownTo: source) }
      return []
    }
    let isProbe = query.authorities.contains { $0.name == service.instance }
    let isLegacy = source.port != LocalNetwork.port
    var toAll: [Int] = []
    var toOne: [Int] = []
    for question in query.questions {
      for index in records.answers(to: question) where !query.answers.contains(where: { isKnown(index, by: $0) }) {
        let isAlone = isLegacy || question.wantsUnicast && !isProbe && records.isFresh(index, now)
        if isAlone { toOne.append(index) } else { toAll.append(index) }
      }
    }
    let time = now + delay(toAll, isTruncated: query.isTruncated)
    for index in Set(toAll) { records.schedule(index, at: time, for: source, isProbe: isProbe) }
    let actions = unicast(Array(Set(toOne).subtracting(toAll)).sorted(), to: query, source, isLegacy: isLegacy, now)
    return actions + multicast(records.takeDue(now), now)
  }

  private func isKnown(_ index: Int, by other: DNSRecord) -> Bool { records.entries[index].record.isKnown(by: other) }

  /// RFC 6762 §6: an answer that only we can give goes out at once, one that others give too after some time by luck.
  private func delay(_ indices: [Int], isTruncated: Bool) -> TimeAmount {
    let isShared = indices.contains { records.entries[$0].isShared }
    guard isTruncated || isShared else { return .zero }
    return (isTruncated ? Self.truncatedDelay : Self.sharedDelay) + Self.part(of: Self.sharedSpread, luck())
  }

  private static func part(of whole: TimeAmount, _ luck: Double) -> TimeAmount {
    .nanoseconds(Int64(Double(whole.nanoseconds) * luck))
  }

  private mutating func multicast(_ indices: [Int], _ now: NIODeadline) -> [Action] {
    guard !indices.isEmpty else { return [] }
    let additions = records.additions(to: indices).filter { !records.wasSentJustNow($0, now) }
    records.markSent(indices, now)
    let messages = DNSMessage.packed(
      indices.map { records.entries[$0].record }, additionals: additions.map { records.entries[$0].record })
    let sent = Set(messages.flatMap(\.additionals))
    records.markSent(additions.filter { sent.contains(records.entries[$0].record) }, now)
    return messages.map { .multicast($0) }
  }

  /// To who knows no multicast DNS, or wants the answer alone. A forged source can be a neighbour only, and gets little.
  private mutating func unicast(
    _ indices: [Int], to query: DNSMessage, _ source: Endpoint, isLegacy: Bool, _ now: NIODeadline
  ) -> [Action] {
    guard !indices.isEmpty, unicasts.take(at: now) else { return [] }
    // RFC 6762 §6.7: one who knows no multicast DNS is not to keep them for long.
    let written = { [records] (index: Int) in
      isLegacy ? records.entries[index].record.plain(ttl: Self.legacyLife) : records.entries[index].record
    }
    let additions = records.additions(to: indices).map(written)
    var question = query
    question.questions = Array(query.questions.filter { !records.answers(to: $0).isEmpty }.prefix(Self.mostRepeated))
    return DNSMessage.packed(indices.map(written), additionals: additions, to: isLegacy ? question : nil)
      .map { .unicast($0, to: source) }
  }

  // MARK: Numbers

  /// RFC 6762 §8.1: three, a quarter of a second apart, the first after up to as much.
  private static let probes = 3
  private static let probePause: TimeAmount = .milliseconds(250)
  private static let probeSpread: TimeAmount = .milliseconds(250)
  /// §8.3.
  private static let announcements = 2
  private static let announcementPause: TimeAmount = .seconds(1)
  /// §8.2.
  private static let tiePause: TimeAmount = .seconds(1)
  /// §6: 20 to 120 ms; §7.2: 400 to 500 ms where more known answers follow.
  private static let sharedDelay: TimeAmount = .milliseconds(20)
  private static let sharedSpread: TimeAmount = .milliseconds(100)
  private static let truncatedDelay: TimeAmount = .milliseconds(400)
  /// §6.7: ten seconds.
  private static let legacyLife: UInt32 = 10
  private static let mostRepeated = 4
  private static let goodbyeTime: TimeAmount = .seconds(1)
  /// A name that another has: long enough to bother nobody, short enough for a person who waits.
  private static let retryTime: TimeAmount = .seconds(60)
  /// A second. More than people and tools ask; 30 KB at most.
  private static let unicastRate = 20.0
  private static let unicastBurst = 40.0
}
