import Glibc
import NIOCore
import NIOPosix

/// UDP over a swift-nio channel, which waits for datagrams; most are read, and answers written, directly on its descriptor.
final class NIODatagramTransport: Transport, ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = AddressedEnvelope<ByteBuffer>
  typealias OutboundOut = AddressedEnvelope<ByteBuffer>

  private var channel: (any Channel)?
  private var isDetached = false
  private var descriptor: CInt = -1
  private var queued = 0
  /// A connected socket takes no address with a datagram.
  private let isConnected: Bool
  /// An IPv6 socket that takes IPv4 too.
  private let isDualStack: Bool
  private var senders: [Endpoint: Peer] = [:]
  private var recent: Peer?
  private var failure: EndReason?

  init(isConnected: Bool, isDualStack: Bool) {
    self.isConnected = isConnected
    self.isDualStack = isDualStack
  }

  override var unsent: Int { queued }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard descriptor >= 0, let peer else { return NetError(.closed, "send", cause: "the pipe is closed") }
    guard body.count <= Self.longest else {
      return NetError(
        .tooLong, "send to \(peer)", cause: "a datagram carries at most \(Self.longest) bytes, this has \(body.count)")
    }
    if queued > 0 { return enqueue(body, to: peer) }
    var written = write(body, to: peer)
    // A connected socket reports an earlier datagram's ICMP error here; this one was not sent yet.
    if written < 0, errno == ECONNREFUSED { written = write(body, to: peer) }
    if written >= 0 { return nil }
    let number = errno
    if number == EAGAIN || number == EWOULDBLOCK || number == EINTR { return enqueue(body, to: peer) }
    return NetError(errno: number, "send to \(peer)")
  }

  @inline(__always)
  private func write(_ body: UnsafeRawBufferPointer, to peer: Peer) -> Int {
    if isConnected { return Glibc.send(descriptor, body.baseAddress, body.count, Self.flags) }
    let fd = descriptor
    return withUnsafePointer(to: peer.storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(fd, body.baseAddress, body.count, Self.flags, $0, peer.storageLength)
      }
    }
  }

  private func enqueue(_ body: UnsafeRawBufferPointer, to peer: Peer) -> NetError? {
    guard let channel, let endpoint = peer.endpoint else {
      return NetError(.closed, "send", cause: "the pipe is closed")
    }
    let target = isDualStack ? endpoint.mapped : endpoint
    let size = body.count
    guard queued &+ size <= Self.queueLimit else {
      return NetError(.limit, "send to \(peer)", cause: "\(queued) bytes wait for the network already")
    }
    queued += size
    let envelope = AddressedEnvelope(remoteAddress: target.socketAddress, data: ByteBuffer(bytes: body))
    channel.writeAndFlush(envelope).assumeIsolated().whenComplete { _ in
      self.queued -= size
      self.pipe?.drained()
    }
    return nil
  }

  override func setReading(_ on: Bool) {
    guard let channel else { return }
    _ = channel.setOption(.autoRead, value: on)
  }

  override public func close(linger: Bool) {
    descriptor = -1
    isDetached = true
    if channel == nil { pipe = nil }
    channel?.close(promise: nil)
  }

  override func peer(for endpoint: Endpoint) -> Peer {
    if let known = senders[endpoint] { return known }
    if senders.count >= Self.knownSenders { senders.removeAll(keepingCapacity: true) }
    let peer = Peer(endpoint, mapped: isDualStack)
    senders[endpoint] = peer
    return peer
  }

  // MARK: In

  func handlerAdded(context: ChannelHandlerContext) {
    channel = context.channel
  }

  func channelActive(context: ChannelHandlerContext) {
    descriptor = NIOStreamTransport.descriptor(of: context.channel)
    pipe?.localEndpoint = context.localAddress.flatMap { Endpoint($0) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let envelope = Self.unwrapInboundIn(data)
    guard !isDetached, let pipe else { return }
    let sender: Peer
    if isConnected, let peer = pipe.peer {
      sender = peer
    } else if let endpoint = Endpoint(envelope.remoteAddress) {
      sender = known(endpoint)
    } else {
      return
    }
    envelope.data.withUnsafeReadableBytes { pipe.received(datagram: $0, from: sender) }
    drain(pipe)
  }

  /// swift-nio makes an object and a text of every datagram's sender. So it reads the first datagram of a wake-up, and
  /// those that came with it are read here.
  private func drain(_ pipe: Pipe) {
    guard let batch = DatagramBatch.current else { return }
    for _ in 0..<Self.batchesPerWake {
      guard descriptor >= 0, !isDetached else { return }
      let count = batch.receive(descriptor)
      guard count > 0 else {
        // An ICMP answer to an earlier datagram is reported once; what else is wrong swift-nio will see.
        if count < 0, errno == ECONNREFUSED || errno == EINTR { continue }
        return
      }
      for index in 0..<count {
        let (bytes, address) = batch[index]
        guard let sender = isConnected ? pipe.peer : Endpoint(address).map(known) else { continue }
        pipe.received(datagram: bytes, from: sender)
      }
      if count < DatagramBatch.room { return }
    }
  }

  private func known(_ endpoint: Endpoint) -> Peer {
    if let recent, recent.endpoint == endpoint { return recent }
    let peer = peer(for: endpoint)
    recent = peer
    return peer
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // ICMP told that nobody listens: a fact about one datagram, not the end of the pipe.
    if let error = error as? IOError, error.errnoCode == ECONNREFUSED { return }
    failure = failure ?? .error(NetError(error, "pipe"))
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    descriptor = -1
    pipe?.transportEnded(failure ?? .closed)
    channel = nil
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    pipe = nil
    channel = nil
  }

  private static let flags = CInt(MSG_DONTWAIT) | CInt(MSG_NOSIGNAL)
  /// 65 535 less the IPv4 and UDP headers (RFC 768, RFC 791).
  static let longest = 65507
  /// Batches read before other sockets get their turn.
  private static let batchesPerWake = 4
  /// Bytes that may wait for the network before `send` refuses more.
  private static let queueLimit = 4 << 20
  /// Senders remembered with their objects; over it all are forgotten, since any can be made anew.
  private static let knownSenders = 4096
}
