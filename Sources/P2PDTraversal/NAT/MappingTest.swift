import P2PDNet

/// Finds out how a router maps one inside port (RFC 5780 §4.3, and by comparing servers where none helps with that).
/// Asks everybody at once, so the answer is there after one round trip; a server with a second address is asked for it,
/// which tells ADM from APDM. What most servers of different addresses say counts: one that lies, or is dead, changes
/// nothing.
public struct MappingTest: Sendable {
  public enum Event: Sendable {
    /// - Parameter local: our own address and port.
    case start(local: Endpoint)
    /// A server's endpoint is known. All are of one family; of several with one address the first speaks for it.
    case found(Endpoint)
    /// There are no more servers.
    case searched
    /// The server saw us as `mapped`; `other` is its second address, if it has one.
    case answered(Endpoint, mapped: Endpoint, other: Endpoint?)
    case failed(Endpoint)
  }

  public enum Action: Hashable, Sendable {
    /// Ask that server from the one inside port.
    case ask(Endpoint)
    /// What is known by now; it may be told again when more is.
    case conclude(Verdict)
    /// Nothing more will come.
    case finish(Verdict)
  }

  public struct Verdict: Hashable, Sendable {
    public var mapping: NATBehaviour.Mapping?
    /// The outside endpoints, the one most agree on first.
    public var mapped: [Endpoint] = []
    /// Servers that contradict the others.
    public var doubted: [Endpoint] = []
    /// Servers that answered from this port.
    public var answers = 0
  }

  private var servers: [Endpoint] = []
  private var isSearched = false
  private var local: Endpoint?
  private var pending: Set<Endpoint> = []
  /// In the order of the answers.
  private var answers: [(server: Endpoint, mapped: Endpoint)] = []
  private var asked: Set<Endpoint> = []
  /// Second addresses that were asked: their servers speak for the ones that named them, not for themselves.
  private var alternates: Set<Endpoint> = []
  private var last: Verdict?
  private var isOver = false

  public init() {}

  /// Second addresses that answered themselves, by the server that named them: fit for ``FilteringTest``.
  public private(set) var helpers: [(server: Endpoint, other: Endpoint)] = []
  private var named: [Endpoint: Endpoint] = [:]

