import NIOCore

/// Where a client pipe leads.
public enum Destination: Sendable, CustomStringConvertible {
  case endpoint(Endpoint)
  /// A name for the resolver; every address it has is raced (RFC 8305).
  case host(String, UInt16)
  /// A Unix-domain stream socket in the file system.
  case unix(String)

  public var description: String {
    switch self {
    case .endpoint(let endpoint): endpoint.description
    case .host(let name, let port): "\(name):\(port)"
    case .unix(let path): path
    }
  }
}

/// The settings of one pipe. Names follow P2PD's NET_CONF; times are what they say.
public struct PipeConf: Sendable {
  public var framing: Framing = .raw
  /// The largest message taken or sent, in bytes; a peer that announces more is cut off.
  public var maxMessage = 16 << 20
  /// How long opening a client pipe may take, TLS included.
  public var conTimeout: TimeAmount = .seconds(10)
  /// How long a `recv` without a timeout of its own waits; nil waits for ever.
  public var recvTimeout: TimeAmount? = nil
  /// How long a name may take to resolve.
  public var dnsTimeout: TimeAmount = .seconds(5)
  /// How long `close` tries to get queued data out.
  public var flushTimeout: TimeAmount = .seconds(5)
  /// Messages a queue (the inbox, each subscription) holds. Over it a TCP pipe stops reading, a UDP pipe drops the
  /// newest and counts it.
  public var maxQsize = 1024
  /// Bytes the queues of a pipe hold together before the same happens.
  public var maxQbytes = 1 << 20
  /// Unsent bytes over which `send` reports ``SendOutcome/full``.
  public var sendHighWater = 1 << 20
  /// Drop a datagram or message that is byte for byte one of the last ``maxMsgIDs`` from the same sender.
  public var enableMsgIDs = false
  public var maxMsgIDs = 1000
  /// SO_REUSEADDR and SO_REUSEPORT. A TCP server always sets SO_REUSEADDR, or it could not restart for a minute.
  public var reuseAddr = false
  /// SO_BROADCAST.
  public var broadcast = false
  /// SO_LINGER in seconds; nil leaves the kernel's default.
  public var linger: Int? = nil
  /// TCP_NODELAY: send small messages at once.
  public var noDelay = true
  /// Keep the pipe open for sending after the peer ended its side; otherwise the pipe closes once everything the
  /// peer sent was handled and the answers are flushed.
  public var allowHalfOpen = false
  /// Multicast groups a UDP pipe joins when it opens (RFC 1112, RFC 3810).
  public var multicastGroups: [IPAddress] = []
  /// Hops a multicast datagram may take; nil leaves the kernel's 1.
  public var multicastTTL: Int? = nil
  /// Whether this host gets its own multicast datagrams; nil leaves the kernel's yes.
  public var multicastLoop: Bool? = nil
  /// An IPv6 server socket that also takes IPv4 (RFC 3493 §5.3).
  public var dualStack = false
  /// Connections the kernel holds for a server that has not accepted them yet.
  public var backlog = 1024
  public var tls: TLSSetup? = nil
  /// Pings over ``Framing/message``; nil leaves a dead peer to the kernel.
  public var keepAlive: KeepAlive? = nil
  /// The name of the interface the pipe is held to; nil lets the kernel route.
  public var interface: String? = nil

  public init() {}
}

/// How a silent peer is found dead: a ping after each `interval` without a sign of life, the end after `missed` of them.
public struct KeepAlive: Sendable {
  public var interval: TimeAmount
  public var missed: Int

  public init(interval: TimeAmount = .seconds(10), missed: Int = 3) {
    self.interval = interval
    self.missed = missed
  }
}

/// Why a pipe ended.
public enum EndReason: Sendable, CustomStringConvertible {
  /// The peer ended it in good order.
  case closed
  /// The peer's host cut it off.
  case reset
  /// The peer was silent for too long.
  case timeout
  case error(NetError)
  /// This side called `close`.
  case local

  /// The word a script gets.
  public var code: String {
    switch self {
    case .closed: "closed"
    case .reset: "reset"
    case .timeout: "timeout"
    case .error: "error"
    case .local: "local"
    }
  }

  public var description: String {
    if case .error(let error) = self { return "error: \(error)" }
    return code
  }

  /// The failure that later calls on the pipe meet.
  func netError(_ what: String) -> NetError {
    switch self {
    case .closed: NetError(.closed, what, cause: "the peer closed the pipe")
    case .reset: NetError(.reset, what, cause: "the peer reset the pipe")
    case .timeout: NetError(.timeout, what, cause: "the peer was silent for too long")
    case .error(let error): NetError(error.code, what, cause: error.description)
    case .local: NetError(.closed, what, cause: "the pipe is closed")
    }
  }
}

/// What became of one `send`.
public enum SendOutcome {
  case sent
  /// Taken, but more than ``PipeConf/sendHighWater`` bytes are unsent: wait with ``Pipe/whenWritable(_:)`` before more.
  case full
  case failed(NetError)
}

/// Counters of one pipe; all since it opened.
public struct PipeStats: Sendable {
  public var bytesIn: UInt64 = 0
  public var bytesOut: UInt64 = 0
  public var messagesIn: UInt64 = 0
  public var messagesOut: UInt64 = 0
  /// Messages dropped because a queue was full (UDP) or they were duplicates.
  public var dropped: UInt64 = 0
  /// Messages and bytes received that nobody has taken yet.
  public var queued = 0
  public var queuedBytes = 0
  /// Bytes not yet given to the kernel.
  public var unsent = 0
  /// The last ping's round trip; nil until one came back.
  public var rtt: TimeAmount? = nil
  public var age: TimeAmount = .zero
}
