import NIOCore

/// What became of a look at one server: whether it answers, how fast, or why not.
public struct ServerFinding: Hashable, Sendable {
  /// As it is configured, without its password.
  public let server: String
  public var outcome: Outcome
  /// Until it was ready to be used: its name, TCP, TLS and its greeting, one after the other.
  public var setup: TimeAmount?
  /// One question and its answer, once everything stood.
  public var roundTrip: TimeAmount?
  /// What it gave: of a relay, the address that peers would connect to.
  public var address: Endpoint?
  /// Why it is of no use, in words.
  public var problem: String?

  public init(_ server: String, _ outcome: Outcome) {
    self.server = server
    self.outcome = outcome
  }

  public init(_ server: String, failed error: NetError, as outcome: Outcome? = nil) {
    // Of several addresses that were tried, the one that got farthest says more than that all failed.
    let all = error.attempts.isEmpty ? [error] : error.attempts
    let found = all.map { (Outcome($0), $0) }.min { $0.0.rank < $1.0.rank } ?? (Outcome(error), error)
    self.init(server, outcome ?? found.0)
    problem = found.1.cause.isEmpty ? found.1.code.rawValue : found.1.cause
  }

  /// The farther it got, the earlier.
  public enum Outcome: String, Hashable, Sendable, CaseIterable {
    case answered
    /// It speaks, and lets this host do nothing: a wrong password mostly.
    case rejected
    /// Its certificate is not for its name, or nobody who is trusted vouches for it.
    case certificate
    /// Something is there that speaks another language.
    case garbled
    /// Nobody listens there, or a firewall says so.
    case refused
    case silent
    /// There is no way there.
    case unreachable
    /// Its name has no address, or nobody tells it.
    case noName = "no_name"
    case failed

    public init(_ error: NetError) {
      switch error.code {
      case .refused, .reset: self = .refused
      case .timeout: self = .silent
      case .unreachable: self = .unreachable
      case .dns: self = .noName
      case .tls: self = error.cause.contains("certificate") ? .certificate : .garbled
      case .permission: self = .rejected
      default: self = .failed
      }
    }

    fileprivate var rank: Int { Self.allCases.firstIndex(of: self) ?? Self.allCases.count }
  }
}
