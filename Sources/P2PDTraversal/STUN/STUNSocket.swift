import NIOCore
import P2PDNet

/// A response, and how it came.
public struct STUNAnswer: Sendable {
  public let message: STUNMessage
  /// Who sent it.
  public let source: Endpoint
  /// From the first request to this.
  public let time: TimeAmount
  /// ``time`` is a round trip: nothing was sent twice.
  public let isRoundTrip: Bool
}

/// STUN over one UDP socket: any number of servers, any number of questions at once. What comes in and is no answer goes
/// to ``onDatagram``, so that the socket can be used for what its mapping was asked for.
///
/// Confined to its loop.
public final class STUNSocket: PipeSink, @unchecked Sendable {
  /// From whom an answer is taken.
  public enum AnswerFrom: Sendable {
    /// From whom was asked.
    case sameEndpoint
    /// From this one alone: the server was asked to answer from elsewhere (RFC 5780 §4.4).
    case endpoint(Endpoint)
  }

  public typealias Done = (Result<STUNAnswer, NetError>) -> Void

  public let pipe: Pipe
  /// Our own address; with the port the kernel chose.
  public let local: Endpoint
  /// Datagrams that answer nothing that was asked. The bytes are valid during the call only.
  public var onDatagram: ((UnsafeRawBufferPointer, Endpoint) -> Void)?

  private var open: [STUNTransactionID: Exchange] = [:]

  private final class Exchange {
    let server: Endpoint
    let peer: Peer
    let bytes: [UInt8]
    let from: AnswerFrom
    let key: STUNKey?
    let done: Done
    var transaction: STUNTransaction
    var timer: Scheduled<Void>?

    init(
      _ server: Endpoint, _ peer: Peer, _ bytes: [UInt8], _ from: AnswerFrom, _ key: STUNKey?,
      _ schedule: STUNTransaction.Schedule, _ done: @escaping Done
    ) {
      self.server = server
      self.peer = peer
      self.bytes = bytes
      self.from = from
      self.key = key
      self.done = done
      transaction = STUNTransaction(schedule)
    }
  }

  /// Opens a socket.
  /// - Parameters:
  ///   - bind: an address of this host; a wildcard one leaves ``local`` without the address that servers can be compared
  ///     with. Port 0 lets the kernel choose.
  ///   - interface: held to it; nil for the kernel's choice.
  public static func open(bind: Endpoint, interface: String? = nil, on loop: any EventLoop) -> EventLoopFuture<
    STUNSocket
  > {
    var conf = PipeConf()
    conf.interface = interface
    return PipeOpener.open(.udp, bind: bind, conf: conf, on: loop).flatMapThrowing { pipe in
      guard let local = pipe.localEndpoint else {
        pipe.close(flush: .zero)
        throw NetError(.closed, "open a STUN socket", cause: "it has no address")
      }
      return STUNSocket(pipe, local: local)
    }
  }

  init(_ pipe: Pipe, local: Endpoint) {
    self.pipe = pipe
    self.local = local
    pipe.sink = self
  }

  /// Asks. `done` comes once, unless the question is cancelled.
  /// - Parameter key: the answer must be signed with it.
  /// - Returns: what ``cancel(_:)`` takes.
  @discardableResult
  public func ask(
    _ message: STUNMessage, _ server: Endpoint, from: AnswerFrom = .sameEndpoint, key: STUNKey? = nil,
    schedule: STUNTransaction.Schedule = .standard, _ done: @escaping Done
  ) -> STUNTransactionID {
    do throws(STUNError) {
      guard pipe.isOpen, open.count < Self.mostOpen else {
        let error = NetError(pipe.isOpen ? .limit : .closed, "ask \(server)", cause: "the socket is closed or too busy")
        later(done, error)
        return message.transaction
      }
      let bytes = try message.encoded(key: key)
      let exchange = Exchange(server, pipe.peer(for: server), bytes, from, key, schedule, done)
      open[message.transaction] = exchange
      perform(exchange.transaction.handle(.start, now: pipe.loop.now), message.transaction)
    } catch {
      later(done, NetError(.tooLong, "ask \(server)", cause: "\(error)"))
    }
    return message.transaction
  }

