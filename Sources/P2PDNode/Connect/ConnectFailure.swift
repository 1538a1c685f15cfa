import P2PDNet
import P2PDTraversal

/// Why a connect came to nothing, in words: one sentence for the whole, a line for each attempt of both sides, and one
/// thing to do about it. Pure.
struct ConnectFailure {
  private let failure: PathRace.Failure
  private let key: NodeKey
  /// Those that were allowed.
  private let strategies: Set<ConnectStrategy>
  /// Whether this node has relays to offer.
  private let hasRelay: Bool

  init(_ failure: PathRace.Failure, to key: NodeKey, by strategies: Set<ConnectStrategy>, hasRelay: Bool) {
    self.failure = failure
    self.key = key
    self.strategies = strategies
    self.hasRelay = hasRelay
  }

  /// Its code is the most telling one: who reached a node that hosts no such protocol need not hear of refusals.
  var error: NetError {
    let what = "connect to node \(key.short)"
    if let stopped = failure.stopped, stopped.code == .cancelled { return stopped }
    let made = failure.attempts.filter { !$0.wasNotTried && !$0.isPeers }
    let code = Self.telling.first { code in made.contains { $0.outcome == code } }
    // Whoever hosts no such protocol will not host it on another way.
    let attempts = (code == .noProtocol ? made : failure.attempts).map(\.error)
    if made.isEmpty {
      let cause =
        if !strategies.contains(.direct) {
          "no way that is allowed could be tried"
        } else if strategies.count > 1 {
          "none of its routes can be reached from this network, and no other way could be tried"
        } else {
          "none of its routes can be reached from this network"
        }
      return NetError(.unreachable, what, cause: cause, attempts: attempts, remedy: remedy)
    }
    return NetError(
      code ?? made.first?.outcome ?? .unreachable, what, cause: code.flatMap { Self.words[$0] } ?? "no way led there",
      attempts: attempts, remedy: remedy)
  }

  /// Of a pipe that stands on a relay: why on nothing better.
  var whyRelayed: NetError {
    NetError(
      .unreachable, "connect to node \(key.short) without a relay", cause: "no other way led there",
      attempts: failure.attempts.filter { $0.strategy != .relay }.map(\.error),
      remedy: allowing([.direct, .reverse, .punch])
        ?? "A port opened at one of the two routers, by UPnP, NAT-PMP or PCP or by hand, would make the relay needless."
    )
  }

  /// The first that applies: what would help at once before what may.
  private var remedy: String {
    let all = failure.attempts
    func met(_ code: NetError.Code) -> Bool { all.contains { $0.outcome == code && !$0.wasNotTried } }
    func asked(_ code: NetError.Code) -> PathAttempt? {
      all.first { $0.strategy != .direct && !$0.isPeers && $0.outcome == code }
    }
    if met(.noProtocol) { return "Ask its owner for the name of a protocol it hosts." }
    if met(.wrongKey) {
      return "Another node has its addresses now: ask for its present address (p2pd-lua addr, on that machine)."
    }
    if asked(.permission) != nil { return "Whoever runs the other node must allow this one (its accept_cb)." }
    if met(.limit) { return "The other node is busy: try again in a minute." }
    if failure.wasAnswered {
      let isRelayAllowed = strategies.contains(.relay)
      if isRelayAllowed, !hasRelay {
        return "Name a TURN server in p2pd.conf.lua (servers.turn): a relay reaches through every pair of routers."
      }
      if isRelayAllowed, all.contains(where: { $0.isPeers && $0.seen == RelayDial.noWayRound }) {
        return "Name a TURN server in the other node's p2pd.conf.lua too, at a port that its firewall lets out (443)."
      }
      if let more = allowing(ConnectStrategy.allCases) { return "The other node lives. \(more)" }
      return
        "The other node lives, but not even a relay led to it: check that the TURN server answers (p2pd-lua netcheck)."
    }
    if let silent = asked(.unsupported), silent.wasNotTried, silent.strategy == .reverse || silent.strategy == .punch {
      return silent.seen.contains("offline")
        ? "Run without --offline (in Lua: offline = true): then the other node can be asked to take part."
        : "Give the other node a broker (servers.mqtt in its p2pd.conf.lua) and ask for its new address."
    }
    guard strategies.contains(.direct), strategies.count == 1 else {
      return
        "Check that the other node runs and reaches its brokers (p2pd-lua netcheck), and that its address is not old."
    }
    return
      "Check that the other node runs, and that its address is not old. \(allowing(ConnectStrategy.allCases) ?? "")"
  }

  /// Says to allow those of them that were left out.
  private func allowing(_ wanted: [ConnectStrategy]) -> String? {
    let missing = wanted.filter { !strategies.contains($0) }.map(\.rawValue)
    guard let last = missing.last else { return nil }
    if missing.count == 1 { return "Allow the strategy \(last), which was left out." }
    return "Allow the strategies \(missing.dropLast().joined(separator: ", ")) and \(last), which were left out."
  }

  private static let telling: [NetError.Code] = [.noProtocol, .limit, .wrongKey, .notP2PD, .timeout]
  private static let words: [NetError.Code: String] = [
    .noProtocol: "it does not host this protocol", .limit: "it takes no more pipes for now",
    .wrongKey: "another node answered in its place", .notP2PD: "what answered is no p2pd node",
    .timeout: "no answer in time",
  ]
}
