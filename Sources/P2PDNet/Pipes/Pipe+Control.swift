import NIOCore

/// Control frames between nodes: keep-alive, half-close, goodbye.
extension Pipe {
  func send(control frame: ControlFrame) {
    guard decoder.framing == .message, phase == .open else { return }
    let bytes = frame.bytes
    bytes.withUnsafeBytes {
      let header = FrameHeader(.message, length: $0.count, control: true)
      _ = transport.send(header, $0, to: nil, corked: corked)
    }
  }

  /// Ends the pipe and tells the peer why: its end is an error with this code and these words.
  public func close(_ code: NetError.Code, saying reason: String) {
    send(control: .goodbye("\(code.rawValue): \(reason)"))
    outputClosed = true
    close(flush: conf.flushTimeout, reason: .local)
  }

  func received(control body: UnsafeRawBufferPointer) {
    switch ControlFrame(body) {
    case .ping: send(control: .pong)
    case .pong:
      if let sent = pingSent { counters.rtt = loop.now - sent }
      pingSent = nil
    case .endOfOutput:
      inputEnd = inputEnd ?? .closed
      // The rest of this read cannot hold messages; the end follows when the decoder is done.
      loop.assumeIsolated().execute { self.endIfDone() }
    case .goodbye(let text):
      if text.isEmpty {
        inputEnd = inputEnd ?? .closed
      } else {
        let parts = text.split(separator: ":", maxSplits: 1)
        let code = parts.first.flatMap { NetError.Code(rawValue: String($0)) } ?? .closed
        inputEnd = inputEnd ?? .error(NetError(code, "pipe", cause: "the peer ended it: \(text.prefix(200))"))
      }
      outputClosed = true
      loop.assumeIsolated().execute { self.endIfDone() }
    case nil: break
    }
  }

  /// One timer a pipe, not one a message: it looks whether anything was heard since it last looked.
  func startKeepAlive() {
    guard let keepAlive = conf.keepAlive, decoder.framing == .message, proto == .tcp, !isServer else { return }
    keepAliveTimer = loop.assumeIsolated().scheduleTask(in: keepAlive.interval) { self.checkAlive(keepAlive) }
  }

  private func checkAlive(_ keepAlive: KeepAlive) {
    guard phase == .open else { return }
    if heard || !isReading {
      heard = false
      missedPings = 0
    } else {
      missedPings += 1
      if missedPings >= keepAlive.missed { return end(abruptly: .timeout) }
    }
    if pingSent == nil || missedPings > 0 {
      pingSent = loop.now
      send(control: .ping)
    }
    startKeepAlive()
  }
}
