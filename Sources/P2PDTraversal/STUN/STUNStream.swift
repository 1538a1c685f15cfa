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
  /// ChannelData messages (RFC 8656 §12.5): the channel and the bytes, valid during the call only. Without it a stream that
  /// has any is broken.
  var onChannelData: ((UInt16, UnsafeRawBufferPointer) -> Void)?
  /// Called once when the connection is over.
  public var onEnd: ((EndReason) -> Void)?

  private let exchanges: STUNExchanges
  private var unread: [UInt8] = []
  /// How much of ``unread`` was handed out already.
  private var used = 0

  /// Connects.
  /// - Parameters:
  ///   - bind: the local address and port. Several connections may share a port, each to another server: all of them set
  ///     SO_REUSEADDR and SO_REUSEPORT.
  ///   - tls: for TLS; with the server's name in it where ``server`` is an address.
  ///   - timeout: for the connection alone.
  ///   - ticket: gives up what is still being made.
  public static func connect(
    _ server: Endpoint, bind: Endpoint? = nil, interface: String? = nil, tls: TLSSetup? = nil,
    timeout: TimeAmount = .seconds(3), ticket: OpenTicket? = nil, on loop: any EventLoop
  ) -> EventLoopFuture<STUNStream> {
    var conf = PipeConf()
    conf.interface = interface
    conf.reuseAddr = true
    conf.conTimeout = timeout
    conf.tls = tls
    // A reset at the end leaves no TIME_WAIT, so that the port can speak to the same server again.
    conf.linger = 0
    return connect(to: .endpoint(server), bind: bind, conf: conf, ticket: ticket, on: loop)
  }

  /// Connects to a place, over TLS where it wants that.
  /// - Parameter tls: for such places.
  static func connect(
    _ place: STUNPlace, bind: Endpoint, interface: String?, tls: ServerTLS?, timeout: TimeAmount, ticket: OpenTicket,
    on loop: any EventLoop
  ) -> EventLoopFuture<STUNStream> {
    func open(_ setup: TLSSetup?) -> EventLoopFuture<STUNStream> {
      connect(
        place.endpoint, bind: bind, interface: interface, tls: setup, timeout: timeout, ticket: ticket, on: loop)
    }
    guard place.transport == .tls else { return open(nil) }
    return (tls ?? ServerTLS(on: loop)).setup().assumeIsolated().flatMap { setup in
      var setup = setup
      setup.serverName = place.name
      return open(setup)
    }.nonisolated()
  }

  /// Connects with settings of the caller's own.
  static func connect(
    to destination: Destination, bind: Endpoint? = nil, conf: PipeConf, ticket: OpenTicket? = nil,
    on loop: any EventLoop
  ) -> EventLoopFuture<STUNStream> {
    let opened = PipeOpener.open(.tcp, to: destination, bind: bind, conf: conf, ticket: ticket, on: loop)
    return opened.flatMapThrowing { pipe in
      guard let local = pipe.localEndpoint, let server = pipe.peer?.endpoint else {
        pipe.close(flush: .zero)
        throw NetError(.closed, "connect to \(destination)", cause: "the connection was lost at once")
      }
      return STUNStream(pipe, server, local)
    }
  }

  init(_ pipe: Pipe, _ server: Endpoint, _ local: Endpoint) {
    self.pipe = pipe
    self.server = server
    self.local = local
    exchanges = STUNExchanges(over: "TCP", most: Self.mostOpen, on: pipe.loop)
    pipe.sink = self
  }

  /// Asks. `done` comes once.
  /// - Parameter signed: signs the question; the answer must be signed with it too.
  public func ask(
    _ message: STUNMessage, signed: STUNSignature? = nil, schedule: STUNTransaction.Schedule = .stream,
    _ done: @escaping Done
  ) {
    // TCP sends again by itself.
    let once = STUNTransaction.Schedule(rto: schedule.total, requests: 1, lastWait: 1)
    let question = STUNExchanges.Question(server: server, signature: signed, schedule: once)
    exchanges.ask(message, question, isOpen: pipe.isOpen, transmit: { [pipe] in pipe.send(all: $0) }, done)
  }

  /// Asks for our address as the server sees it.
  public func bind(schedule: STUNTransaction.Schedule = .quick, _ done: @escaping Done) {
    ask(STUNMessage(.request, .binding), schedule: schedule, done)
  }

  /// Closes the connection. Questions still open fail with `.cancelled`.
  public func close() {
    onMessage = nil
    onEnd = nil
    onChannelData = nil
    exchanges.failAll(NetError(.cancelled, "ask a STUN server", cause: "the connection was closed"))
    pipe.close(flush: .zero)
  }

  /// Leaves the connection to somebody else: its bytes are no STUN from now on. What came with the last message goes in
  /// front of the rest. Questions still open fail with `.cancelled`.
  /// - Returns: nil if it has ended.
  func release() -> Transport? {
    let preface = Array(unread.dropFirst(used))
    (unread, used) = ([], 0)
    onMessage = nil
    onEnd = nil
    onChannelData = nil
    let transport = pipe.release()
    exchanges.failAll(NetError(.cancelled, "ask a STUN server", cause: "the connection has another use now"))
    return transport.map { PrefacedTransport.over($0, preface: preface, on: pipe.loop) }
  }

  // MARK: In

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    unread.append(contentsOf: bytes)
    do throws(STUNError) {
      // A frame is taken away before anybody is told of it: who is told may take over the rest.
      while let (frame, length) = try TURNFrame.next(in: unread.dropFirst(used), channels: onChannelData != nil) {
        used += length
        switch frame {
        case .message(let message):
          if !exchanges.received(message, from: server) { onMessage?(message) }
        case .channelData(let channel, let data): data.withUnsafeBytes { onChannelData?(channel, $0) }
        }
      }
      unread.removeFirst(used)
      used = 0
    } catch {
      // A stream that lost its boundaries cannot find them again.
      exchanges.failAll(NetError(.io, "ask \(server) over TCP", cause: "it sent \(error)"))
      pipe.close(flush: .zero)
    }
    return true
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    exchanges.failAll(NetError(.closed, "ask \(server) over TCP", cause: "the connection ended: \(reason)"))
    let told = onEnd
    onEnd = nil
    onMessage = nil
    onChannelData = nil
    (unread, used) = ([], 0)
    told?(reason)
  }

  private static let mostOpen = 64
}

extension Pipe {
  /// nil, or why the bytes were not taken.
  fileprivate func send(all bytes: [UInt8]) -> NetError? {
    if case .failed(let error) = bytes.withUnsafeBytes({ send($0) }) { error } else { nil }
  }
}

extension STUNTransaction.Schedule {
  /// From the first request to giving up.
  public var total: TimeAmount {
    (1..<max(1, requests)).reduce(rto * lastWait) { sum, sent in sum + rto * (1 << min(sent - 1, 16)) }
  }
}
