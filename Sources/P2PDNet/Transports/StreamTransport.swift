import CNet
import Glibc
import NIOCore

/// A TCP or Unix-domain stream of the kernel.
///
/// Reads into the loop's one buffer and hands the bytes on from there. Writes straight from the caller's bytes while nothing
/// is queued, or with the others that are served at the same time (``StreamBatch``); what the kernel does not take waits in a queue, which whoever sends keeps bounded (``Pipe/send(_:to:)``).
final class StreamTransport: KernelTransport, StreamAttempt, @unchecked Sendable {
  private var queue = SendQueue()
  /// Bytes that wait in the loop's batch; nothing is queued while there are any.
  var piece = StreamBatch.Piece()
  /// The loop's, which outlives this: asked without counting references.
  private let batch: Unmanaged<StreamBatch>
  private var isReading = false
  /// Read, but nobody's yet.
  private var ownerless = ByteBuffer()
  /// There was more to read last time than others wait for.
  private var isBulk = false
  /// The kernel has no room: the queue goes on when it says so.
  private var waitsForRoom = false
  private var wantsEndOfOutput = false
  private var outputEnded = false
  private var inputEnded = false
  private var lingering: LoopTimer?
  /// Why writing failed; told when the reader is through with what came before.
  private var failure: EndReason?
  private var connecting: Connecting?
  /// ``Transport/owner`` once more where it is a pipe, to be called without a cast, a witness or a reference count:
  /// `owner` holds it, and what `owner` lets go the loop holds until the events in hand are through.
  private var pipe: Unmanaged<Pipe>?

  private struct Connecting {
    let what: String
    let done: (Result<Transport, NetError>) -> Void
  }

  override var owner: (any TransportOwner)? {
    didSet {
      pipe = (owner as? Pipe).map { Unmanaged.passUnretained($0) }
      if let oldValue { loop.keep(oldValue) }
    }
  }

  /// A connected stream.
  init(connected descriptor: CInt, from remote: Endpoint?, on loop: KernelLoop) {
    batch = .passUnretained(loop.batch)
    super.init(descriptor, on: loop)
    remoteEndpoint = remote
    localEndpoint = remote == nil ? nil : KernelSocket.localEndpoint(of: descriptor)
  }

  /// A stream that is being connected: `number` is what connect(2) said.
  init(
    connecting descriptor: CInt, to remote: Endpoint?, _ number: CInt, _ what: String, on loop: KernelLoop,
    _ done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    batch = .passUnretained(loop.batch)
    super.init(descriptor, on: loop)
    remoteEndpoint = remote
    connecting = Connecting(what: what, done: done)
    if number == EINPROGRESS {
      if !watch(Ready.output) { later(ENOMEM) }
    } else {
      later(number)
    }
  }

  // MARK: Connecting

  private func later(_ number: CInt) {
    loop.assumeIsolated().execute { self.connected(number) }
  }

  private func connected(_ number: CInt) {
    guard descriptor >= 0, let connecting else { return }
    self.connecting = nil
    guard number == 0 else {
      let error = NetError(errno: number, connecting.what)
      close(linger: false)
      return connecting.done(.failure(error))
    }
    if remoteEndpoint != nil { localEndpoint = KernelSocket.localEndpoint(of: descriptor) }
    // The wish to write that told of the connection is taken back with the next change.
    connecting.done(.success(self))
    updateInterest()
  }

  func cancel() {
    guard connecting != nil else { return }
    connecting = nil
    close(linger: false)
  }

  // MARK: Events

  override func ready(_ flags: UInt32) {
    if flags & Self.inputFlags != 0 {
      if connecting != nil { return connected(takeError()) }
      if isReading, !inputEnded { read(flags) } else { troubled(flags) }
    }
    if flags & Ready.output != 0, descriptor >= 0 {
      if connecting != nil { return connected(takeError()) }
      writeQueue()
      if descriptor >= 0 { owner?.drained() }
    }
  }

  override func join(_ batch: StreamBatch, _ flags: UInt32) -> Bool {
    guard flags == Ready.input, isReading, !isBulk, !inputEnded, connecting == nil else { return false }
    let count = cnet_receive(descriptor, batch.room, StreamBatch.mostBytes)
    if count > 0 {
      isBulk = count == StreamBatch.mostBytes
      if isBulk { watchAnew() }
      batch.take(self, count)
    } else {
      let number = errno
      batch.handOut()
      if descriptor >= 0 { nothingRead(count, number) }
    }
    return true
  }

  @inline(__always)
  private func read(_ flags: UInt32) {
    let buffer = loop.readBuffer
    let count = cnet_receive(descriptor, buffer.baseAddress, buffer.count)
    guard count > 0 else { return nothingRead(count, errno) }
    isBulk = count >= StreamBatch.mostBytes
    handOut(UnsafeRawBufferPointer(start: buffer.baseAddress, count: count))
    // A read that finds less than it asks for has emptied the socket (epoll(7)); but behind the bytes there may be an end.
    if (flags & ~Ready.output != Ready.input || count == buffer.count), isReading, descriptor >= 0 { watchAnew() }
  }

