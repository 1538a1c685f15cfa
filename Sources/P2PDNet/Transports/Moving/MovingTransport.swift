import NIOCore

/// A stream that can change what it stands on, without a byte lost, doubled or out of order: it begins on a relay, say,
/// and goes on over a direct path once there is one. Both sides wrap their end of the first stream in one of these, and
/// both call ``move(to:)`` with their end of the second, in any order and as far apart as they like.
///
/// On the first stream bytes travel in records (``MoveRecord``), so that they can end before the stream does; on the
/// second they are handed on as they are. What is decided when: ``PathMove``. The second stream is not read before the
/// first one's bytes are all here; until then the network holds its bytes, and with them the peer. What is sent on it is
/// kept until the peer has come to it, and counts as unsent: so a path that swallows it costs nothing but time.
public final class MovingTransport: Transport, @unchecked Sendable {
  /// Both directions stand on the new path, and the endpoints of this transport are that path's.
  public var moved: (() -> Void)?
  /// A stream given to ``move(to:)`` was of no use and is closed; all stays on the first, and another can be tried.
  public var moveFailed: ((NetError) -> Void)?

  private let loop: any EventLoop
  private var steps = PathMove()
  private var old: MovingLeg?
  private var new: MovingLeg?
  /// The second stream when the move is complete.
  private var last: Transport?
  private var isOver = false
  /// What went out on the second stream and may have to go out again, on the first.
  private var kept = ByteBuffer()
  private var watch: Scheduled<Void>?
  /// Streams whose resources are not given back yet.
  private var living = 0

  // In.
  private var wantsReading = false
  private var records = MoveRecordReader()
  private var greeting = MoveRecordReader()
  /// What was read on the new path before its turn came: part of one read.
  private var held = ByteBuffer()
  private var newInputHasEnded = false
  /// The new path is gone, after all the peer sent on it.
  private var newEnd: EndReason?
  private var lossCause: NetError?

  /// Takes a connected stream over that nobody reads yet.
  public init(over stream: Transport, on loop: any EventLoop) {
    self.loop = loop
    super.init()
    old = adopt(stream)
    takeEndpoints(of: stream)
  }

  /// Whether a stream would be taken now: none was before, or those before have failed.
  public var canMove: Bool { !isOver && steps.canOffer }

  /// Begins to move to a connected stream that nobody reads yet, whose other end the peer's transport is given too.
  /// Answers with ``moved`` or ``moveFailed``, which may come before this returns. The first stream serves meanwhile, and
  /// goes on to where the second is dead: where no word came on it in 10 s, or nothing came back for some 6 s. Only where
  /// it dies between the peer's last word on the first stream and ours, it takes the pipe with it.
  public func move(to stream: Transport) {
    loop.assertInEventLoop()
    guard canMove else {
      stream.close(linger: false)
      moveFailed?(NetError(.cancelled, Self.what, cause: isOver ? "the pipe is closed" : "it moves already"))
      return
    }
    greeting = MoveRecordReader()
    new = adopt(stream)
    let began = loop.now
    perform(steps.offer())
    watchNew(since: began)
  }

  /// A path can swallow everything without a word from the network: then TCP would try for a quarter of an hour.
  private func watchNew(since began: NIODeadline) {
    watch?.cancel()
    watch = nil
    guard !isOver, let new, last == nil else { return }
    watch = loop.assumeIsolated().scheduleTask(in: Self.pause) { [weak self, weak new] in
      guard let self, let new, self.new === new else { return }
      if !steps.isReady, loop.now - began >= Self.patience { return lost("the peer said nothing on it") }
      if new.stream.isUnanswered { return lost("nothing comes back on it") }
      watchNew(since: began)
    }
  }

  private func adopt(_ stream: Transport) -> MovingLeg {
    let leg = MovingLeg(stream, of: self)
    living += 1
    stream.whenGone {
      self.living -= 1
      self.goneIfDone()
    }
    stream.owner = leg
    return leg
  }

  private func takeEndpoints(of stream: Transport) {
    (localEndpoint, remoteEndpoint, heldBy) = (stream.localEndpoint, stream.remoteEndpoint, stream.heldBy)
  }

  // MARK: Out

