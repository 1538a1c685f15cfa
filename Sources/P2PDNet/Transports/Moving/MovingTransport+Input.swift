import NIOCore

/// What a ``MovingTransport`` reads, on which of its streams, and how it takes their ends.
extension MovingTransport {
  func received(_ bytes: UnsafeRawBufferPointer, on leg: MovingLeg) {
    guard leg === old || leg === new else { return }
    let taken = leg === new && held.readableBytes > 0 ? 0 : take(bytes, from: leg)
    if leg === new { held.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[taken...])) }
    settle()
  }

  /// - Returns: how many of the bytes are used up.
  private func take(_ bytes: UnsafeRawBufferPointer, from leg: MovingLeg) -> Int {
    isTaking = true
    defer { isTaking = false }
    var position = 0
    while leg === old || leg === new && isNewsTurn, let step = leg.next(bytes, &position) {
      switch step {
      case .record(let record): act(on: leg === old ? steps.heardOnOld(record) : steps.heardOnNew(record))
      case .data(let range): handOn(UnsafeRawBufferPointer(rebasing: bytes[range]), from: leg)
      }
    }
    if leg === new { confirm() }
    return position
  }

  private func handOn(_ bytes: UnsafeRawBufferPointer, from leg: MovingLeg) {
    guard !steps.inputIsOver, steps.input == (leg === new ? .new : .old) else {
      return act(on: [.fail(.brokenRules)])
    }
    // Before it is handed on: whatever that leads to, these bytes have come.
    if leg === new { steps.took(bytes.count) }
    owner?.received(stream: bytes)
  }

  /// The peer keeps what it sends on the second stream until it hears of it; on a first stream that is slow once for all
  /// that came meanwhile.
  func confirm() {
    if let old, old.stream.unsent == 0 { act(on: steps.confirm()) }
  }

  /// The second stream's first word comes at any time, the rest when the first stream has no more.
  private var isNewsTurn: Bool { !steps.isReady || steps.input == .new && wantsReading }

  /// What this side reads now, after anything has changed.
  func settle() {
    guard !isOver, !isTaking else { return }
    if let new {
      if held.readableBytes > 0, isNewsTurn {
        let bytes = held
        held = ByteBuffer()
        let taken = bytes.withUnsafeReadableBytes { take($0, from: new) }
        if new === self.new, let rest = bytes.getSlice(at: taken, length: bytes.readableBytes - taken) { held = rest }
        return settle()
      }
      if held.readableBytes == 0, new.inputHasEnded || new.end != nil, conclude(new) { return }
    }
    // Once the peer has left the old path, nothing but words about the move can come on it.
    old?.read(steps.input == .old ? wantsReading : true)
    new?.read(isNewsTurn && held.readableBytes == 0)
  }

  // MARK: Ends

  /// A stream has ended, or its peer's side of it.
  func ended(_ leg: MovingLeg) {
    guard leg === old else { return settle() }
    if let reason = leg.end { return oldIsGone(reason) }
    // In the middle of a record: the stream was cut.
    perform(leg.isBetweenRecords ? steps.oldInputEnded() : [.fail(.oldLost)])
  }

  /// The second stream has ended, and what came on it was handed on.
  /// - Returns: whether that has changed anything.
  private func conclude(_ new: MovingLeg) -> Bool {
    if !new.hearsBare, !steps.isDone {
      lost(new.end?.netError(Self.what).cause ?? "the peer gave the path up")
    } else if !new.hearsBare {
      end(new.end ?? (steps.inputIsOver ? .closed : .reset))
    } else if new.inputHasEnded, !steps.inputIsOver {
      perform(steps.newInputEnded())
    } else if let reason = new.end {
      end(reason)
    } else {
      return false
    }
    return true
  }
}