  /// Bytes that were read, a moment ago or now.
  @inline(__always)
  func handOut(_ bytes: UnsafeRawBufferPointer) {
    guard descriptor >= 0 else { return }
    if ownerless.readableBytes > 0 {
      // Their turn has not come yet: these go behind them.
      ownerless.writeBytes(bytes)
      return handOutOwnerless()
    }
    if let pipe {
      pipe._withUnsafeGuaranteedRef { $0.received(stream: bytes) }
    } else if let owner {
      owner.received(stream: bytes)
    } else {
      // Another's handler took the stream from its owner between the read and now: they are for the next one.
      ownerless.writeBytes(bytes)
    }
  }

  private func handOutOwnerless() {
    guard isReading, owner != nil, ownerless.readableBytes > 0 else { return }
    let bytes = ownerless
    ownerless = ByteBuffer()
    bytes.withUnsafeReadableBytes { handOut($0) }
  }

  private func nothingRead(_ count: Int, _ number: CInt) {
    handOutOwnerless()
    guard descriptor >= 0 else { return }
    if count == 0 { return sawEnd() }
    if number == EINTR { return watchAnew() }
    if number != EAGAIN { end(failure ?? Self.reason(number)) }
  }

  private func sawEnd() {
    inputEnded = true
    if lingering != nil { return close(linger: false) }
    if let failure { return end(failure) }
    updateInterest()
    owner?.inputEnded(.closed)
  }

  /// Something happened while nobody reads, or nothing is left to read.
  private func troubled(_ flags: UInt32) {
    if flags & Ready.failed != 0 {
      let number = takeError()
      if number != 0 { return end(failure ?? Self.reason(number)) }
    }
    if let failure { return end(failure) }
    if flags & Ready.hungUp != 0 {
      if inputEnded { return end(.closed) }
      // Both sides have ended, and what the peer sent before waits in the kernel for a reader. The kernel would go on
      // telling of it without pause.
      loop.unwatch(self)
    }
  }

  private func updateInterest() {
    guard descriptor >= 0, connecting == nil else { return }
    var flags: UInt32 = 0
    if isReading, !inputEnded { flags |= Ready.input | Ready.peerEnded | Ready.urgent | Ready.once }
    if waitsForRoom { flags = (flags | Ready.output) & ~Ready.once }
    if flags == 0, !isWatched { return }
    if !watch(flags) { end(.error(NetError(errno: ENOMEM, "pipe"))) }
  }

  // MARK: Out

  override var unsent: Int { queue.count &+ piece.count }
  override var isUnanswered: Bool { descriptor >= 0 && KernelSocket.isUnanswered(descriptor) }

