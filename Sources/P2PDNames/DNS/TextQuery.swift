import NIOCore
import P2PDNet

/// Asks DNS servers for the texts of a name, one after another, until one knows (RFC 1035 §7). An answer is believed where
/// it has the number and the question of ours; that it comes from whom we asked is the driver's to see.
struct TextQuery: Sendable {
  /// A server and the way to it.
  struct Place: Hashable, Sendable {
    var server: Int
    /// Over TCP, which takes answers of any length (RFC 7766).
    var isStream = false
  }

  enum Event: Sendable {
    case start
    case received(DNSMessage, from: Place)
    /// It cannot be asked, or not any more.
    case failed(Place, NetError)
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
  }

  enum Action: Sendable {
    case ask(DNSMessage, Place)
    case wait(until: NIODeadline)
    case finish(Result<[String], NetError>)
  }

  private let question: DNSQuestion
  private let servers: [String]
  private let end: NIODeadline
  private let random: @Sendable () -> UInt16
  private var open: [Place: DNSMessage] = [:]
  /// Servers that will not do, and why.
  private var lost: [Int: NetError] = [:]
  /// Questions sent to servers whose turn it was.
  private var asked = 0
  /// When the next server gets its turn.
  private var due: NIODeadline?
  private var isOver = false

  /// - Parameters:
  ///   - servers: as errors call them.
  ///   - timeout: for all of it.
  ///   - random: unpredictable, anew at each call (RFC 5452 §4.3).
  init(
    _ name: DNSName, servers: [String], now: NIODeadline, timeout: TimeAmount, random: @escaping @Sendable () -> UInt16
  ) {
    question = DNSQuestion(name: name, type: .txt)
    self.servers = servers
    end = now + timeout
    self.random = random
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: return next(now)
    case .received(let answer, let place): return take(answer, place, now)
    case .failed(let place, let error): return lose(place, error, now)
    case .timer:
      guard now >= end || due.map({ now >= $0 }) ?? false else { return wait() }
      return now < end ? next(now) : finish(.failure(timedOut))
    }
  }

  // MARK: Asking

  /// The next server's turn, round by round; those that are lost have none.
  private mutating func next(_ now: NIODeadline) -> [Action] {
    guard lost.count < servers.count else { return finish(.failure(allLost)) }
    while asked < servers.count * Self.rounds {
      let server = asked % servers.count
      let round = asked / servers.count
      asked += 1
      guard lost[server] == nil else { continue }
      due = now + Self.patience * (1 << round)
      // One that is busy over TCP is not disturbed.
      if open[Place(server: server, isStream: true)] != nil { return wait() }
      return ask(Place(server: server)) + wait()
    }
    due = nil
    return wait()
  }

  /// A repeated question keeps its number, so that a late answer counts.
  private mutating func ask(_ place: Place, withOptions: Bool = true) -> [Action] {
    var message = open[place] ?? DNSMessage()
    if open[place] == nil { message.id = random() }
    message.wantsRecursion = true
    message.questions = [question]
    message.additionals = withOptions ? [Self.options] : []
    open[place] = message
    return [.ask(message, place)]
  }

  private func wait() -> [Action] { [.wait(until: due.map { min($0, end) } ?? end)] }

  // MARK: Answers

  private mutating func take(_ answer: DNSMessage, _ place: Place, _ now: NIODeadline) -> [Action] {
    guard let asked = open[place], answer.isResponse, answer.id == asked.id, answer.operation == 0,
      answer.questions == [question] || answer.questions.isEmpty && answer.code == Self.formatError
    else { return [] }
    if answer.isTruncated {
      guard !place.isStream else {
        return lose(place, error(.dns, place, "its answer over TCP is cut off"), now)
      }
      let stream = Place(server: place.server, isStream: true)
      guard open[stream] == nil else { return [] }
      due = max(due ?? now, now + Self.patience)
      return ask(stream) + wait()
    }
    switch answer.code {
    case 0:
      let texts = Self.texts(of: question.name, in: answer)
      return finish(texts.isEmpty ? .failure(notFound("\(question.name) has no text")) : .success(texts))
    case 3: return finish(.failure(notFound("there is no name \(question.name)")))
    case Self.formatError where !asked.additionals.isEmpty:
      // RFC 6891 §7: it does not know what came after 1999.
      return ask(place, withOptions: false)
    case 5: return lose(place, error(.refused, place, "it refuses to answer us"), now)
    case let code: return lose(place, error(.dns, place, Self.words[code] ?? "it answers with error \(code)"), now)
    }
  }

  /// The texts of the name, or of the one that it stands for.
  private static func texts(of name: DNSName, in answer: DNSMessage) -> [String] {
    var name = name
    for _ in 0..<longestChain {
      let own = answer.answers.filter { $0.name == name && $0.isInternet }
      let texts = own.compactMap { record -> String? in
        guard case .txt(let strings) = record.data else { return nil }
        return String(validating: strings.flatMap { $0 }, as: UTF8.self)
      }
      if !texts.isEmpty { return Array(texts.prefix(mostTexts)) }
      let aliases = own.compactMap { record -> DNSName? in
        if case .cname(let target) = record.data { target } else { nil }
      }
      guard let alias = aliases.first else { return [] }
      name = alias
    }
    return []
  }

  private mutating func lose(_ place: Place, _ error: NetError, _ now: NIODeadline) -> [Action] {
    guard open[place] != nil, lost[place.server] == nil else { return [] }
    lost[place.server] = error
    // The next one need not wait for its turn, unless its turn has come and it is being asked.
    let current = asked > 0 ? (asked - 1) % servers.count : place.server
    return current == place.server || lost.count == servers.count ? next(now) : []
  }

  // MARK: The end

  private mutating func finish(_ result: Result<[String], NetError>) -> [Action] {
    isOver = true
    return [.finish(result)]
  }

  private var what: String { "look up the text of \(question.name)" }

  private func notFound(_ cause: String) -> NetError { NetError(.notFound, what, cause: cause) }

  private func error(_ code: NetError.Code, _ place: Place, _ cause: String) -> NetError {
    NetError(code, "ask \(servers[place.server])", cause: cause)
  }

  private var timedOut: NetError {
    let silent = servers.indices.filter { index in lost[index] == nil && open.keys.contains { $0.server == index } }
    return NetError(
      .timeout, what, cause: "no DNS server answered",
      attempts: silent.map { error(.timeout, Place(server: $0), "no answer") } + failures,
      remedy: "See whether \(ResolverFile.path) names servers that can be reached.")
  }

  private var allLost: NetError {
    let codes = Set(lost.values.map(\.code))
    return NetError(
      codes.count == 1 ? codes.first ?? .dns : .dns, what, cause: "no DNS server can tell", attempts: failures)
  }

  private var failures: [NetError] { lost.sorted { $0.key < $1.key }.map(\.value) }

  // MARK: Numbers

  /// RFC 1035 §7.2 advises against more; the C library asks each twice.
  private static let rounds = 2
  /// For an answer before the next server is asked, doubled in the second round. The C library's is 5 s, but a person waits,
  /// and a late answer counts all the same.
  private static let patience: TimeAmount = .milliseconds(1500)
  /// Aliases of aliases; the resolvers in use follow 8 to 16.
  private static let longestChain = 8
  private static let mostTexts = 64
  private static let formatError: UInt16 = 1
  private static let words: [UInt16: String] = [
    1: "it does not understand the question", 2: "it failed to find out", 4: "it does not do that",
  ]
  /// RFC 6891 §6.2.5: answers of that many bytes may come over UDP; the DNS flag day of 2020 found that size to get through.
  private static let options = DNSRecord(name: .root, rawClass: 1232, ttl: 0, data: .other(.opt, []))
}
