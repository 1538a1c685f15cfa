import NIOCore
import P2PDNet

/// STUN over one TCP or TLS connection (RFC 8489 §6.2.2). The connection stays open until it is closed: as long as it
/// does, so does the mapping that its answer tells of.
///
/// Confined to its loop.
public final class STUNStream: PipeSink, @unchecked Sendable {
  public typealias Done = (Result<STUNAnswer, NetError>) -> Void

  public let pipe: Pipe
  public let server: Endpoint
  /// Our own address and port.
  public let local: Endpoint
  /// Messages that answer nothing: TURN's indications.
  public var onMessage: ((STUNMessage) -> Void)?
  /// Called once when the connection is over.
  public var onEnd: ((EndReason) -> Void)?

  private var open: [STUNTransactionID: Exchange] = [:]
  private var unread: [UInt8] = []

  private struct Exchange {
    let done: Done
    let key: STUNKey?
    let started: NIODeadline
    let timer: Scheduled<Void>
  }

  /// Connects.
  /// - Parameters:
  ///   - bind: the local address and port. Several connections may share a port, each to another server: all of them set
  ///     SO_REUSEADDR and SO_REUSEPORT.
  ///   - tls: for TLS; with the server's name in it where ``server`` is an address.
  ///   - timeout: for the connection alone.
  public static func connect(
    _ server: Endpoint, bind: Endpoint? = nil, interface: String? = nil, tls: TLSSetup? = nil,
    timeout: TimeAmount = .seconds(3), on loop: any EventLoop
  ) -> EventLoopFuture<STUNStream> {
    var conf = PipeConf()
    conf.interface = interface
    conf.reuseAddr = true
    conf.conTimeout = timeout
    conf.tls = tls
    // A reset at the end leaves no TIME_WAIT, so that the port can speak to the same server again.
    conf.linger = 0
    return PipeOpener.open(.tcp, to: .endpoint(server), bind: bind, conf: conf, on: loop).flatMapThrowing { pipe in
      guard let local = pipe.localEndpoint else {
        pipe.close(flush: .zero)
        throw NetError(.closed, "connect to \(server)", cause: "the connection was lost at once")
      }
      return STUNStream(pipe, server, local)
    }
  }

  init(_ pipe: Pipe, _ server: Endpoint, _ local: Endpoint) {
    self.pipe = pipe
    self.server = server
    self.local = local
    pipe.sink = self
  }

  /// Asks. `done` comes once.
  /// - Parameter key: signs the question; the answer must be signed with it too.
  public func ask(
    _ message: STUNMessage, key: STUNKey? = nil, schedule: STUNTransaction.Schedule = .stream, _ done: @escaping Done
  ) {
    let id = message.transaction
    let what = "ask \(server) over TCP"
    do throws(STUNError) {
      let bytes = try message.encoded(key: key)
      guard pipe.isOpen, open.count < Self.mostOpen else {
        return later(
          done, NetError(pipe.isOpen ? .limit : .closed, what, cause: "the connection is closed or too busy"))
      }
      if case .failed(let error) = bytes.withUnsafeBytes({ pipe.send($0) }) { return later(done, error) }
      let patience = schedule.total
      let timer = pipe.loop.assumeIsolated().scheduleTask(in: patience) { [weak self] in
        guard let self, let exchange = open.removeValue(forKey: id) else { return }
        let seconds = Double(patience.nanoseconds / 1_000_000) / 1000
        exchange.done(.failure(NetError(.timeout, what, cause: "no answer in \(seconds) s")))
      }
      open[id] = Exchange(done: done, key: key, started: pipe.loop.now, timer: timer)
    } catch {
      later(done, NetError(.tooLong, what, cause: "\(error)"))
    }
  }

  /// Asks for our address as the server sees it.
  public func bind(schedule: STUNTransaction.Schedule = .quick, _ done: @escaping Done) {
    ask(STUNMessage(.request, .binding), schedule: schedule, done)
  }

  /// Closes the connection. Questions still open fail with `.cancelled`.
  public func close() {
    onMessage = nil
    onEnd = nil
    failAll(NetError(.cancelled, "ask a STUN server", cause: "the connection was closed"))
    pipe.close(flush: .zero)
  }

  private func later(_ done: @escaping Done, _ error: NetError) {
    pipe.loop.assumeIsolated().execute { done(.failure(error)) }
  }

  private func failAll(_ error: NetError) {
    let exchanges = open.values
    open = [:]
    for exchange in exchanges {
      exchange.timer.cancel()
      exchange.done(.failure(error))
    }
  }

  // MARK: In

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    unread.append(contentsOf: bytes)
    do throws(STUNError) {
      while let length = try STUNMessage.length(of: unread), unread.count >= length {
        let message = try STUNMessage(decoding: [UInt8](unread[..<length]))
        unread.removeFirst(length)
        answered(message)
      }
    } catch {
      // A stream that lost its boundaries cannot find them again.
      failAll(NetError(.io, "ask \(server) over TCP", cause: "it sent \(error)"))
      pipe.close(flush: .zero)
    }
    return true
  }

  private func answered(_ message: STUNMessage) {
    guard message.kind == .success || message.kind == .failure, let exchange = open[message.transaction] else {
      onMessage?(message)
      return
    }
    guard message.unknownRequired.isEmpty else { return }
    if let key = exchange.key {
      let code = message.error?.code
      guard message.isAuthentic(key) || code == 400 || code == 401 || code == 438 else { return }
    }
    open[message.transaction] = nil
    exchange.timer.cancel()
    let time = pipe.loop.now - exchange.started
    exchange.done(.success(STUNAnswer(message: message, source: server, time: time, isRoundTrip: true)))
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    failAll(NetError(.closed, "ask \(server) over TCP", cause: "the connection ended: \(reason)"))
    let told = onEnd
    onEnd = nil
    onMessage = nil
    unread = []
    told?(reason)
  }

  private static let mostOpen = 64
}

extension STUNTransaction.Schedule {
  /// From the first request to giving up.
  public var total: TimeAmount {
    (1..<max(1, requests)).reduce(rto * lastWait) { sum, sent in sum + rto * (1 << min(sent - 1, 16)) }
  }
}
