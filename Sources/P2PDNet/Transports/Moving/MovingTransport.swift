import NIOCore

/// A stream that can change what it stands on, without a byte lost, doubled or out of order: it begins on a relay, say,
/// and goes on over a direct path once there is one. Both sides wrap their end of the first stream in one of these, and
/// both call ``move(to:)`` with their end of the second, in any order and as far apart as they like.
///
/// What is decided when: ``PathMove``. The second stream is not read before the first one's bytes are all here; until then
/// the network holds its bytes, and with them the peer. The first stream is kept for some seconds after that, and with it
/// what the peer has not said to have got on the second: as much as counts as unsent. A second stream that dies or
/// swallows everything by then costs nothing but time. Afterwards bytes go over it as they are, and nothing is kept.
public final class MovingTransport: Transport, @unchecked Sendable {
  /// The move is complete: the endpoints of this transport are those of the second stream, and the first is given up.
  public var moved: (() -> Void)?
  /// A stream given to ``move(to:)`` was of no use and is closed; all goes on on the first, and another can be tried soon.
  public var moveFailed: ((NetError) -> Void)?

  // Shared with MovingTransport+Input.swift.
  var steps = PathMove()
  private(set) var old: MovingLeg?
  private(set) var new: MovingLeg?
  private(set) var isOver = false
  var wantsReading = false
  /// What was read on the second stream and has to wait: part of one read.
  var held = ByteBuffer()
  var isTaking = false

  private let loop: any EventLoop
  /// Streams whose resources are not given back yet.
  private var living = 0
  private var watch: Scheduled<Void>?
  private var lossCause: NetError?
  /// How the first stream ended.
  private var oldEnd: EndReason?

  /// What may have to be sent on the first stream again.
  private var kept = ByteBuffer()

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
  /// goes on where the second is dead: where no word came on it in 10 s, or nothing came back for some 6 s.
  public func move(to stream: Transport) {
    loop.assertInEventLoop()
    guard canMove else {
      stream.close(linger: false)
      moveFailed?(NetError(.cancelled, Self.what, cause: isOver ? "the pipe is closed" : "it moves already"))
      return
    }
    new = adopt(stream)
    let began = loop.now
    perform(steps.offer())
    watchNew(since: began)
  }

  /// A path can swallow everything without a word from the network: then TCP would try for a quarter of an hour.
  private func watchNew(since began: NIODeadline) {
    watch?.cancel()
    watch = nil
    guard !isOver, !steps.isDone, let new else { return }
    watch = loop.assumeIsolated().scheduleTask(in: Self.pause) { [weak self, weak new] in
      guard let self, let new, self.new === new else { return }
      if !steps.isReady, loop.now - began >= Self.patience { return lost("the peer said nothing on it") }
      if new.stream.isUnanswered { return lost("nothing comes back on it") }
      perform(steps.tick())
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
    (old?.stream.unsent ?? 0) &+ max(new?.stream.unsent ?? 0, kept.readableBytes)
  }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    if steps.output != .old, !steps.isDone { keep(header, body) }
    if case .waiting = steps.output { return nil }
    guard let leg = steps.output == .old ? old : new else {
      return NetError(.closed, "send", cause: "the pipe is closed")
    }
    return leg.send(header, body, corked: corked)
  }

  private func keep(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) {
    steps.keeps(header.total &+ body.count)
    if header.count > 0 { withUnsafeBytes(of: header.word) { _ = kept.writeBytes($0.prefix(header.count)) } }
    kept.writeBytes(body)
    if header.newline { kept.writeInteger(UInt8(0x0a)) }
  }

  private func forget(_ count: Int) {
    kept.moveReaderIndex(forwardBy: min(count, kept.readableBytes))
    // Moving the rest to the front costs less than what was forgotten did.
    if kept.readerIndex >= kept.readableBytes { kept.discardReadBytes() }
    owner?.drained()
  }

  private func sendAgain() {
    let bytes = kept
    kept = ByteBuffer()
    // A failure comes again as the stream's end.
    bytes.withUnsafeReadableBytes { _ = old?.send(.none, $0, corked: false) }
  }

  override func uncork() { (steps.output == .old ? old : new)?.stream.uncork() }

  override func flush() {
    old?.stream.flush()
    new?.stream.flush()
  }

  override func closeOutput() {
    if !isOver { perform(steps.closeOutput()) }
  }

  func drained() {
    confirm()
    owner?.drained()
  }

  override func setReading(_ on: Bool) {
    wantsReading = on
    settle()
  }

  // MARK: Steps

  func perform(_ actions: [PathMove.Action]) {
    act(on: actions)
    settle()
  }

  func act(on actions: [PathMove.Action]) {
    for action in actions where !isOver {
      switch action {
      case .say(let record, let leg): (leg == .old ? old : new)?.say(record)
      case .endOutputOnNew: new?.stream.closeOutput()
      case .tellInputEnd: owner?.inputEnded(.closed)
      case .forget(let count): forget(count)
      case .sendAgain: sendAgain()
      case .dropNew: dropNew()
      case .leaveOld: leaveOld()
      case .fail(let failure): end(reason(of: failure))
      }
    }
  }

  func oldIsGone(_ reason: EndReason) {
    old = nil
    oldEnd = reason
    perform(steps.oldLost())
  }

  private func dropNew() {
    let dropped = new
    new = nil
    held = ByteBuffer()
    watch?.cancel()
    dropped?.stream.close(linger: false)
    moveFailed?(lossCause ?? NetError(.closed, Self.what, cause: "the peer has lost the path"))
  }

  private func leaveOld() {
    old?.stream.close(linger: true)
    old = nil
    watch?.cancel()
    if let new { takeEndpoints(of: new.stream) }
    if kept.readableBytes > 0 {
      kept = ByteBuffer()
      owner?.drained()
    }
    if !isOver { moved?() }
  }

  func lost(_ cause: String) {
    lossCause = NetError(.closed, Self.what, cause: cause)
    perform(steps.newLost())
    lossCause = nil
  }

  // MARK: The end

  private func reason(of failure: PathMove.Failure) -> EndReason {
    switch failure {
    case .brokenRules: .error(NetError(.io, "pipe", cause: "the peer broke the rules of moving to another path"))
    case .oldLost: oldEnd ?? .reset
    case .newLost where steps.inputIsOver: .closed
    case .newLost:
      .error(NetError(.reset, "pipe", cause: "the path it moved to was lost, and the peer has left the first"))
    }
  }

  func end(_ reason: EndReason) {
    guard !isOver else { return }
    let owner = owner
    close { $0.close(linger: false) }
    owner?.transportEnded(reason)
  }

  public override func close(linger: Bool) {
    guard !isOver else { return }
    // Without that word it would look as if a path had died.
    if linger, !steps.isDone {
      for case .say(let record, let leg) in steps.closeOutput() { (leg == .old ? old : new)?.say(record) }
    }
    close { $0.close(linger: linger) }
  }

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

  static let what = "move the pipe"
  /// Both sides have agreed on the path: their words come as far apart as they learn of that.
  private static let patience = TimeAmount.seconds(10)
  private static let pause = TimeAmount.seconds(1)
}
