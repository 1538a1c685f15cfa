import CNet
import Glibc
import NIOCore

/// A UDP socket of the kernel.
final class DatagramTransport: KernelTransport, @unchecked Sendable {
  /// A connected socket takes no address with a datagram.
  private let connectedTo: Peer?
  private var senders: SenderTable
  private var pace = DatagramPace()
  private var isReading = false
  private var queue = CircularBuffer<(bytes: ByteBuffer, peer: Peer)>()
  private var queued = 0

  init(_ descriptor: CInt, connectedTo remote: Endpoint?, isDualStack: Bool, on loop: KernelLoop) {
    connectedTo = remote.map { Peer($0) }
    senders = SenderTable(isDualStack: isDualStack)
    super.init(descriptor, on: loop)
    remoteEndpoint = remote
    localEndpoint = KernelSocket.localEndpoint(of: descriptor)
  }

  // MARK: Out

  override var unsent: Int { queued }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard descriptor >= 0, let peer else { return NetError(.closed, "send", cause: "the pipe is closed") }
    guard body.count <= Self.longest else {
      return NetError(
        .tooLong, "send to \(peer)", cause: "a datagram carries at most \(Self.longest) bytes, this has \(body.count)")
    }
    if !queue.isEmpty { return enqueue(body, to: peer) }
    let number = write(body, to: peer)
    switch number {
    case 0: return nil
    case EAGAIN, EINTR: return enqueue(body, to: peer)
    default: return NetError(errno: number, "send to \(peer)")
    }
  }

  /// 0 or the error number.
  @inline(__always)
  private func write(_ body: UnsafeRawBufferPointer, to peer: Peer) -> CInt {
    if writeOnce(body, to: peer) >= 0 { return 0 }
    // A connected socket reports an earlier datagram's ICMP error here; this one was not sent yet.
    if errno == ECONNREFUSED, writeOnce(body, to: peer) >= 0 { return 0 }
    return errno
  }

  @inline(__always)
  private func writeOnce(_ body: UnsafeRawBufferPointer, to peer: Peer) -> Int {
    if connectedTo != nil { return cnet_send(descriptor, body.baseAddress, body.count) }
    return cnet_send_to(descriptor, body.baseAddress, body.count, peer.kernelForm, peer.kernelLength)
  }

  private func enqueue(_ body: UnsafeRawBufferPointer, to peer: Peer) -> NetError? {
    guard queued &+ body.count <= Self.queueLimit, queue.count < Self.queueRoom else {
      return NetError(.limit, "send to \(peer)", cause: "\(queued) bytes wait for the network already")
    }
    queue.append((ByteBuffer(bytes: body), peer))
    queued &+= body.count
    updateInterest()
    return nil
  }

  private func writeQueue() {
    for _ in 0..<Self.sendsPerWake {
      guard let (bytes, peer) = queue.first else { break }
      // What cannot be sent at all was taken with a promise of no more than an attempt.
      let number = bytes.withUnsafeReadableBytes { write($0, to: peer) }
      if number == EAGAIN || number == EINTR { break }
      queue.removeFirst()
      queued &-= bytes.readableBytes
    }
    updateInterest()
    owner?.drained()
  }

  override func peer(for endpoint: Endpoint) -> Peer {
    if let connectedTo, connectedTo.endpoint == endpoint { return connectedTo }
    return senders.peer(for: endpoint, loop.keep)
  }

  // MARK: In

  override func setReading(_ on: Bool) {
    isReading = on
    updateInterest()
  }

  private func updateInterest() {
    guard descriptor >= 0 else { return }
    // Room is asked for until the queue is empty, so it has to be told as long as it is there.
    var flags = queue.isEmpty ? 0 : Ready.output
    if isReading { flags |= queue.isEmpty ? Ready.input | Ready.once : Ready.input }
    if flags == 0, !isWatched { return }
    if !watch(flags) { end(.error(NetError(errno: ENOMEM, "pipe"))) }
  }

  override func ready(_ flags: UInt32) {
    if isReading, flags & (Ready.input | Ready.failed) != 0 {
      read()
    } else if flags & Ready.failed != 0 {
      // An ICMP answer while nobody reads; asking for it clears it.
      _ = takeError()
    }
    if flags & Ready.output != 0, descriptor >= 0 { writeQueue() }
  }

  /// Reads until nothing is left, since what came is told once. Asking once more than there are datagrams costs less than
  /// a round of the loop, and often the next question is there when the last is answered.
  private func read() {
    guard let owner else { return }
    let batch = loop.datagrams
    var left = Self.datagramsPerWake
    while descriptor >= 0, isReading {
      guard left > 0 else { return watchAnew() }
      let count = batch.receive(descriptor, pace.asks)
      guard count > 0 else {
        let number = errno
        if number == EAGAIN { return }
        // ICMP told that nobody listens: a fact about one datagram, not the end of the pipe.
        guard number == ECONNREFUSED || number == EINTR else { return end(.error(NetError(errno: number, "receive"))) }
        left &-= Self.datagramsPerError
        continue
      }
      left &-= count
      pace.took(count)
      var index = 0
      while index < count {
        handOut(batch, index, to: owner)
        // One that closes the pipe leaves the rest unread.
        guard descriptor >= 0 else { return }
        index &+= 1
      }
    }
  }

  @inline(__always)
  private func handOut(_ batch: DatagramBatch, _ index: Int, to owner: any TransportOwner) {
    if let connectedTo { return owner.received(datagram: batch.bytes(index), from: connectedTo) }
    // Alive: who forgets senders keeps them until the loop's turn is over.
    (senders.known(batch.sender(index)) ?? newSender(batch.sender(index)))?._withUnsafeGuaranteedRef {
      owner.received(datagram: batch.bytes(index), from: $0)
    }
  }

  @inline(never)
  private func newSender(_ address: UnsafePointer<sockaddr_storage>) -> Unmanaged<Peer>? {
    senders.sender(address, loop.keep)
  }

  // MARK: The end

  override func close(linger: Bool) { end(nil) }
  override func loopEnds() { end(.local) }

  private func end(_ reason: EndReason?) {
    guard descriptor >= 0 else { return }
    releaseDescriptor()
    let owner = owner
    self.owner = nil
    if let owner {
      loop.keep(owner)
      if let reason { owner.transportEnded(reason) }
    }
    queue.removeAll()
    queued = 0
    senders.removeAll(loop.keep)
    becomeGone()
  }

  /// 65 535 less the IPv4 and UDP headers (RFC 768, RFC 791).
  static let longest = 65507
  /// Datagrams read before other sockets get their turn.
  private static let datagramsPerWake = 64
  /// As which an error counts.
  private static let datagramsPerError = 16
  private static let sendsPerWake = 64
  /// Bytes, and datagrams, that may wait for the network before `send` refuses more.
  private static let queueLimit = 4 << 20
  private static let queueRoom = 16 << 10
}