  override var unsent: Int {
    last?.unsent ?? (old?.stream.unsent ?? 0) &+ max(new?.stream.unsent ?? 0, kept.readableBytes)
  }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    if let last { return last.send(header, body, to: nil, corked: corked) }
    switch steps.output {
    case .old:
      guard let old else { break }
      return sendRecords(header, body, on: old.stream, corked: corked)
    case .new:
      guard let new else { break }
      steps.hasSentOnNew = true
      if !steps.isAcknowledged { keep(header, body) }
      return new.stream.send(header, body, to: nil, corked: corked)
    }
    return NetError(.closed, "send", cause: "the pipe is closed")
  }

  private func keep(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) {
    if header.count > 0 { withUnsafeBytes(of: header.word) { _ = kept.writeBytes($0.prefix(header.count)) } }
    kept.writeBytes(body)
    if header.newline { kept.writeInteger(UInt8(0x0a)) }
  }

  private func sendAgain() {
    let bytes = kept
    kept = ByteBuffer()
    guard let old else { return }
    // A failure comes again as the stream's end.
    bytes.withUnsafeReadableBytes { _ = sendRecords(.none, $0, on: old.stream, corked: false) }
  }

  private func sendRecords(
    _ header: FrameHeader, _ body: UnsafeRawBufferPointer, on stream: Transport, corked: Bool
  ) -> NetError? {
    let total = header.total &+ body.count
    if total <= Self.longestRecord {
      guard total > 0 else { return nil }
      return stream.send(FrameHeader(MoveRecord(.data, UInt32(total))), Self.nothing, to: nil, corked: true)
        ?? stream.send(header, body, to: nil, corked: corked)
    }
    var head = header
    head.newline = false
    if let error = sendRecords(head, Self.nothing, on: stream, corked: true) { return error }
    var rest = body
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.longestRecord))
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
      if let error = sendRecords(.none, piece, on: stream, corked: true) { return error }
    }
    var tail = FrameHeader.none
    tail.newline = header.newline
    if let error = sendRecords(tail, Self.nothing, on: stream, corked: true) { return error }
    if !corked { stream.uncork() }
    return nil
  }

  override func uncork() {
    if let last { return last.uncork() }
    (steps.output == .old ? old : new)?.stream.uncork()
  }

  override func flush() {
    if let last { return last.flush() }
    old?.stream.flush()
    new?.stream.flush()
  }

  override func closeOutput() {
    if !isOver { perform(steps.closeOutput()) }
  }

  // MARK: In

  override func setReading(_ on: Bool) {
    wantsReading = on
    settle()
  }

  func received(_ bytes: UnsafeRawBufferPointer, on leg: MovingLeg) {
    if leg === new { receivedOnNew(bytes) } else if leg === old { receivedOnOld(bytes) }
  }

  private func receivedOnNew(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    if !steps.isReady {
      var position = 0
      guard let step = greeting.next(bytes, &position) else { return }
      if case .record(let record) = step {
        perform(steps.heardOnNew(record))
      } else {
        perform(steps.newLost())
      }
      // A path that was dropped on that word.
      guard !isOver, steps.isReady, position < bytes.count else { return }
      rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
    }
    if steps.input == .new, wantsReading, held.readableBytes == 0 {
      steps.hasHeardOnNew = true
      owner?.received(stream: rest)
    } else {
      held.writeBytes(rest)
      // What followed the greeting in one read may have its turn already.
      settle()
    }
  }

  private func receivedOnOld(_ bytes: UnsafeRawBufferPointer) {
    var position = 0
    while !isOver, old != nil, let step = records.next(bytes, &position) {
      switch step {
      case .record(let record): perform(steps.heardOnOld(record))
      case .data(let range):
        guard steps.input == .old, !steps.inputIsOver else { return perform([.fail(.brokenRules)]) }
        owner?.received(stream: UnsafeRawBufferPointer(rebasing: bytes[range]))
      }
    }
  }

  func inputEnded(on leg: MovingLeg) {
    if leg === new {
      guard steps.isReady else { return lost("the peer gave the path up") }
      newInputHasEnded = true
      settle()
    } else if leg === old {
      // In the middle of a record: the stream was cut.
      perform(records.isBetweenRecords ? steps.oldInputEnded() : [.fail(.oldLost)])
    }
  }

  /// What this side reads now, after anything has changed.
  private func settle() {
    guard !isOver else { return }
    if steps.input == .new {
      if held.readableBytes > 0, wantsReading {
        let bytes = held
        held = ByteBuffer()
        steps.hasHeardOnNew = true
        bytes.withUnsafeReadableBytes { owner?.received(stream: $0) }
        guard !isOver else { return }
      }
      if held.readableBytes == 0, newInputHasEnded {
        if !steps.inputIsOver { return perform(steps.newInputEnded()) }
        if let newEnd { return end(newEnd) }
      }
    }
    // Once the peer has left the old path, nothing but words about the move can come on it.
    old?.read(steps.input == .old ? wantsReading : true)
    new?.read(steps.isReady ? steps.input == .new && wantsReading && held.readableBytes == 0 : true)
  }

  // MARK: Steps

  private func perform(_ actions: [PathMove.Action]) {
    var (isComplete, refusal) = (false, NetError?.none)
    for action in actions {
      guard !isOver else { return }
      switch action {
      case .say(let record, let leg):
        // A failure comes again as the stream's end.
        _ = (leg == .old ? old : new)?.stream.send(FrameHeader(record), Self.nothing, to: nil, corked: false)
      case .endOutputOnNew: new?.stream.closeOutput()
      case .tellInputEnd: owner?.inputEnded(.closed)
      case .sendAgain: sendAgain()
      case .dropNew:
        refusal = lossCause ?? NetError(.closed, Self.what, cause: "the peer has lost the path")
        dropNew()
      case .leaveOld:
        last = new?.stream
        old?.stream.close(linger: true)
        old = nil
        if let last { takeEndpoints(of: last) }
        isComplete = true
      case .fail(let failure): return end(reason(of: failure))
      }
    }
    if steps.isAcknowledged, kept.readableBytes > 0 {
      kept = ByteBuffer()
      owner?.drained()
    }
    settle()
    if isComplete, !isOver { moved?() }
    if let refusal, !isOver { moveFailed?(refusal) }
  }

  private func dropNew() {
    let dropped = new
    new = nil
    held = ByteBuffer()
    newInputHasEnded = false
    dropped?.stream.close(linger: false)
  }

  private func lost(_ cause: String) {
    lossCause = NetError(.closed, Self.what, cause: cause)
    perform(steps.newLost())
    lossCause = nil
  }

  // MARK: The end

  private func reason(of failure: PathMove.Failure) -> EndReason {
    switch failure {
    case .brokenRules: .error(NetError(.io, "pipe", cause: "the peer broke the rules of moving to another path"))
    case .oldLost: .reset
    case .newLost:
      .error(NetError(.reset, "pipe", cause: "the path it moved to was lost with what was on the way: \(cause)"))
    }
  }

  private var cause: String { lossCause?.cause ?? "the peer has lost it" }

  func ended(_ reason: EndReason, on leg: MovingLeg) {
    if leg === old {
      old = nil
      guard steps.input == .new else { return end(reason) }
      perform(steps.oldLost())
    } else if leg === new {
      if newInputHasEnded {
        newEnd = reason
        settle()
      } else if last != nil {
        end(reason)
      } else {
        lost(reason.netError(Self.what).cause)
      }
    }
  }

  private func end(_ reason: EndReason) {
    guard !isOver else { return }
    let owner = owner
    close(linger: false)
    owner?.transportEnded(reason)
  }

  public override func close(linger: Bool) { close { $0.close(linger: linger) } }

  public override func abort() { close { $0.abort() } }

  private func close(_ how: (Transport) -> Void) {
    guard !isOver else { return }
    isOver = true
    owner = nil
    (moved, moveFailed) = (nil, nil)
    watch?.cancel()
    watch = nil
    (held, kept) = (ByteBuffer(), ByteBuffer())
    let legs = [old, new]
    (old, new) = (nil, nil)
    for leg in legs.compactMap({ $0 }) { how(leg.stream) }
    goneIfDone()
  }

  private func goneIfDone() {
    if isOver, living == 0 { becomeGone() }
  }

  private static let what = "move the pipe"
  /// Both sides have agreed on the path: their words come as far apart as they learn of that.
  private static let patience = TimeAmount.seconds(10)
  private static let pause = TimeAmount.seconds(1)
  private static let longestRecord = Int(MoveRecord.longest)
  private static var nothing: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}

/// Tells a ``MovingTransport`` which of its streams something happened on.
final class MovingLeg: TransportOwner {
  let stream: Transport
  private let transport: MovingTransport
  private var isReading = false

  init(_ stream: Transport, of transport: MovingTransport) {
    self.stream = stream
    self.transport = transport
  }

  func read(_ on: Bool) {
    guard on != isReading else { return }
    isReading = on
    stream.setReading(on)
  }

  func received(stream bytes: UnsafeRawBufferPointer) { transport.received(bytes, on: self) }
  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
  func inputEnded(_ reason: EndReason) { transport.inputEnded(on: self) }
  func drained() { transport.owner?.drained() }
  func transportEnded(_ reason: EndReason) { transport.ended(reason, on: self) }
}

extension FrameHeader {
  /// A record's word as what goes in front of its body.
  fileprivate init(_ record: MoveRecord) {
    word = record.word.bigEndian
    count = 4
  }
}
