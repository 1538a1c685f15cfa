import P2PDNet

/// What became of one attempt on the way to a pipe: a line of the answer to "why not?".
public struct PathAttempt: Hashable, Sendable {
  public var strategy: ConnectStrategy
  /// The other side made it, and told.
  public var isPeers = false
  /// Where it went from and to, as far as known.
  public var local: Endpoint?
  public var remote: Endpoint?
  public var outcome: NetError.Code
  /// What was seen, in words.
  public var seen: String

  public init(
    _ strategy: ConnectStrategy, local: Endpoint? = nil, remote: Endpoint? = nil, _ outcome: NetError.Code,
    _ seen: String
  ) {
    self.strategy = strategy
    self.local = local
    self.remote = remote
    self.outcome = outcome
    self.seen = seen
  }

  public init(_ strategy: ConnectStrategy, remote: Endpoint? = nil, _ error: NetError) {
    self.init(strategy, remote: remote, error.code, error.cause.isEmpty ? error.code.rawValue : error.cause)
  }

  /// Nothing was done; ``seen`` says why.
  public var wasNotTried: Bool { seen.hasPrefix(Self.notTried) }

  /// With a reason behind it.
  static let notTried = "not tried: "

  /// From what a strategy's driver tells of its attempts.
  public init(_ strategy: ConnectStrategy, from: Endpoint?, to: Endpoint?, _ error: NetError) {
    self.init(strategy, local: from, remote: to, error.code, error.cause.isEmpty ? error.code.rawValue : error.cause)
  }

  /// As an error: `reverse 192.0.2.1:5 (tried by the other side)`, and what was seen.
  public var error: NetError {
    var what = strategy.rawValue
    switch (local, remote) {
    case (let local?, let remote?): what += " \(local) to \(remote)"
    case (nil, let remote?): what += " \(remote)"
    case (let local?, nil): what += " from \(local)"
    case (nil, nil): break
    }
    if isPeers { what += " (tried by the other side)" }
    return NetError(
      outcome, what, cause: seen, way: .init(strategy.rawValue, isPeers: isPeers, from: local, to: remote))
  }
}
