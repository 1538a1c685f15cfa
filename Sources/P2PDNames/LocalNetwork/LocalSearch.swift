import NIOCore
import P2PDNet

/// Asks the local network for one name, or for all there are (RFC 6762 §5.2, RFC 6763 §4). What is found is kept no longer
/// than the search lasts: a node that left without a word is not found the next time.
struct LocalSearch: Sendable {
  enum Goal: Hashable, Sendable {
    case name(DNSName)
    case all
  }

  enum Event: Sendable {
    case start
    case received(DNSMessage, from: Endpoint, interface: String)
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
    /// It ends with what there is.
    case stop
  }

  enum Action: Sendable {
    /// On every link.
    case ask(DNSMessage)
    case wait(until: NIODeadline)
    case finish([LocalName])
  }

  private let goal: Goal
  private var end: NIODeadline
  private var found: [LocalName] = []
  /// Names that were told, with how long they last, and how often their text was asked for.
  private var instances: [DNSName: (ttl: UInt32, asked: Int)] = [:]
  private var repetition: NIODeadline?
  private var interval = Self.firstInterval
  private var details: NIODeadline?
  private var isOver = false

  init(_ goal: Goal, now: NIODeadline, timeout: TimeAmount) {
    self.goal = goal
    end = now + timeout
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    var actions: [Action] = []
    switch event {
    case .start: actions = ask(now)
    case .received(let message, let source, let interface):
      guard message.isResponse, message.operation == 0, message.code == 0, source.port == LocalNetwork.port else {
        return []
      }
      for record in message.answers + message.additionals where record.isInternet {
        take(record, source, interface, now)
      }
    case .timer:
      if now >= end { return finish() }
      if let repetition, repetition <= now { actions = ask(now) }
      if let details, details <= now { actions += askDetails() }
    case .stop: return finish()
    }
    return actions + [.wait(until: [end, repetition ?? end, details ?? end].min() ?? end)]
  }

  private mutating func finish() -> [Action] {
    isOver = true
    return [.finish(found.sorted { ($0.label, $0.value) < ($1.label, $1.value) })]
  }

  // MARK: Asking

  private mutating func ask(_ now: NIODeadline) -> [Action] {
    repetition = now + interval
    interval = min(interval * 2, Self.longestInterval)
    var message = DNSMessage()
    switch goal {
    case .name(let name): message.questions = [DNSQuestion(name: name, type: .txt)]
    case .all:
      message.questions = [DNSQuestion(name: LocalService.type, type: .ptr)]
      // Who is known need not answer (RFC 6762 §7.1).
      let known = Set(found.compactMap { LocalService.instance($0.label) })
      message.answers = instances.filter { known.contains($0.key) }.prefix(Self.mostKnown).map {
        DNSRecord(name: LocalService.type, ttl: $0.value.ttl, data: .ptr($0.key))
      }
    }
    return [.ask(message)]
  }

  /// The texts that did not come by themselves.
  private mutating func askDetails() -> [Action] {
    details = nil
    let known = Set(found.compactMap { LocalService.instance($0.label) })
    var message = DNSMessage()
    for (name, seen) in instances where !known.contains(name) && seen.asked < Self.mostAsked {
      guard message.questions.count < Self.mostQuestions else { break }
      message.questions.append(DNSQuestion(name: name, type: .txt))
      instances[name]?.asked += 1
    }
    return message.questions.isEmpty ? [] : [.ask(message)]
  }

  // MARK: Answers

  private mutating func take(_ record: DNSRecord, _ source: Endpoint, _ interface: String, _ now: NIODeadline) {
    switch record.data {
    case .ptr(let name):
      guard goal == .all, record.name == LocalService.type, LocalService.label(of: name) != nil else { return }
      if record.ttl == 0 {
        instances[name] = nil
      } else if instances[name] == nil, instances.count < Self.mostNames {
        instances[name] = (record.ttl, 0)
        details = details ?? now + Self.detailTime
      }
    case .txt(let strings):
      if case .name(let name) = goal, name != record.name { return }
      guard let label = LocalService.label(of: record.name), let (key, value) = LocalText.read(strings) else { return }
      if record.ttl == 0 {
        found.removeAll { $0.label == label && $0.key == key }
        return
      }
      guard !found.contains(where: { $0.label == label && $0.key == key && $0.value == value }),
        found.count < Self.mostNames
      else { return }
      found.append(LocalName(label: label, key: key, value: value, from: source, interface: interface))
      // A second owner, if there is one, answers at the same time as the first.
      if case .name = goal, found.count == 1 { end = min(end, now + Self.settleTime) }
    default: return
    }
  }

  // MARK: Numbers

  /// RFC 6762 §5.2: a second at least, and twice as long each time.
  private static let firstInterval: TimeAmount = .seconds(1)
  private static let longestInterval: TimeAmount = .seconds(60)
  /// Owners answer at once (RFC 6762 §6); Wi-Fi holds what is for all for up to 100 ms.
  private static let settleTime: TimeAmount = .milliseconds(150)
  /// Texts come along with the names, as RFC 6763 §12.1 wants it.
  private static let detailTime: TimeAmount = .milliseconds(100)
  private static let mostAsked = 3
  /// Of one message: what fits into a packet of Ethernet, names being 80 bytes at most.
  private static let mostQuestions = 15
  private static let mostKnown = 15
  /// More than a LAN has; it bounds what a liar costs.
  private static let mostNames = 256
}