  public mutating func handle(_ event: Event) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start(let local):
      if self.local == nil { self.local = local }
      return []
    case .found(let server):
      guard local != nil, servers.count < Self.mostServers, !servers.contains(server) else { return [] }
      servers.append(server)
      return ask(server).map { [$0] } ?? []
    case .searched:
      isSearched = true
      return conclude()
    case .answered(let server, let mapped, let other):
      guard pending.remove(server) != nil else { return [] }
      var actions: [Action] = []
      // A mapped address that cannot be one is no answer.
      if isPlausible(mapped, seenBy: server) {
        answers.append((server, mapped))
        if let other, !alternates.contains(server), isPlausible(other: other, of: server) {
          named[server] = other
          for endpoint in [other, Endpoint(ip: server.ip, port: other.port)] {
            alternates.insert(endpoint)
            if let action = ask(endpoint) { actions.append(action) }
          }
        }
      }
      return actions + conclude()
    case .failed(let server):
      guard pending.remove(server) != nil else { return [] }
      return conclude()
    }
  }

  private mutating func ask(_ endpoint: Endpoint) -> Action? {
    guard asked.count < Self.mostQuestions, asked.insert(endpoint).inserted else { return nil }
    pending.insert(endpoint)
    return .ask(endpoint)
  }

  private mutating func conclude() -> [Action] {
    let now = verdict()
    helpers = named.keys.sorted { $0.description < $1.description }.compactMap { server in
      guard let other = named[server], answer(of: server) != nil, !now.doubted.contains(server) else { return nil }
      // It must answer from its second address and port, or its silence says nothing.
      guard answer(of: other) != nil, answer(of: Endpoint(ip: server.ip, port: other.port)) != nil else { return nil }
      return (server, other)
    }
    // Second addresses that do not answer are not waited for once one server's have.
    let isEnough = now.mapping != nil && !helpers.isEmpty && pending.isSubset(of: alternates)
    if isSearched, pending.isEmpty || isEnough {
      isOver = true
      return [.finish(now)]
    }
    guard now != last, now.answers > 0 else { return [] }
    last = now
    return [.conclude(now)]
  }

  private func answer(of server: Endpoint) -> Endpoint? { answers.first { $0.server == server }?.mapped }

  // MARK: The verdict

  private func verdict() -> Verdict {
    var verdict = Verdict()
    verdict.answers = answers.count
    let voices = voices()
    guard let local, !voices.isEmpty else { return verdict }
    var counts: [Endpoint: Int] = [:]
    for voice in voices { counts[voice.mapped, default: 0] += 1 }
    // Counted from the last, so that of equals the first answer leads.
    let leader =
      voices.reversed().map(\.mapped).max { counts[$0, default: 0] < counts[$1, default: 0] } ?? voices[0].mapped
    let agreeing = counts[leader, default: 0]
    guard agreeing * 2 > voices.count else {
      // No majority: everybody is told something else. One of two may be wrong, so a third is waited for. Routers have one
      // outside address mostly, and who names another one is doubted.
      let ip = mostCommon(voices.map(\.mapped.ip))
      verdict.mapped = voices.map(\.mapped).filter { ip == nil || $0.ip == ip }
      verdict.doubted = voices.filter { ip != nil && $0.mapped.ip != ip }.map(\.server)
      if voices.count >= 3 || isSearched && pending.isEmpty { verdict.mapping = dependence() }
      return verdict
    }
    let dissent = voices.filter { $0.mapped != leader }.map(\.server)
    verdict.mapped = [leader]
    verdict.doubted = dissent
    // One voice says where we are, but not whether others see the same; unless there is no translation at all.
    if leader.isSame(as: local) {
      verdict.mapping = NATBehaviour.Mapping.none
    } else if voices.count >= 2 {
      verdict.mapping = byPort(leader) ?? .endpointIndependent
    }
    return verdict
  }

  /// What more than half of them are.
  private func mostCommon(_ ips: [IPAddress]) -> IPAddress? {
    ips.first { ip in ips.count { $0 == ip } * 2 > ips.count }
  }

  /// One voice for each address of a server: the first answer it gave. Second addresses speak only where there is no
  /// other server, since who named them could speak through them.
  private func voices() -> [(server: Endpoint, mapped: Endpoint)] {
    var firsts: [(server: Endpoint, mapped: Endpoint)] = []
    for answer in answers where !firsts.contains(where: { $0.server.ip == answer.server.ip }) { firsts.append(answer) }
    let own = firsts.filter { first in servers.contains { $0.ip == first.server.ip } }
    return own.count > 1 || !isSearched || Set(servers.map(\.ip)).count > 1 ? own : firsts
  }

  /// With the addresses' dependence shown: does the port matter too? The first server that answered on two ports knows.
  private func dependence() -> NATBehaviour.Mapping {
    var same = 0
    var different = 0
    for pair in pairs() { if pair.0 == pair.1 { same += 1 } else { different += 1 } }
    if same == 0, different == 0 { return .endpointDependent }
    return same > different ? .addressDependent : .addressAndPortDependent
  }

  /// All addresses agree, but the ports of most of them do not: a mapping for each port.
  private func byPort(_ leader: Endpoint) -> NATBehaviour.Mapping? {
    let all = pairs()
    let different = all.filter { $0.0 != $0.1 }.count
    return different * 2 > all.count ? .addressAndPortDependent : nil
  }

  /// What one address of a server saw of us on two of its ports.
  private func pairs() -> [(Endpoint, Endpoint)] {
    var result: [(Endpoint, Endpoint)] = []
    for (index, first) in answers.enumerated() {
      guard !answers[..<index].contains(where: { $0.server.ip == first.server.ip }) else { continue }
      if let second = answers[(index + 1)...].first(where: { $0.server.ip == first.server.ip }) {
        result.append((first.mapped, second.mapped))
      }
    }
    return result
  }

  // MARK: What may be believed

  private func isPlausible(_ mapped: Endpoint, seenBy server: Endpoint) -> Bool {
    guard mapped.port != 0, mapped.ip.family == server.ip.family, !mapped.ip.isWildcard, !mapped.ip.isMulticast,
      !mapped.ip.isBroadcast, !mapped.ip.isLinkLocal || server.ip.isLinkLocal
    else { return false }
    return mapped.ip.isLoopback == server.ip.isLoopback
  }

  /// A server must not make us talk to whom it likes: to its own network's other address, once.
  private func isPlausible(other: Endpoint, of server: Endpoint) -> Bool {
    guard other.port != 0, other.port != server.port, other.ip != server.ip, other.ip.family == server.ip.family,
      !other.ip.isWildcard, !other.ip.isMulticast, !other.ip.isBroadcast
    else { return false }
    return other.ip.isPrivate == server.ip.isPrivate && other.ip.isLoopback == server.ip.isLoopback
  }

  /// More voices than this say nothing new.
  static let mostServers = 6
  /// With the second addresses.
  static let mostQuestions = 12
}
