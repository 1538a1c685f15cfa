import NIOCore

/// The road out: framing → transport, and the ways a pipe ends.
extension Pipe {
  /// Sends one message. Bytes are copied only if the kernel does not take them at once.
  ///
  /// Up to `sendHighWater` unsent bytes plus one message are kept; beyond that the message is refused with `limit`.
  /// - Parameter to: for UDP: the receiver. A server pipe without one answers the last sender.
  public func send(_ bytes: UnsafeRawBufferPointer, to receiver: Peer? = nil) -> SendOutcome {
    guard phase == .open, !outputClosed else { return .failed(sendRefusal()) }
    if proto == .udp { return sendDatagram(bytes, to: receiver) }
    if isServer {
      return .failed(NetError(.unsupported, "send", cause: "a TCP server pipe has no peer; send on a client's pipe"))
    }
    guard bytes.count <= decoder.limit || decoder.framing == .raw else { return .failed(tooLong(bytes.count)) }
    if bytes.isEmpty, decoder.framing == .raw { return .sent }
    guard transport.unsent &+ bytes.count <= conf.sendHighWater &+ max(conf.maxMessage, bytes.count) else {
      return .failed(
        NetError(.limit, "send", cause: "\(transport.unsent) bytes are unsent already; wait for the peer to read"))
    }
    let header = FrameHeader(decoder.framing, length: bytes.count)
    if let error = transport.send(header, bytes, to: nil, corked: corked) { return .failed(error) }
    return sent(bytes, to: peer)
  }

  /// Each receiver goes its own way: one chosen among several would be counted on the road of every answer.
  @inline(__always)
  private func sendDatagram(_ bytes: UnsafeRawBufferPointer, to receiver: Peer?) -> SendOutcome {
    if let receiver { return sendDatagram(bytes, to: receiver) }
    if let peer { return sendDatagram(bytes, to: peer) }
    if let lastSender { return sendDatagram(bytes, to: lastSender) }
    return .failed(NetError(.badAddress, "send", cause: "a UDP server pipe needs the receiver's address"))
  }

  private func sendDatagram(_ bytes: UnsafeRawBufferPointer, to receiver: Peer) -> SendOutcome {
    if let error = transport.send(.none, bytes, to: receiver, corked: false) { return .failed(error) }
    return sent(bytes, to: receiver)
  }

  @inline(__always)
  private func sent(_ bytes: UnsafeRawBufferPointer, to receiver: @autoclosure () -> Peer?) -> SendOutcome {
    counters.messagesOut &+= 1
    counters.bytesOut &+= UInt64(bytes.count)
    if let tap { tap.pipe(self, sent: bytes, to: receiver()) }
    guard transport.unsent > conf.sendHighWater else { return .sent }
    // Only what the network does not take is worth waiting for, and only of that somebody tells.
    transport.flush()
    return transport.unsent > conf.sendHighWater ? .full : .sent
  }

  private func sendRefusal() -> NetError {
    if phase == .opening { return NetError(.closed, "send", cause: "the pipe is not open yet") }
    if transportIsGone, let inputEnd { return inputEnd.netError("send") }
    if outputClosed, phase == .open { return NetError(.closed, "send", cause: "this side of the pipe was closed") }
    return (endReason ?? .local).netError("send")
  }

  private func tooLong(_ count: Int) -> NetError {
    NetError(.tooLong, "send", cause: "the message has \(count) bytes, the limit is \(decoder.limit)")
  }

  /// Calls back when less than half of `sendHighWater` is unsent, at once if that is so now; with an error when the
  /// pipe ends first.
  public func whenWritable(_ answer: @escaping (NetError?) -> Void) {
    if phase == .ended || transportIsGone {
      answer((endReason ?? inputEnd ?? .local).netError("send"))
    } else if transport.unsent <= conf.sendHighWater / 2 {
      answer(nil)
    } else {
      writableWaiters.append(answer)
    }
  }

  /// The transport got bytes out.
  func drained() {
    if transport.unsent <= conf.sendHighWater / 2 {
      // Only those who wait now: a waiter may fill the pipe and wait again.
      for _ in 0..<writableWaiters.count {
        guard transport.unsent <= conf.sendHighWater, let waiter = writableWaiters.popFirst() else { break }
        waiter(nil)
      }
    }
    if transport.unsent == 0, phase == .closing { finishClose() }
  }

  // MARK: Ending

  /// Ends our side: the peer gets an end of stream after the last message. Receiving goes on.
  public func closeOutput() {
    guard phase == .open, proto == .tcp, !isServer, !outputClosed else { return }
    if decoder.framing == .message { send(control: .endOfOutput) }
    outputClosed = true
    if decoder.framing != .message { transport.closeOutput() }
    if inputEnd != nil { endIfDone() }
  }

  /// Ends the pipe. Queued data gets `flush` to leave; what could not leave is counted in ``lost``. A server's
  /// connections are closed with it.
  /// - Parameter flush: nil takes the conf's `flushTimeout`, zero closes at once.
  /// - Returns: the same future as ``ended``.
  @discardableResult
  public func close(flush: TimeAmount? = nil) -> EventLoopFuture<EndReason> {
    close(flush: flush ?? conf.flushTimeout, reason: .local)
    return endedPromise.futureResult
  }

  func close(flush: TimeAmount, reason: EndReason) {
    guard phase == .open || phase == .opening else { return }
    if phase == .opening { return end(abruptly: reason) }
    for client in clients.values { client.close(flush: flush, reason: reason) }
    if decoder.framing == .message, proto == .tcp, !outputClosed { send(control: .goodbye("")) }
    phase = .closing
    endReason = reason
    closeTimer?.cancel()
    corked = false
    transport.flush()
    inbox.removeAllIfUnread(by: reason)
    updateReading()
    if transport.unsent == 0 || flush <= .zero { return finishClose() }
    closeTimer = loop.assumeIsolated().scheduleTask(in: flush) { self.finishClose() }
  }

  private func finishClose() {
    guard phase == .closing, let reason = endReason else { return }
    lost = transport.unsent
    // A reset would destroy what the kernel still holds for the peer, so give it the chance to read.
    let linger = proto == .tcp && !isServer && lost == 0
    finish(reason)
    transport.close(linger: linger)
  }

  /// No goodbye: the other side is gone, broke the protocol, or never was.
  func end(abruptly reason: EndReason) {
    guard phase != .ended else { return }
    transport.flush()
    lost = transport.unsent
    finish(reason)
    transport.close(linger: false)
  }

  /// The descriptor is gone. What was received before is still handed out.
  func transportEnded(_ reason: EndReason) {
    switch phase {
    case .ended: break
    case .opening: finish(reason)
    case .closing:
      lost = transport.unsent
      finish(endReason ?? reason)
    case .open:
      outputClosed = true
      if case .closed = reason, inputEnd == nil, proto == .udp { return finish(reason) }
      inputEnd = inputEnd ?? reason
      transportIsGone = true
      // A handler that waits to send keeps its sink busy: told now, or the pipe never ends.
      while let waiter = writableWaiters.popFirst() { waiter(reason.netError("send")) }
      endIfDone()
    // A busy sink gets the rest; then `ready()` ends the pipe.
    }
  }
}

extension MessageQueue {
  /// After our own close nobody asks for the rest; after the peer's, it may still be taken.
  fileprivate mutating func removeAllIfUnread(by reason: EndReason) {
    if case .local = reason { removeAll() }
  }
}