  /// Asks for our address as the server sees it.
  @discardableResult
  public func bind(
    _ server: Endpoint, change: STUNChange? = nil, from: AnswerFrom = .sameEndpoint,
    schedule: STUNTransaction.Schedule = .quick, _ done: @escaping Done
  ) -> STUNTransactionID {
    // No SOFTWARE and no FINGERPRINT: RFC 3489's servers refuse what they do not know.
    let attributes: [STUNAttribute] = change.map { [.changeRequest($0)] } ?? []
    return ask(STUNMessage(.request, .binding, attributes: attributes), server, from: from, schedule: schedule, done)
  }

  /// Sends a datagram of another kind.
  public func send(_ bytes: [UInt8], to endpoint: Endpoint) {
    _ = bytes.withUnsafeBytes { pipe.send($0, to: pipe.peer(for: endpoint)) }
  }

  /// Forgets a question; its callback does not come.
  public func cancel(_ id: STUNTransactionID) { open.removeValue(forKey: id)?.timer?.cancel() }

  /// Closes the socket. Questions still open fail with `.cancelled`.
  public func close() {
    onDatagram = nil
    failAll(NetError(.cancelled, "ask a STUN server", cause: "the socket was closed"))
    pipe.close(flush: .zero)
  }

  private func later(_ done: @escaping Done, _ error: NetError) {
    pipe.loop.assumeIsolated().execute { done(.failure(error)) }
  }

  private func failAll(_ error: NetError) {
    let exchanges = open.values
    open = [:]
    for exchange in exchanges {
      exchange.timer?.cancel()
      exchange.done(.failure(error))
    }
  }

  private func perform(_ actions: [STUNTransaction.Action], _ id: STUNTransactionID) {
    guard let exchange = open[id] else { return }
    for action in actions {
      switch action {
      case .send:
        // What the kernel refuses now (no route yet, a full buffer) may work with the next one.
        _ = exchange.bytes.withUnsafeBytes { pipe.send($0, to: exchange.peer) }
      case .wait(let time):
        exchange.timer = pipe.loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in
          guard let self, let exchange = open[id] else { return }
          perform(exchange.transaction.handle(.timer, now: pipe.loop.now), id)
        }
      case .succeed: break  // In answered(_:_:_:), which has the message.
      case .fail(let time):
        open[id] = nil
        let seconds = Double(time.nanoseconds / 1_000_000) / 1000
        exchange.done(
          .failure(NetError(.timeout, "ask \(exchange.server) over UDP", cause: "no answer in \(seconds) s")))
      }
    }
  }

  // MARK: In

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let source = peer.endpoint else { return true }
    guard STUNMessage.looksLikeSTUN(bytes), bytes.count <= Self.longest,
      let message = try? STUNMessage(decoding: [UInt8](bytes)), let exchange = open[message.transaction]
    else {
      onDatagram?(bytes, source)
      return true
    }
    answered(exchange, message, source)
    return true
  }

  /// What does not fit is dropped as if it had not come: the real answer may follow (RFC 8489 §6.3).
  private func answered(_ exchange: Exchange, _ message: STUNMessage, _ source: Endpoint) {
    guard message.kind == .success || message.kind == .failure, message.unknownRequired.isEmpty else { return }
    switch exchange.from {
    case .sameEndpoint: guard source.isSame(as: exchange.server) else { return }
    case .endpoint(let wanted): guard source.isSame(as: wanted) || message.kind == .failure else { return }
    }
    if let key = exchange.key {
      // Refusals for want of the right credentials cannot be signed (RFC 8489 §9.2.5).
      let code = message.error?.code
      guard message.isAuthentic(key) || code == 400 || code == 401 || code == 438 else { return }
    }
    for action in exchange.transaction.handle(.answered, now: pipe.loop.now) {
      guard case .succeed(let time, let retransmitted) = action else { continue }
      open[message.transaction] = nil
      exchange.timer?.cancel()
      exchange.done(
        .success(STUNAnswer(message: message, source: source, time: time, isRoundTrip: !retransmitted)))
    }
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    failAll(NetError(.closed, "ask a STUN server", cause: "the socket ended: \(reason)"))
    onDatagram = nil
  }

  /// No answer that fits in a datagram without fragments is longer.
  private static let longest = 2048
  /// Questions at once. A NAT probe has a dozen.
  private static let mostOpen = 256
}

extension Endpoint {
  /// The same place, whatever scope id stands with it.
  func isSame(as other: Endpoint) -> Bool {
    port == other.port && ip.family == other.ip.family && ip.high == other.ip.high && ip.low == other.ip.low
  }
}
