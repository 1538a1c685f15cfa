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
  /// Why it is of no use, in words.
  public var problem: String?

  public init(_ server: String, _ outcome: Outcome) {
    self.server = server
    self.outcome = outcome
  }

  public init(_ server: String, failed error: NetError, as outcome: Outcome? = nil) {
    self.init(server, outcome ?? Outcome(error))
    // Where several addresses were tried, what one of them met says more than that all failed.
    let telling = error.cause.isEmpty ? error.attempts.last ?? error : error
    problem = telling.cause.isEmpty ? telling.code.rawValue : telling.cause
  }

  public enum Outcome: String, Hashable, Sendable, CaseIterable {
    case answered
    /// It speaks, and lets this host do nothing: a wrong password mostly.
    case rejected
    /// Nobody listens there, or a firewall says so.
    case refused
    case silent
    /// There is no way there.
    case unreachable
    /// Its name has no address, or nobody tells it.
    case noName = "no_name"
    /// Its certificate is not for its name, or nobody who is trusted vouches for it.
    case certificate
    /// Something is there that speaks another language.
    case garbled
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
      // A race of several addresses failed: all for the same reason, mostly.
      if self == .failed, error.cause.isEmpty, let last = error.attempts.last { self = Outcome(last) }
    }
  }
}
