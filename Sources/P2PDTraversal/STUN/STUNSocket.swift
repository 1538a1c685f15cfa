import NIOCore
import P2PDNet

/// STUN over one UDP socket: any number of servers, any number of questions at once. What comes in and is no answer goes
/// to ``onDatagram``, so that the socket can be used for what its mapping was asked for.
///
/// Confined to its loop.
public final class STUNSocket: PipeSink, @unchecked Sendable {
  public typealias Done = (Result<STUNAnswer, NetError>) -> Void

  public let pipe: Pipe
  /// Our own address; with the port the kernel chose.
  public let local: Endpoint
  /// Datagrams that answer nothing that was asked. The bytes are valid during the call only.
  public var onDatagram: ((UnsafeRawBufferPointer, Endpoint) -> Void)?

  private let exchanges: STUNExchanges

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
    exchanges = STUNExchanges(over: "UDP", most: Self.mostOpen, on: pipe.loop)
    pipe.sink = self
  }

  /// Asks. `done` comes once, unless the question is cancelled.
  /// - Parameters:
  ///   - from: who may answer, where that is not whom we ask (RFC 5780 §4.4).
  ///   - signed: signs the question; the answer must be signed with it too.
  /// - Returns: what ``cancel(_:)`` takes.
  @discardableResult
  public func ask(
    _ message: STUNMessage, _ server: Endpoint, from: Endpoint? = nil, signed: STUNSignature? = nil,
    schedule: STUNTransaction.Schedule = .standard, _ done: @escaping Done
  ) -> STUNTransactionID {
    let question = STUNExchanges.Question(server: server, from: from, signature: signed, schedule: schedule)
    let peer = pipe.peer(for: server)
    exchanges.ask(
      message, question, isOpen: pipe.isOpen,
      transmit: { [pipe] bytes in
        // What the kernel refuses now (no route yet, a full buffer) may work with the next one.
        _ = bytes.withUnsafeBytes { pipe.send($0, to: peer) }
        return nil
      }, done)
    return message.transaction
  }

  /// Asks for our address as the server sees it.
  @discardableResult
  public func bind(
    _ server: Endpoint, change: STUNChange? = nil, from: Endpoint? = nil,
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
  public func cancel(_ id: STUNTransactionID) { exchanges.cancel(id) }

  /// Closes the socket. Questions still open fail with `.cancelled`.
  public func close() {
    onDatagram = nil
    exchanges.failAll(NetError(.cancelled, "ask a STUN server", cause: "the socket was closed"))
    pipe.close(flush: .zero)
  }

  // MARK: In

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let source = peer.endpoint else { return true }
    guard STUNMessage.looksLikeSTUN(bytes), bytes.count <= Self.longest,
      let message = try? STUNMessage(decoding: [UInt8](bytes)), exchanges.received(message, from: source)
    else {
      onDatagram?(bytes, source)
      return true
    }
    return true
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    exchanges.failAll(NetError(.closed, "ask a STUN server", cause: "the socket ended: \(reason)"))
    onDatagram = nil
  }

  /// No answer that fits in a datagram without fragments is longer.
  private static let longest = 2048
  /// Questions at once. A NAT probe has a dozen.
  private static let mostOpen = 256
}
