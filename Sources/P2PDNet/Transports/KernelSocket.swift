import CNet
import Glibc

/// A new socket on its way to its transport: everything that must be set before it binds or connects. It closes itself
/// unless ``take()`` gave its descriptor away. Closed on exec and without blocking from birth.
struct KernelSocket: ~Copyable {
  private var descriptor: CInt
  private let what: String

  /// - Parameter what: begins the text of every failure.
  init(_ domain: CInt, _ type: __socket_type, _ what: String) throws(NetError) {
    self.what = what
    descriptor = socket(domain, CInt(type.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw NetError(errno: errno, what) }
  }

  deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

  consuming func take() -> CInt {
    let taken = descriptor
    descriptor = -1
    return taken
  }

  borrowing func set(_ level: CInt, _ name: CInt, _ value: CInt) throws(NetError) {
    guard Self.set(descriptor, level, name, value) else { throw NetError(errno: errno, what) }
  }

  /// SO_REUSEADDR and SO_REUSEPORT.
  borrowing func reuse() throws(NetError) {
    try set(SOL_SOCKET, SO_REUSEADDR, 1)
    try set(SOL_SOCKET, SO_REUSEPORT, 1)
  }

  /// Holds it to an interface; answers how, and the address to bind to where only that does it.
  borrowing func hold(to name: String?, _ family: AddressFamily) throws(NetError) -> InterfaceBinding.Hold? {
    guard let name else { return nil }
    return try InterfaceBinding.apply(fd: descriptor, interface: NetworkInterface.named(name), family: family)
  }

  borrowing func bind(to endpoint: Endpoint) throws(NetError) {
    let fd = descriptor
    let result = Peer.withKernelForm(endpoint) { Glibc.bind(fd, $0, $1) }
    guard result == 0 else { throw NetError(errno: errno, what) }
  }

  /// Starts to connect: 0 when that is done already, or the error number, EINPROGRESS among them.
  borrowing func connect(to endpoint: Endpoint) -> CInt {
    let fd = descriptor
    return Peer.withKernelForm(endpoint) { Glibc.connect(fd, $0, $1) } == 0 ? 0 : errno
  }

  borrowing func connect(toPath path: String) throws(NetError) -> CInt {
    let fd = descriptor
    return try Self.withUnixAddress(path, what) { Glibc.connect(fd, $0, $1) } == 0 ? 0 : errno
  }

  borrowing func bind(toPath path: String) throws(NetError) {
    let fd = descriptor
    let result = try Self.withUnixAddress(path, what) { Glibc.bind(fd, $0, $1) }
    guard result == 0 else { throw NetError(errno: errno, what) }
  }

  borrowing func listen(_ backlog: Int) throws(NetError) {
    guard Glibc.listen(descriptor, CInt(clamping: backlog)) == 0 else { throw NetError(errno: errno, what) }
  }

  /// Joins a multicast group on an interface; index 0 lets the kernel choose (RFC 3678 §5.1's MCAST_JOIN_GROUP).
  borrowing func join(_ group: IPAddress, interface index: UInt32) throws(NetError) {
    var request = group_req()
    request.gr_interface = index
    Peer.withKernelForm(Endpoint(ip: group, port: 0)) { address, length in
      withUnsafeMutableBytes(of: &request.gr_group) {
        $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
      }
    }
    let level = group.family == .v4 ? Int(IPPROTO_IP) : Int(IPPROTO_IPV6)
    let result = setsockopt(
      descriptor, CInt(level), MCAST_JOIN_GROUP, &request, socklen_t(MemoryLayout<group_req>.size))
    guard result == 0 else { throw NetError(errno: errno, what) }
  }

  // MARK: On descriptors that have their transport

  @discardableResult
  static func set(_ descriptor: CInt, _ level: CInt, _ name: CInt, _ value: CInt) -> Bool {
    var value = value
    return setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size)) == 0
  }

  /// TCP_NODELAY and SO_LINGER. What cannot be set stays as it is: a peer that is gone already is found out by reading.
  static func apply(_ options: StreamOptions, to descriptor: CInt) {
    set(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, options.noDelay ? 1 : 0)
    guard let seconds = options.linger else { return }
    var value = linger(l_onoff: 1, l_linger: CInt(clamping: seconds))
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
  }

  /// The address a socket is bound to; nil for Unix-domain sockets.
  static func localEndpoint(of descriptor: CInt) -> Endpoint? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    return result == 0 ? Endpoint(storage) : nil
  }

  /// A TCP connection whose retransmissions, or probes of a closed window, came to nothing so far: for some 6 s where the
  /// round trip is short (RFC 6298 §5.5: each waits twice as long as the one before; the kernel's first wait is 200 ms and
  /// a round trip).
  static func isUnanswered(_ descriptor: CInt) -> Bool {
    var info = tcp_info()
    var length = socklen_t(MemoryLayout<tcp_info>.size)
    guard getsockopt(descriptor, CInt(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { return false }
    return max(info.tcpi_retransmits, info.tcpi_probes) >= unanswered
  }

  private static let unanswered: UInt8 = 5

  private static func withUnixAddress<T>(
    _ path: String, _ what: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T
  ) throws(NetError) -> T {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    // One byte is for the zero that ends it (unix(7)).
    guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else {
      throw NetError(.badAddress, what, cause: "a socket path has 1 to 107 bytes")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
