import P2PDNet
import P2PDTraversal

/// The steps of a race in words, for whoever watches it.
extension Connector {
  func words(of event: PathRace.Event) -> String? {
    switch event {
    case .start, .tick, .used, .unlikely: nil
    case .proven(let id, _): "\(name(of: id)): the node has proven its key"
    case .failed(let id, let error): "\(name(of: id)): \(error.cause.isEmpty ? error.code.rawValue : error.cause)"
    case .answered(let answer, let fresh): words(of: answer, fresh)
    case .unanswered(let error): "signalling: \(error.cause.isEmpty ? "\(error)" : error.cause)"
    case .reported(let attempts):
      attempts.isEmpty
        ? "the other side has nothing left to try"
        : (["the other side tried in vain:"] + attempts.map { "  \($0.error)" }).joined(separator: "\n")
    case .over(_, let attempts):
      attempts.isEmpty ? nil : attempts.map { "\($0.error)" }.joined(separator: "\n")
    case .stop(let error): error.cause
    }
  }

  func words(of action: PathRace.Action) -> String? {
    switch action {
    case .dial(_, let candidate): "direct \(candidate.endpoint) (\(candidate.path.rawValue)): dialling"
    case .offer: "signalling: the other side is asked to take part"
    case .relay: "relay: asking for one"
    case .use(let id): "\(name(of: id)): chosen"
    case .move(let id): "\(name(of: id)): better than the relay, the pipe moves"
    case .punch, .permit, .cancel, .end, .abort, .fail, .finish, .wake: nil
    }
  }

  func words(ofPunch side: PunchSide) -> String {
    "punch: dialling \(side.paths.flatMap(\.endpoints).map(\.description).joined(separator: ", "))"
  }

  /// What ends the race when there is a pipe is no news.
  func isStop(_ event: PathRace.Event) -> Bool { if case .stop = event { true } else { false } }

  func words(of why: NetError) -> String {
    (["nothing better than the relay:"] + why.attempts.map { "  \($0)" }).joined(separator: "\n")
  }

  private func words(of answer: Rendezvous.Answer, _ fresh: DirectPlan) -> String {
    if let refusal = answer.refusal { return "signalling: the other side refuses: \(refusal.words)" }
    let seen = answer.side.outside.map(\.description).joined(separator: ", ")
    return "signalling: the other side takes part\(seen.isEmpty ? "" : "; it is seen from outside as \(seen)")"
  }

  private func name(of id: Int) -> String {
    guard let way = way(id) else { return "?" }
    return way.remote.map { "\(way.strategy.rawValue) \($0)" } ?? way.strategy.rawValue
  }
}
