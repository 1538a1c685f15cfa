import NIOCore

/// What opens streams and datagram sockets, resolves names and lists interfaces for one event loop. The kernel's is
/// ``KernelNetwork``. Confined to its loop: every call and every callback is made there.
///
/// A network knows no deadlines (who waits cancels), no TLS (``TLSTransport`` stands on any stream) and no messages.
public protocol Network: AnyObject, Sendable {
  /// Connects a stream. `done` comes once, never before this returns, and never after the attempt was cancelled. The
  /// stream reads nothing before ``Transport/setReading(_:)``.
  func connectStream(
    to address: StreamAddress, _ options: StreamOptions, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) -> any StreamAttempt

  /// Listens. The transport has the address in ``Transport/localEndpoint`` and does nothing but end. Accepting begins
  /// on the loop's next turn.
  /// - Throws: `inUse`, `permission`, `badAddress` among others.
  func listenStream(
    on address: StreamAddress, _ options: StreamOptions, owner: any ListenerOwner
  ) throws(NetError) -> Transport

  /// Opens a datagram socket, bound and, where asked for, connected. It reads nothing before
  /// ``Transport/setReading(_:)``.
  func openDatagram(_ options: DatagramOptions) throws(NetError) -> Transport

  /// The addresses of a name in the order to try them; see ``Resolver/resolve(_:families:timeout:on:)``.
  func resolve(_ host: String, families: [AddressFamily], timeout: TimeAmount) -> EventLoopFuture<[IPAddress]>

  /// The interfaces and default routes of now.
  func interfaces() throws(NetError) -> NetworkSnapshot
}

/// A connection that is being made.
public protocol StreamAttempt: AnyObject {
  /// Gives it up: its callback does not come any more. Harmless when it is over.
  func cancel()
}

/// Whom a listener asks. Calls come on the loop.
public protocol ListenerOwner: AnyObject {
  /// Somebody calls, and nothing was spent on it but a descriptor. nil takes it: ``accepted(_:)`` follows at once.
  /// Otherwise it is cut, after these bytes if there are any.
  /// - Parameter peer: nil for a Unix-domain socket.
  func refusal(of peer: Endpoint?) -> [UInt8]?

  /// A connected stream. It reads nothing before ``Transport/setReading(_:)``. The callee owns it from now on.
  func accepted(_ stream: Transport)
}

/// Where a stream leads or a listener waits.
public enum StreamAddress: Hashable, Sendable, CustomStringConvertible {
  case ip(Endpoint)
  /// A Unix-domain socket in the file system.
  case unix(String)

  public var description: String {
    switch self {
    case .ip(let endpoint): endpoint.description
    case .unix(let path): path
    }
  }
}

/// Settings of streams and of listeners, which hand theirs to what they accept.
public struct StreamOptions: Sendable {
  /// Connecting: the local address; nil lets the network choose.
  public var bind: Endpoint? = nil
  /// The interface to be held to; see ``Transport/heldBy``.
  public var interface: String? = nil
  /// SO_REUSEADDR and SO_REUSEPORT. Listeners always set the first.
  public var reuseAddr = false
  /// TCP_NODELAY.
  public var noDelay = true
  /// SO_LINGER in seconds; nil leaves the kernel's default.
  public var linger: Int? = nil
  /// Listening: connections that may wait to be accepted.
  public var backlog = 1024
  /// Listening on IPv6: take IPv4 too (RFC 3493 §5.3).
  public var dualStack = false

  public init() {}
}

/// Settings of a datagram socket.
public struct DatagramOptions: Sendable {
  public var family: AddressFamily
  /// The local address; nil is the wildcard and a free port.
  public var bind: Endpoint? = nil
  /// Hear and send to this peer only.
  public var connect: Endpoint? = nil
  public var interface: String? = nil
  public var reuseAddr = false
  /// IPv6: speak IPv4 too.
  public var dualStack = false
  /// SO_BROADCAST.
  public var broadcast = false
  /// Multicast groups to join.
  public var groups: [IPAddress] = []
  /// Hops of a multicast datagram; nil leaves the kernel's 1.
  public var multicastTTL: Int? = nil
  /// Whether this host gets its own multicast datagrams; nil leaves the kernel's yes.
  public var multicastLoop: Bool? = nil

  public init(family: AddressFamily) { self.family = family }
}
