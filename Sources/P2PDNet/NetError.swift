import Glibc

/// Why something on the network could not be done: a code for programs, a sentence for people, and, where several
/// things were tried, what each of them met.
public struct NetError: Error, Sendable, CustomStringConvertible {
  /// The kinds of failure. The raw value is what a script sees as `err.code`; LuaSocket's words where it has one.
  public enum Code: String, Sendable, CaseIterable {
    case timeout, closed, reset, refused, unreachable, limit, dns, tls, cancelled, unsupported
    case inUse = "in_use"
    case permission
    case badAddress = "bad_address"
    case tooLong = "too_long"
    /// The peer is a node but does not host the protocol asked for.
    case noProtocol = "protocol"
    /// The peer proved another key than the address names.
    case wrongKey = "wrong_key"
    /// Something answered that is no p2pd node.
    case notP2PD = "not_p2pd"
    /// The text is no name of a node that may be used.
    case badName = "bad_name"
    /// A name's record is malformed, unsigned, or says what a record may not say.
    case badRecord = "bad_record"
    /// Nobody has the name.
    case notFound = "not_found"
    /// Too few of a set's name servers agree.
    case noQuorum = "no_quorum"
    /// The name was registered, and its time is over.
    case expired
    /// The name has another key than the one known for it.
    case keyChanged = "key_changed"
    /// Another key owns the name.
    case taken
    /// A value is over its limit.
    case tooLarge = "too_large"
    /// An input or output error that no other code names.
    case io
  }

  public var code: Code { facts.code }
  /// What was tried and on which route, in words: "connect to 192.0.2.1:80".
  public var what: String { facts.what }
  /// What the kernel, TLS or the resolver said.
  public var cause: String { facts.cause }
  /// Every attempt's own failure, in the order they were started.
  public var attempts: [NetError] { facts.attempts }
  /// What to do about it, one sentence; empty where the cause says it all.
  public var remedy: String { facts.remedy }
  /// Of an attempt to reach a node: which way it went.
  public var way: Way? { facts.way }

  /// Which way an attempt to reach a node went.
  public struct Way: Hashable, Sendable {
    /// `direct`, `reverse`, `punch` or `relay`.
    public var strategy: String
    /// The other node made it, and told.
    public var isPeers: Bool
    public var from: Endpoint?
    public var to: Endpoint?

    public init(_ strategy: String, isPeers: Bool, from: Endpoint?, to: Endpoint?) {
      self.strategy = strategy
      self.isPeers = isPeers
      self.from = from
      self.to = to
    }
  }

  public init(
    _ code: Code, _ what: String, cause: String = "", attempts: [NetError] = [], remedy: String = "", way: Way? = nil
  ) {
    facts = Facts(code, what, cause, attempts, remedy, way)
  }

  /// Apart, so that what may fail and does not, as every `send`, returns one word and not the room of an error.
  private let facts: Facts

  private final class Facts: Sendable {
    let code: Code
    let what, cause, remedy: String
    let attempts: [NetError]
    let way: Way?

    init(_ code: Code, _ what: String, _ cause: String, _ attempts: [NetError], _ remedy: String, _ way: Way?) {
      (self.code, self.what, self.cause, self.attempts) = (code, what, cause, attempts)
      (self.remedy, self.way) = (remedy, way)
    }
  }

  public var description: String {
    var text = cause.isEmpty ? "\(what): \(code.rawValue)" : "\(what): \(cause)"
    for attempt in attempts { text += "\n  - \(attempt)" }
    if !remedy.isEmpty { text += "\n  \(remedy)" }
    return text
  }

  /// The kernel's error number as one of our codes.
  public init(errno number: Int32, _ what: String) {
    let code: Code =
      switch number {
      case ETIMEDOUT: .timeout
      case ECONNREFUSED: .refused
      case ECONNRESET, ECONNABORTED, EPIPE: .reset
      case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, ENONET, ENODEV: .unreachable
      case EADDRINUSE: .inUse
      case EACCES, EPERM: .permission
      case EADDRNOTAVAIL, EINVAL, EAFNOSUPPORT, EDESTADDRREQ, ENOENT, ENAMETOOLONG: .badAddress
      case EMSGSIZE: .tooLong
      case EMFILE, ENFILE, ENOBUFS, ENOMEM: .limit
      case EBADF, ENOTCONN, ESHUTDOWN: .closed
      default: .io
      }
    self.init(code, what, cause: String(cString: strerror(number)))
  }

  /// Any error of the layers below: a ``NetError`` stays what it is.
  public init(_ error: any Error, _ what: String) {
    self = (error as? NetError) ?? NetError(.io, what, cause: "\(error)")
  }
}
