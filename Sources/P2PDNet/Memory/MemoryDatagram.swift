import NIOCore

/// A datagram socket of a simulated host.
final class MemoryDatagram: Transport, @unchecked Sendable {
  let local: Endpoint
  private let options: DatagramOptions
  private unowned let host: MemoryHost
  private var isReading = false
  private var isOpen = true
  private var inbox = CircularBuffer<(bytes: ByteBuffer, source: Endpoint)>()
  private var queued = 0
  private var peers: [Endpoint: Peer] = [:]

  init(_ local: Endpoint, _ options: DatagramOptions, _ host: MemoryHost) {
    self.local = local
    self.options = options
    self.host = host
    super.init()
    localEndpoint = local
    remoteEndpoint = options.connect
    if let connect = options.connect, local.ip.isWildcard {
      localEndpoint = Endpoint(ip: host.source(to: connect.ip), port: local.port)
    }
  }

  var isConnected: Bool { options.connect != nil }

  /// Whether a datagram to that address is for this socket.
  func hears(_ source: Endpoint, _ target: Endpoint) -> Bool {
    guard isOpen, target.port == local.port else { return false }
    if let connect = options.connect, connect != source { return false }
    let sameFamily = target.ip.family == options.family || options.dualStack && target.ip.family == .v4
    if target.ip.isMulticast { return sameFamily && (options.groups.contains(target.ip) || local.ip == target.ip) }
    return sameFamily && (local.ip.isWildcard || local.ip == target.ip || target.ip.isBroadcast)
  }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard isOpen, let target = options.connect ?? peer?.endpoint else {
      return NetError(.closed, "send", cause: "the pipe is closed")
    }
    guard body.count <= Self.longest else {
      return NetError(
        .tooLong, "send to \(target)", cause: "a datagram carries at most \(Self.longest) bytes, this has \(body.count)"
      )
    }
    if target.ip.isBroadcast, !options.broadcast {
      return NetError(.permission, "send to \(target)", cause: "the socket may not broadcast")
    }
    let ip = local.ip.isWildcard || local.ip.isMulticast ? host.source(to: target.ip) : local.ip
    host.send(
      ByteBuffer(bytes: body), from: Endpoint(ip: ip, port: local.port), to: target,
      loopsBack: options.multicastLoop ?? true)
    return nil
  }

  override func peer(for endpoint: Endpoint) -> Peer {
    if let known = peers[endpoint] { return known }
    if peers.count >= Self.knownPeers { peers.removeAll() }
    let peer = Peer(endpoint)
    peers[endpoint] = peer
    return peer
  }

  override func setReading(_ on: Bool) {
    isReading = on
    if on, !inbox.isEmpty { host.time.execute { self.handOut() } }
  }

  /// Over the socket's buffer it is lost, as with the kernel's.
  func arrived(_ bytes: ByteBuffer, from source: Endpoint) {
    guard isOpen, queued + bytes.readableBytes <= Self.room else { return }
    queued += bytes.readableBytes
    inbox.append((bytes, source))
    handOut()
  }

  private func handOut() {
    while isReading, isOpen, let (bytes, source) = inbox.popFirst() {
      queued -= bytes.readableBytes
      bytes.withUnsafeReadableBytes { owner?.received(datagram: $0, from: peer(for: source)) }
    }
  }

  override func close(linger: Bool) {
    guard isOpen else { return }
    isOpen = false
    owner = nil
    inbox.removeAll()
    host.remove(self)
    becomeGone()
  }

  /// 65 535 less the IPv4 and UDP headers (RFC 768, RFC 791).
  private static let longest = 65_507
  private static let room = 1 << 20
  private static let knownPeers = 4096
}
