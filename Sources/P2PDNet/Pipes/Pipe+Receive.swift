import NIOCore

/// The road in: transport → framing → subscriptions, waiters, sink, inbox.
extension Pipe {
  var queuedBytes: Int { subscriptions.reduce(inbox.bytes) { $0 + $1.queue.bytes } }

  /// No queue may take another message: a stream stops here, a datagram is dropped.
  private var isFull: Bool {
    if inbox.count >= conf.maxQsize || relaysFull > 0 { return true }
    if subscriptions.isEmpty { return inbox.bytes >= conf.maxQbytes }
    return subscriptions.contains { $0.queue.count >= conf.maxQsize } || queuedBytes >= conf.maxQbytes
  }

  /// Messages go to the sink, not to whoever asks.
  var hasConsumer: Bool { sink != nil && sinkTakesMessages }

  func updateFastPath() {
    fastPath =
      hasConsumer && !sinkBusy && subscriptions.isEmpty && waiters.isEmpty && inbox.isEmpty && relays.isEmpty
      && duplicates == nil
  }

  // MARK: From the transport

  func received(stream bytes: UnsafeRawBufferPointer) {
    counters.bytesIn &+= UInt64(bytes.count)
    heard = true
    guard phase == .open else { return }
    if fastPath, isRaw, let streamPeer {
      streamPeer._withUnsafeGuaranteedRef { deliver(bytes, from: $0) }
      if fastPath { return }
      return updateReading()
    }
    if undecoded.readableBytes > 0 || isFull || isDecoding {
      undecoded.writeBytes(bytes)
      decodeKept()
    } else {
      let used = decode(bytes)
      if used < bytes.count, phase == .open {
        undecoded.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[used...]))
      }
    }
    updateReading()
  }

  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {
    counters.bytesIn &+= UInt64(bytes.count)
    guard phase == .open else { return }
    if lastSender !== peer { lastSender = peer }
    // Nothing waits where messages go straight through, so only a pause can stop them.
    if fastPath ? relaysFull > 0 : isFull && waiters.isEmpty {
      counters.dropped &+= 1
    } else {
      deliver(bytes, from: peer)
    }
  }

  /// The peer sends no more. Lines without an end count as a last line.
  func inputEnded(_ reason: EndReason) {
    guard inputEnd == nil, phase == .open || phase == .closing else { return }
    inputEnd = reason
    endIfDone()
  }

  // MARK: Decoding

  /// Decodes whole messages until the bytes are used up or the pipe cannot take more. Returns the bytes used.
  private func decode(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard let peer else { return bytes.count }
    isDecoding = true
    var wasCorked = false
    defer {
      isDecoding = false
      corked = false
      if wasCorked { transport.uncork() }
    }
    var used = 0
    while used < bytes.count, phase == .open, !isFull {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[used...])
      switch decoder.next(rest) {
      case .message(let start, let end, let next):
        corked = next < rest.count
        if corked { wasCorked = true }
        used += next
        deliver(UnsafeRawBufferPointer(rebasing: rest[start..<end]), from: peer)
      case .control(let start, let end, let next):
        used += next
        received(control: UnsafeRawBufferPointer(rebasing: rest[start..<end]))
      case .incomplete:
        return used
      case .tooLong(let length):
        let error = NetError(
          .limit, "receive from \(peer)", cause: "a message of \(length) bytes is over the limit of \(decoder.limit)")
        end(abruptly: .error(error))
        return bytes.count
      }
    }
    return used
  }

  /// Goes on with the bytes that had to wait.
  func decodeKept() {
    guard !isDecoding, undecoded.readableBytes > 0, !isFull else { return }
    // Moved out, since a handler may cause more to arrive while its predecessor's bytes are on loan.
    var kept = undecoded
    undecoded = ByteBuffer()
    let used = kept.withUnsafeReadableBytes { decode($0) }
    guard phase == .open else { return }
    kept.moveReaderIndex(forwardBy: used)
    if undecoded.readableBytes > 0 {
      kept.writeBuffer(&undecoded)
    }
    if kept.readableBytes == 0 {
      undecoded = ByteBuffer()
    } else {
      if kept.readerIndex > 64 << 10 { kept.discardReadBytes() }
      undecoded = kept
    }
  }

  // MARK: Handing out

  @inline(__always)
  func deliver(_ bytes: UnsafeRawBufferPointer, from peer: Peer) {
    counters.messagesIn &+= 1
    if let tap { tap.pipe(self, received: bytes, from: peer) }
    if let intercept, intercept(bytes, self) { return }
    guard fastPath, let sink else { return deliverSlowly(bytes, from: peer) }
    if !sink.pipe(self, message: bytes, from: peer) { keepForSink(bytes, from: peer) }
  }

  private func keepForSink(_ bytes: UnsafeRawBufferPointer, from peer: Peer) {
    sinkBusy = true
    inbox.append(Message(bytes: ByteBuffer(bytes: bytes), peer: peer))
    updateFastPath()
  }

  private func deliverSlowly(_ bytes: UnsafeRawBufferPointer, from peer: Peer) {
    if duplicates?.isNew(bytes, from: peer) == false {
      counters.dropped &+= 1
      return
    }
    var copy: ByteBuffer?
    func message() -> Message {
      let buffer = copy ?? ByteBuffer(bytes: bytes)
      copy = buffer
      return Message(bytes: buffer, peer: peer)
    }
    for relay in relays { relay.relayed(bytes, from: self) }
    var isTaken = false
    for subscription in subscriptions where subscription.wants(bytes, from: peer) {
      isTaken = true
      if let waiter = subscription.nextWaiter() {
        waiter.finish(.success(message()))
      } else if subscription.queue.count < conf.maxQsize {
        subscription.queue.append(message())
      } else {
        counters.dropped &+= 1
      }
    }
    if let waiter = nextWaiter() {
      waiter.finish(.success(message()))
    } else if hasConsumer, !sinkBusy, inbox.isEmpty, let sink {
      if !sink.pipe(self, message: bytes, from: peer) { keepForSink(bytes, from: peer) }
    } else if hasConsumer || (!isTaken && (isAsked || (relays.isEmpty && subscriptions.isEmpty))) {
      inbox.append(message())
      updateFastPath()
    }
  }

  private func nextWaiter() -> ReceiveTicket? {
    guard !waiters.isEmpty else { return nil }
    defer { updateFastPath() }
    while let waiter = waiters.popFirst() {
      if waiter.isWaiting { return waiter }
    }
    return nil
  }

  /// The sink can take messages again, after it answered false.
  public func ready() { ready(force: false) }

  func ready(force: Bool) {
    guard sinkBusy || force else { return }
    sinkBusy = false
    drainToSink()
    updateFastPath()
    resumeReading()
  }

  /// The sink wants no more messages for now, as if it had answered false; ``ready()`` ends that.
  public func hold() {
    sinkBusy = true
    updateFastPath()
  }

  private func drainToSink() {
    while hasConsumer, !sinkBusy, phase != .ended, let sink, let message = inbox.popFirst() {
      let taken = message.bytes.withUnsafeReadableBytes { sink.pipe(self, message: $0, from: message.peer) }
      if !taken {
        sinkBusy = true
        inbox.putBack(message)
      }
    }
  }

  /// Room was made in a queue: decode what waits, then ask the kernel for more.
  func resumeReading() {
    if phase == .open { decodeKept() }
    updateReading()
    endIfDone()
  }

  func updateReading() {
    let wanted = phase != .open || proto == .udp || !(isFull || undecoded.readableBytes > decoder.limit + 8)
    guard wanted != isReading, phase != .ended else { return }
    isReading = wanted
    transport.setReading(wanted)
  }

  /// Ends the pipe when the peer has ended and all it sent was handled.
  func endIfDone() {
    guard let inputEnd, phase == .open, !isDecoding else { return }
    if undecoded.readableBytes > 0, !isFull { decodeKept() }
    guard phase == .open else { return }
    let moreToHandle = !inbox.isEmpty || sinkBusy || isFull
    if decoder.framing == .line, undecoded.readableBytes > 0, !moreToHandle, let peer {
      let rest = undecoded
      undecoded = ByteBuffer()
      rest.withUnsafeReadableBytes { deliver($0, from: peer) }
      return endIfDone()
    }
    let hadWaiter = failUselessWaiters(inputEnd)
    guard phase == .open else { return }
    guard case .closed = inputEnd else {
      if !moreToHandle || !hasConsumer { end(abruptly: inputEnd) }
      return
    }
    if isFull || (hasConsumer && moreToHandle) { return }
    for other in relays where other.relays.contains(where: { $0 === self }) { other.closeOutput() }
    let isTunnel = relays.contains { $0.relays.contains { $0 === self } }
    if conf.allowHalfOpen || isTunnel, !outputClosed { return }
    if !hasConsumer, !hadWaiter, !outputClosed, isAsked || !inbox.isEmpty {
      // Whoever asks for messages may answer the last one first, and will learn of the end when it asks again.
      if closeTimer == nil {
        closeTimer = loop.assumeIsolated().scheduleTask(in: conf.flushTimeout) {
          self.close(flush: self.conf.flushTimeout, reason: .closed)
        }
      }
      return
    }
    close(flush: conf.flushTimeout, reason: .closed)
  }

  /// Who waits for what will not come is told so. True if somebody waited on the inbox.
  private func failUselessWaiters(_ reason: EndReason) -> Bool {
    var told = false
    if inbox.isEmpty, !isFull {
      while let waiter = nextWaiter() {
        told = true
        waiter.finish(.failure(reason.netError("receive")))
      }
    }
    for subscription in subscriptions where subscription.queue.isEmpty {
      while let waiter = subscription.nextWaiter() { waiter.finish(.failure(reason.netError("receive"))) }
    }
    return told
  }

  // MARK: Asking

  /// The next message, or of a subscription: at once if one is queued, otherwise when it comes. `timeout` nil waits
  /// for ever. Messages that arrived before the pipe ended can still be taken afterwards.
  /// - Returns: the ticket to give up with, nil when answered at once.
  @discardableResult
  public func receive(
    from subscription: Subscription? = nil, timeout: TimeAmount?,
    _ answer: @escaping (Result<Message, NetError>) -> Void
  ) -> ReceiveTicket? {
    if subscription == nil { isAsked = true }
    if let message = receiveNow(from: subscription) {
      answer(.success(message))
      return nil
    }
    if let inputEnd, phase == .open, subscription == nil, !hasConsumer, !conf.allowHalfOpen, !isFull {
      answer(.failure(inputEnd.netError("receive")))
      close(flush: conf.flushTimeout, reason: inputEnd)
      return nil
    }
    if let reason = endReason ?? inputEnd {
      answer(.failure(reason.netError("receive")))
      return nil
    }
    if phase == .closing {
      answer(.failure(EndReason.local.netError("receive")))
      return nil
    }
    let ticket = ReceiveTicket(answer)
    if let subscription { subscription.waiters.append(ticket) } else { waiters.append(ticket) }
    updateFastPath()
    if let timeout {
      let seconds = Double(timeout.nanoseconds) / 1e9
      ticket.expire(after: timeout, on: loop) {
        NetError(.timeout, "receive", cause: "no message in \(seconds) s")
      }
    }
    return ticket
  }

  /// A queued message, or nil.
  public func receiveNow(from subscription: Subscription? = nil) -> Message? {
    let message: Message?
    if let subscription {
      message = subscription.queue.popFirst()
    } else {
      message = inbox.popFirst()
    }
    guard message != nil else { return nil }
    updateFastPath()
    if !isReading || undecoded.readableBytes > 0 || inputEnd != nil { resumeReading() }
    return message
  }

  /// A queue of its own for the messages that match. A matching message goes to each such queue.
  /// - Parameter from: the sender's host and port; port 0 is any.
  public func subscribe(
    matching: ((UnsafeRawBufferPointer) -> Bool)? = nil, from: (host: String, port: Int)? = nil
  ) -> Subscription {
    let subscription = Subscription(matches: matching, host: from?.host, port: from?.port ?? 0)
    subscriptions.append(subscription)
    updateFastPath()
    return subscription
  }

  /// Ends a subscription: what it holds is dropped, who waits on it gets `cancelled`.
  public func unsubscribe(_ subscription: Subscription) {
    subscriptions.removeAll { $0 === subscription }
    subscription.queue.removeAll()
    while let waiter = subscription.nextWaiter() {
      waiter.finish(.failure(NetError(.cancelled, "receive", cause: "the subscription ended")))
    }
    updateFastPath()
    resumeReading()
  }

  func failWaiters(_ reason: EndReason) {
    while let waiter = waiters.popFirst() { waiter.finish(.failure(reason.netError("receive"))) }
    for subscription in subscriptions {
      while let waiter = subscription.nextWaiter() { waiter.finish(.failure(reason.netError("receive"))) }
    }
    while let waiter = writableWaiters.popFirst() { waiter(reason.netError("send")) }
  }
}

extension Subscription {
  func nextWaiter() -> ReceiveTicket? {
    while let waiter = waiters.popFirst() {
      if waiter.isWaiting { return waiter }
    }
    return nil
  }
}
