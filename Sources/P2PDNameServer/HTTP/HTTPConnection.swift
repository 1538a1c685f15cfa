import NIOCore
import NIOHTTP1
import P2PDNet

/// Who answers requests.
protocol RequestService: AnyObject {
  /// Calls `done` once, on the loop, perhaps at once.
  func answer(
    _ request: NameRequest, _ manner: RequestReader.Manner, _ source: Source, _ done: @escaping (APIAnswer) -> Void)
  func answered(_ method: HTTPMethod, _ status: HTTPResponseStatus, after time: TimeAmount)
  /// Now, as the `Date` header has it.
  func date() -> String
}

/// One client's connection, the last handler behind NIO's HTTP decoder and encoder. It works on one request at a time: what a
/// client sends meanwhile (pipelining) waits, unread beyond one read's worth, as it does while the client does not take its answers.
/// Whatever the client is slow with has its time.
final class HTTPConnection: ChannelInboundHandler, ChannelOutboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundIn = Never
  typealias OutboundOut = HTTPServerResponsePart

  private enum State {
    /// Of a new request nothing was seen; the next one, or the first.
    case waiting
    case receiving
    case answering
    /// The last answer is out; what still comes is thrown away, so that the answer is not lost with it (RFC 9112 §9.6).
    case ending
  }

  private let service: any RequestService
  private let source: Source
  private let times: Times
  private var context: ChannelHandlerContext?
  private var state = State.waiting
  private var reader = RequestReader()
  private var parts: CircularBuffer<HTTPServerRequestPart> = []
  private var wantsRead = false
  private var isStopping = false
  private var hasInput = true
  private var deadline: NIODeadline?
  private var timer: (due: NIODeadline, task: Scheduled<Void>)?
  private var began = NIODeadline.uptimeNanoseconds(0)
  private var isDraining = false
  /// Answers that are not yet with the kernel.
  private var unsent = 0

  /// How long a client may take.
  struct Times: Sendable {
    /// For its first request, TLS included, and for each request's body.
    var request = TimeAmount.seconds(10)
    /// Between an answer and the next request.
    var idle = TimeAmount.seconds(60)
    /// To take an answer that does not fit into the kernel's buffer.
    var answer = TimeAmount.seconds(10)
    /// To hang up after the last answer.
    var ending = TimeAmount.seconds(2)
  }

  /// - Parameters:
  ///   - source: whose connection it is, where no proxy says otherwise.
  init(_ service: any RequestService, source: Source, times: Times) {
    (self.service, self.source, self.times) = (service, source, times)
  }

  /// No new request: ends at once, or with the answer that is under way.
  func stop() {
    isStopping = true
    switch state {
    case .waiting: if unsent == 0 { close() } else { end(within: times.ending) }
    case .receiving: write(.stopping, .init(closes: true, isHead: false, forwarded: [], method: .GET))
    case .answering, .ending: break
    }
  }

  func close() { context?.close(promise: nil) }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    expect(within: times.request)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    timer?.task.cancel()
    self.context = nil
  }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.task.cancel()
    deadline = nil
    parts = []
    context.fireChannelInactive()
  }

  // MARK: Reading

  /// Held back while there is something to do first.
  func read(context: ChannelHandlerContext) {
    if isBusy(context) { wantsRead = true } else { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if case .ending = state { return }
    parts.append(Self.unwrapInboundIn(data))
    drain(context)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      if case .waiting = state { expect(within: times.idle) }
      drain(context)
    } else if case .waiting = state {
      expect(within: times.answer)
    }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if let event = event as? ChannelEvent, event == .inputClosed {
      // It said all it has to say, and may still listen.
      hasInput = false
      if !canTake {
        if case .ending = state, unsent == 0 { close() }
      } else if parts.isEmpty {
        end(within: times.answer)
      }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch (error, state) {
    case (HTTPParserError.headerOverflow, .waiting): refuse(.headTooLarge)
    case (is HTTPParserError, .waiting), (is HTTPParserError, .receiving): refuse(.malformed)
    case (is HTTPParserError, .ending), (is ByteToMessageDecoderError, .ending): break
    // TLS that is none, a connection that broke, garbage after a request whose answer is under way.
    default: close()
    }
  }

  private func refuse(_ answer: APIAnswer) {
    write(answer, .init(closes: true, isHead: false, forwarded: [], method: .GET))
  }

  private func isBusy(_ context: ChannelHandlerContext) -> Bool {
    switch state {
    case .answering: true
    case .waiting, .receiving: !parts.isEmpty || !context.channel.isWritable
    case .ending: false
    }
  }

  /// Takes what waits up to the next request that must be answered first.
  private func drain(_ context: ChannelHandlerContext) {
    // An answer that is there at once comes back here while the loop below still runs.
    guard !isDraining else { return }
    isDraining = true
    while context.channel.isWritable, canTake, let part = parts.popFirst() { take(part) }
    isDraining = false
    if !hasInput, parts.isEmpty, canTake { return end(within: times.answer) }
    guard wantsRead, !isBusy(context) else { return }
    wantsRead = false
    context.read()
  }

  private var canTake: Bool {
    switch state {
    case .waiting, .receiving: true
    case .answering, .ending: false
    }
  }

  private func take(_ part: HTTPServerRequestPart) {
    if case .head = part {
      began = now
      state = .receiving
      expect(within: times.request)
    }
    switch reader.take(part) {
    case nil: break
    case .goOn?:
      let head = HTTPResponseHead(version: .http1_1, status: .continue)
      context?.writeAndFlush(Self.wrapOutboundOut(.head(head)), promise: nil)
    case .refuse(let answer, let manner)?: write(answer, manner)
    case .request(let request, let manner)?:
      if isStopping { return write(.stopping, manner) }
      state = .answering
      deadline = nil
      service.answer(request, manner, source) { self.write($0, manner) }
    }
  }

  // MARK: Answering

  private func write(_ answer: APIAnswer, _ manner: RequestReader.Manner) {
    guard let context, context.channel.isActive else { return }
    if case .ending = state { return }
    let closes = manner.closes || isStopping
    var headers = HTTPHeaders([
      ("content-type", answer.contentType), ("content-length", String(answer.body.count)),
      ("cache-control", "no-store"),
      ("date", service.date()),
    ])
    if closes { headers.add(name: "connection", value: "close") }
    if let seconds = answer.retryAfter { headers.add(name: "retry-after", value: String(seconds)) }
    if let allow = answer.allow { headers.add(name: "allow", value: allow) }
    let head = HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers)
    unsent += 1
    context.write(Self.wrapOutboundOut(.head(head)), promise: nil)
    if !manner.isHead, !answer.body.isEmpty {
      context.write(
        Self.wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: answer.body)))), promise: nil)
    }
    service.answered(manner.method, answer.status, after: now - began)
    if closes {
      end(within: context.channel.isWritable ? times.ending : times.answer)
    } else {
      state = .waiting
      expect(within: context.channel.isWritable ? times.idle : times.answer)
    }
    let promise = context.eventLoop.makePromise(of: Void.self)
    promise.futureResult.assumeIsolated().whenComplete { _ in self.sent() }
    context.writeAndFlush(Self.wrapOutboundOut(.end(nil)), promise: promise)
    if !closes { drain(context) }
  }

  /// Nothing more is taken; once what was written is with the kernel, the client is told so and has its time to hang up.
  private func end(within time: TimeAmount) {
    state = .ending
    parts = []
    expect(within: time)
    if unsent == 0 { hangUp() }
    if wantsRead { context?.read() }
  }

  private func sent() {
    unsent -= 1
    if case .ending = state, unsent == 0 { hangUp() }
  }

  private func hangUp() {
    if hasInput { context?.close(mode: .output, promise: nil) } else { close() }
  }

  // MARK: Time

  /// What comes next must be there by then. One timer serves all: where it fires too early, it looks again later.
  private func expect(within time: TimeAmount) {
    let due = now + time
    deadline = due
    if let set = timer {
      guard due < set.due else { return }
      set.task.cancel()
    }
    schedule(due)
  }

  private func schedule(_ due: NIODeadline) {
    guard let context else { return timer = nil }
    let task = context.eventLoop.assumeIsolated().scheduleTask(deadline: due) {
      self.timer = nil
      guard let deadline = self.deadline else { return }
      guard deadline <= self.now else { return self.schedule(deadline) }
      self.overdue()
    }
    timer = (due, task)
  }

  private var now: NIODeadline { context?.eventLoop.now ?? .now() }

  private func overdue() {
    if case .receiving = state { refuse(.timeout) } else { close() }
  }
}