  /// What is sent now may go straight to the kernel.
  var isClear: Bool { queue.isEmpty && failure == nil && descriptor >= 0 }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard descriptor >= 0 else { return NetError(.closed, "send", cause: "the pipe is closed") }
    if batch._withUnsafeGuaranteedRef({ $0.isOpen }), isClear, header.total &+ body.count <= StreamBatch.mostBytes {
      if batch._withUnsafeGuaranteedRef({ $0.add(header, body, of: self) }) { return nil }
    } else if piece.count > 0 {
      _ = sendPiece()
    }
    guard queue.isEmpty, !corked || body.count >= Self.corkLimit else {
      queue.append(header, body, skipping: 0)
      if !corked, !waitsForRoom { writeQueue() }
      return nil
    }
    let written = writeDirectly(header, body)
    if written == header.total &+ body.count { return nil }
    if written < 0 {
      let number = errno
      guard number == EAGAIN || number == EINTR else { return failed(number) }
    }
    queue.append(header, body, skipping: max(0, written))
    waitsForRoom = true
    updateInterest()
    return nil
  }

  override func uncork() {
    if !queue.isEmpty, !waitsForRoom, descriptor >= 0 { writeQueue() }
  }

  override func flush() {
    if piece.count > 0 { _ = sendPiece() }
    uncork()
  }

  /// Sends what waits in the batch. False: more cannot go straight to the kernel.
  func sendPiece() -> Bool {
    let bytes = batch._withUnsafeGuaranteedRef { $0.bytes(of: piece) }
    piece.count = 0
    guard !bytes.isEmpty, descriptor >= 0 else { return isClear }
    let written = cnet_send(descriptor, bytes.baseAddress, bytes.count)
    if written == bytes.count { return true }
    if written < 0 {
      let number = errno
      guard number == EAGAIN || number == EINTR else {
        _ = failed(number)
        return false
      }
    }
    queue.append(.none, bytes, skipping: max(0, written))
    waitsForRoom = true
    updateInterest()
    return false
  }

  @inline(__always)
  private func writeDirectly(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) -> Int {
    if header.total == 0 { return cnet_send(descriptor, body.baseAddress, body.count) }
    var word = header.word
    var newline: UInt8 = 0x0a
    let fd = descriptor
    return withUnsafeMutableBytes(of: &word) { head in
      withUnsafeMutableBytes(of: &newline) { tail in
        var parts = (
          iovec(iov_base: head.baseAddress, iov_len: header.count),
          iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count),
          iovec(iov_base: tail.baseAddress, iov_len: header.newline ? 1 : 0)
        )
        return withUnsafeMutableBytes(of: &parts) { raw in
          var message = msghdr()
          message.msg_iov = raw.baseAddress?.assumingMemoryBound(to: iovec.self)
          message.msg_iovlen = 3
          return cnet_send_message(fd, &message)
        }
      }
    }
  }

  /// Gives the kernel what it takes, and asks to be told of room for the rest.
  private func writeQueue() {
    if !queue.isEmpty, failure == nil {
      let fd = descriptor
      let written = queue.withBytes { cnet_send(fd, $0.baseAddress, $0.count) }
      if written < 0 {
        let number = errno
        if number != EAGAIN, number != EINTR { _ = failed(number) }
      } else {
        queue.removeFirst(written)
      }
    }
    waitsForRoom = !queue.isEmpty && failure == nil
    if queue.isEmpty, wantsEndOfOutput, !outputEnded {
      outputEnded = true
      shutdown(descriptor, CInt(SHUT_WR))
    }
    updateInterest()
  }

  /// Nothing can be written any more. The reader still gets what the peer sent before it went, and then the reason.
  private func failed(_ number: CInt) -> NetError {
    let error = NetError(errno: number, "send")
    failure = failure ?? (error.code == .reset ? .reset : .error(error))
    if !isReading || inputEnded {
      loop.assumeIsolated().execute { self.end(self.failure ?? .reset) }
    }
    return error
  }

  override func closeOutput() {
    wantsEndOfOutput = true
    if piece.count > 0 { _ = sendPiece() }
    if descriptor >= 0, !waitsForRoom { writeQueue() }
  }

  // MARK: In

  override func setReading(_ on: Bool) {
    guard on != isReading else { return }
    isReading = on
    if !on, let failure { loop.assumeIsolated().execute { self.end(failure) } }
    // Before the loop reads anything again.
    if on, ownerless.readableBytes > 0 { loop.assumeIsolated().execute { self.handOutOwnerless() } }
    updateInterest()
  }

  // MARK: The end

  override func close(linger: Bool) {
    guard descriptor >= 0 else { return }
    connecting = nil
    if piece.count > 0 { _ = sendPiece() }
    guard linger, lingering == nil, !inputEnded, failure == nil else { return end(nil) }
    // Our end of stream goes behind what the kernel holds for the peer; then its own end is waited for, since closing
    // with unread bytes would be a reset.
    owner = Lingering.shared
    if !outputEnded { shutdown(descriptor, CInt(SHUT_WR)) }
    outputEnded = true
    queue.removeAll()
    waitsForRoom = false
    isReading = true
    lingering = loop.after(Self.lingerTime) { [weak self] in self?.close(linger: false) }
    updateInterest()
  }

  override func abort() {
    guard descriptor >= 0 else { return }
    connecting = nil
    if piece.count > 0 { _ = sendPiece() }
    var options = StreamOptions()
    options.linger = 0
    KernelSocket.apply(options, to: descriptor)
    end(nil)
  }

  override func loopEnds() { end(.local) }

  /// nil: at the owner's wish, so that it need not be told.
  private func end(_ reason: EndReason?) {
    guard descriptor >= 0 else { return }
    releaseDescriptor()
    if let lingering { loop.cancel(lingering) }
    lingering = nil
    let owner = owner
    self.owner = nil
    if let connecting {
      self.connecting = nil
      connecting.done(.failure(NetError(.cancelled, connecting.what, cause: "the event loop was shut down")))
    }
    if let reason { owner?.transportEnded(reason) }
    queue.removeAll()
    piece.count = 0
    becomeGone()
  }

  private static func reason(_ number: CInt) -> EndReason {
    switch number {
    case ECONNRESET, EPIPE: .reset
    case ETIMEDOUT: .timeout
    default: .error(NetError(errno: number, "pipe"))
    }
  }

  private static let inputFlags = Ready.input | Ready.peerEnded | Ready.failed | Ready.hungUp
  /// Above this size one write of its own costs less than the copy that joins it with others.
  private static let corkLimit = 16 << 10
  /// How long a closed stream may take to see the peer's end before the descriptor goes.
  private static let lingerTime = TimeAmount.seconds(2)
}

/// Takes what a peer sends to a stream that was closed.
private final class Lingering: TransportOwner, Sendable {
  static let shared = Lingering()
  func received(stream bytes: UnsafeRawBufferPointer) {}
  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
  func inputEnded(_ reason: EndReason) {}
  func drained() {}
  func transportEnded(_ reason: EndReason) {}
}
