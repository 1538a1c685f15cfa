import NIOCore
import P2PDNet

/// What became of a punch, for whoever asks why there is no path.
public struct PunchReport: Sendable {
  /// Every pair of ports that was dialled, in the order dialled first, and every call that came in.
  public var attempts: [Attempt] = []
  /// Why nothing was dialled, or why it was not certain to work.
  public var reason: String?

  public struct Attempt: Hashable, Sendable {
    public var from: Endpoint
    public var to: Endpoint
    /// The peer's SYN came to our listener.
    public var isAccepted = false
    /// How long after the agreed start it was dialled first, or came in.
    public var after: TimeAmount
    public var tries = 1
    public var seen: Seen = .silent
  }

  /// What came back at last.
  public enum Seen: Hashable, Sendable {
    case connected
    /// Nothing did.
    case silent
    /// A reset, or an ICMP port unreachable.
    case refused
    /// An ICMP error, or no route.
    case unreachable
    /// Another socket has the same two ends already (EADDRNOTAVAIL, EADDRINUSE).
    case taken
    /// We would have dialled, or did reach, ourselves.
    case itself
    /// Not dialled: the peer has had us dial too often.
    case limited
    case failed(String)

    init(_ error: NetError) {
      switch error.code {
      case .refused, .reset: self = .refused
      case .unreachable: self = .unreachable
      case .timeout: self = .silent
      case .badAddress, .inUse: self = .taken
      default: self = .failed(error.cause.isEmpty ? "\(error)" : error.cause)
      }
    }

    /// Something between here and there answered for now; the same pair may work in a moment.
    var isPassing: Bool { self == .refused || self == .unreachable }
  }

  /// One for each attempt, and one for the reason where nothing was tried.
  public var errors: [NetError] {
    let failed = attempts.filter { $0.seen != .connected }.map(\.error)
    if !failed.isEmpty { return failed }
    return reason.map { [NetError(.unreachable, "punch", cause: $0)] } ?? []
  }
}

extension PunchReport.Attempt {
  public var error: NetError {
    let code: NetError.Code =
      switch seen {
      case .connected, .silent: .timeout
      case .refused: .refused
      case .unreachable: .unreachable
      case .taken, .itself: .badAddress
      case .limited: .limit
      case .failed: .io
      }
    let times = tries > 1 ? ", \(tries) tries" : ""
    return NetError(code, "punch from \(from) to \(to)", cause: "\(seen)\(times)")
  }
}

extension PunchReport.Seen: CustomStringConvertible {
  public var description: String {
    switch self {
    case .connected: "connected"
    case .silent: "silent"
    case .refused: "refused"
    case .unreachable: "unreachable"
    case .taken: "another socket has this pair of ports"
    case .itself: "that is ourselves"
    case .limited: "this node dials for others already too often"
    case .failed(let cause): cause
    }
  }
}
