import NIOCore
import P2PDNet

/// An allocation at one TURN server, over UDP, TCP or TLS: drives a ``TURNSession``. Relays datagrams, or with
/// ``TURNSession/Relaying/tcp`` tells of peers that connect to the relayed address.
///
/// Confined to its loop.
public final class TURNAllocation: @unchecked Sendable {
  public let url: ServerURL
  public let way: TURNWay
  public private(set) var address: TURNSession.Address?

  /// A datagram from a peer that was let through. The bytes are valid during the call only.
  public var onData: ((UnsafeRawBufferPointer, Endpoint) -> Void)?
  /// A peer that was let through has connected (RFC 6062 §5.3), and waits for ``take(_:over:_:)`` with this number.
  public var onAttempt: ((UInt32, Endpoint) -> Void)?
  /// A peer is not let through any longer.
  public var onRefused: ((IPAddress, NetError) -> Void)?
  /// The allocation was lost after it had been there. Not called for ``close()``.
  public var onEnd: ((NetError) -> Void)?

  let loop: any EventLoop
  let relaying: TURNSession.Relaying
  private let family: AddressFamily
  private let interface: String?
  private let tls: TLSSetup?
  private(set) var session: TURNSession?
  private(set) var control: (any TURNControl)?
  private var ticket = OpenTicket()
  private var timer: Scheduled<Void>?
  private var deadline: Scheduled<Void>?
  private var keepAlive: Scheduled<Void>?
  private var opened: EventLoopPromise<TURNSession.Address>?
  private var closed: EventLoopPromise<Void>?
  private var permits: [IPAddress: [EventLoopPromise<Void>]] = [:]
  private var binds: [Endpoint: [EventLoopPromise<Void>]] = [:]
  private var peers: [UInt16: Endpoint] = [:]
  private var channels: [Endpoint: UInt16] = [:]
  private var allowed: Set<IPAddress> = []
  private var visited: [Endpoint] = []
  private var otherPorts = 0
  private(set) var isOver = false

  /// - Parameters:
  ///   - url: where, and who we are to it.
  ///   - way: what to talk over. Streams are relayed over TCP and TLS only.
  ///   - family: the relayed address's.
  ///   - interface: held to it; nil for the kernel's choice.
  ///   - tls: for ``TURNWay/tls``.
  public init(
    _ url: ServerURL, over way: TURNWay, relaying: TURNSession.Relaying, family: AddressFamily = .v4,
    interface: String? = nil, tls: TLSSetup? = nil, on loop: any EventLoop
  ) {
    self.url = url
    self.way = way
    self.relaying = relaying
    self.family = family
    self.interface = interface
    self.tls = tls
    self.loop = loop
  }

  // MARK: Life

  /// Connects, logs in and gets the relayed address, or fails: `permission`, `limit`, `unsupported`, `timeout` and what else
  /// a connection can meet. To be called once.
  public func open() -> EventLoopFuture<TURNSession.Address> {
    guard opened == nil, !isOver else {
      return loop.makeFailedFuture(NetError(.closed, what, cause: "it was used before"))
    }
    let promise = loop.makePromise(of: TURNSession.Address.self)
    opened = promise
    deadline = loop.assumeIsolated().scheduleTask(in: Self.patience) { [self] in
      over(NetError(.timeout, what, cause: "no relayed address in \(Self.patience.nanoseconds / 1_000_000_000) s"))
    }
    connect(to: .host(url.host, url.port))
    return promise.futureResult
  }

  /// Gives the allocation back and closes everything. Harmless when that was done.
  /// - Returns: when it is done; with a server that does not answer, after a second.
  @discardableResult
  public func close() -> EventLoopFuture<Void> {
    if isOver { return closed?.futureResult ?? loop.makeSucceededVoidFuture() }
    if let closed { return closed.futureResult }
    let promise = loop.makePromise(of: Void.self)
    closed = promise
    onData = nil
    onAttempt = nil
    onRefused = nil
    onEnd = nil
    guard session != nil else {
      over(nil)
      return promise.futureResult
    }
    deadline?.cancel()
    deadline = loop.assumeIsolated().scheduleTask(in: Self.goodbye) { self.over(nil) }
    perform(.close)
    return promise.futureResult
  }

  private func connect(to destination: Destination) {
    guard way != .tls || tls != nil else {
      return over(NetError(.tls, what, cause: "the roots to check its certificate against could not be read"))
    }
    ticket = OpenTicket()
    let connected: EventLoopFuture<any TURNControl>
    switch way {
    case .udp:
      let (host, port) = destination.hostAndPort
      connected = TURNDatagrams.open(to: host, port: port, interface: interface, on: loop).map { $0 }
    case .tcp, .tls:
      connected = STUNStream.connect(to: destination, conf: conf, ticket: ticket, on: loop).map { $0 }
    }
    connected.assumeIsolated().whenComplete { [self] result in
      switch result {
      case .failure(let error): over(NetError(error, what))
      case .success(let control):
        guard !isOver else { return control.close() }
        talk(over: control)
      }
    }
  }

  /// Of the connections to the server.
  var conf: PipeConf {
    var conf = PipeConf()
    conf.interface = interface
    conf.conTimeout = Self.connectPatience
    if way == .tls {
      conf.tls = tls
      // After a redirection the certificate is still the one of the name we were given.
      if conf.tls?.serverName == nil { conf.tls?.serverName = url.host }
    }
    return conf
  }

  private func talk(over control: any TURNControl) {
    self.control = control
    if visited.isEmpty { visited.append(control.server) }
    let login = TURNCredentials(url)?.login(at: TURNCredentials.now)
    session = TURNSession(relaying, at: control.server, login: login, family: family)
    control.listen(
      message: { [weak self] in self?.heard($0) },
      data: { [weak self] channel, bytes in
        guard let self, let peer = peers[channel] else { return }
        onData?(bytes, peer)
      },
      end: { [weak self] reason in
        guard let self else { return }
        over(NetError(.closed, what, cause: "the connection to the server ended: \(reason)"))
      })
    if !control.isStream { keepMappingAlive() }
    perform(.start)
  }

  /// A router forgets a UDP port that nothing goes through (RFC 4787 §4.3: after 2 minutes, many after 30 s).
  private func keepMappingAlive() {
    keepAlive = loop.assumeIsolated().scheduleTask(in: Self.keepAliveTime) { [weak self] in
      guard let self, let control else { return }
      if let bytes = try? STUNMessage(.indication, .binding).encoded() { _ = control.send(bytes) }
      keepMappingAlive()
    }
  }

  private func hangUp() {
    timer?.cancel()
    timer = nil
    keepAlive?.cancel()
    keepAlive = nil
    session = nil
    let control = control
    self.control = nil
    control?.close()
  }

  /// The one end: nil at our own wish.
  private func over(_ error: NetError?) {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    deadline = nil
    ticket.cancel()
    hangUp()
    let reason = error ?? NetError(.cancelled, what, cause: "it was closed")
    let told = onEnd
    onData = nil
    onAttempt = nil
    onRefused = nil
    onEnd = nil
    let waiting = permits.values.flatMap { $0 } + binds.values.flatMap { $0 }
    permits = [:]
    binds = [:]
    for promise in waiting { promise.fail(reason) }
    let opened = opened
    self.opened = nil
    if address == nil { opened?.fail(reason) } else if let error { told?(error) }
    address = nil
    closed?.succeed(())
  }

  // MARK: The session

  private func perform(_ event: TURNSession.Event) {
    guard let actions = session?.handle(event, now: loop.now) else { return }
    for action in actions {
      guard !isOver else { return }
      switch action {
      case .ask(let number, let message, let signature):
        control?.ask(message, signed: signature) { [weak self, weak control] result in
          // Of a connection that was left since, nothing matters.
          guard let self, let control, control === self.control else { return }
          switch result {
          case .success(let answer): perform(.answered(number, answer.message))
          case .failure(let error): perform(.unanswered(number, error))
          }
        }
      case .wait(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in self?.perform(.timer) }
      case .allocated(let address):
        self.address = address
        deadline?.cancel()
        deadline = nil
        opened?.succeed(address)
        opened = nil
      case .permitted(let ip):
        allowed.insert(ip)
        for promise in permits.removeValue(forKey: ip) ?? [] { promise.succeed(()) }
      case .refused(let ip, let error):
        let wasAllowed = allowed.remove(ip) != nil
        for promise in permits.removeValue(forKey: ip) ?? [] { promise.fail(error) }
        if wasAllowed { onRefused?(ip, error) }
      case .bound(let peer, let channel):
        peers[channel] = peer
        channels[peer] = channel
        for promise in binds.removeValue(forKey: peer) ?? [] { promise.succeed(()) }
      case .unbound(let peer, let error):
        if let channel = channels.removeValue(forKey: peer) { peers[channel] = nil }
        for promise in binds.removeValue(forKey: peer) ?? [] { promise.fail(error) }
      case .redirected(let other, _): redirect(to: other)
      case .needsAnotherPort:
        let again = control?.server
        hangUp()
        otherPorts += 1
        guard let again, otherPorts <= Self.mostPorts else {
          return over(NetError(.inUse, what, cause: "the server says that our ports are in use (437)"))
        }
        connect(to: .endpoint(again))
      case .ended(let error): over(error)
      }
    }
  }

  private func redirect(to other: Endpoint) {
    let from = control?.server
    hangUp()
    guard let from, TURNSession.mayRedirect(from: from, to: other) else {
      return over(NetError(.badAddress, what, cause: "it sends us to \(other), which cannot be meant (300)"))
    }
    guard !visited.contains(where: { $0.isSame(as: other) }), visited.count <= Self.mostRedirections else {
      return over(NetError(.limit, what, cause: "its servers send us round in circles (300)"))
    }
    visited.append(other)
    connect(to: .endpoint(other))
  }

  // MARK: Peers

  /// Lets an address through, whatever port it speaks from; for as long as the allocation lives.
  public func permit(_ ip: IPAddress) -> EventLoopFuture<Void> {
    guard !isOver, closed == nil, address != nil else { return loop.makeFailedFuture(notOpen) }
    let promise = loop.makePromise(of: Void.self)
    permits[ip, default: []].append(promise)
    perform(.permit(ip))
    return promise.futureResult
  }

  /// Lets a peer through and sends to it with four bytes more a datagram instead of thirty-six.
  public func bindChannel(to peer: Endpoint) -> EventLoopFuture<Void> {
    guard !isOver, closed == nil, address != nil else { return loop.makeFailedFuture(notOpen) }
    let promise = loop.makePromise(of: Void.self)
    binds[peer, default: []].append(promise)
    perform(.bind(peer))
    return promise.futureResult
  }

  /// Sends a datagram to a peer that was let through.
  public func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint) -> SendOutcome {
    guard let control, relaying == .udp, address != nil, closed == nil else { return .failed(notOpen) }
    let tooLong = NetError(.tooLong, "send to \(peer)", cause: "a relayed datagram has no \(bytes.count) bytes")
    guard bytes.count <= Self.longestData else { return .failed(tooLong) }
    if let channel = channels[peer] {
      guard let frame = TURNFrame.channelData(channel, bytes, padded: control.isStream) else { return .failed(tooLong) }
      return control.send(frame)
    }
    let message = STUNMessage(.indication, .send, attributes: [.xorPeerAddress(peer), .data([UInt8](bytes))])
    guard let frame = try? message.encoded() else { return .failed(tooLong) }
    return control.send(frame)
  }

  /// An indication.
  private func heard(_ message: STUNMessage) {
    guard message.kind == .indication, closed == nil, let peer = message.peer else { return }
    switch message.method {
    case .data:
      guard let data = message.data, allowed.contains(peer.ip) || channels.keys.contains(where: { $0.ip == peer.ip })
      else { return }
      data.withUnsafeBytes { onData?($0, peer) }
    case .connectionAttempt:
      guard let id = message.connectionID, allowed.contains(peer.ip) else { return }
      onAttempt?(id, peer)
    default: break
    }
  }

  var what: String { "use the relay \(url) over \(way.rawValue.uppercased())" }
  var notOpen: NetError { NetError(.closed, what, cause: "there is no allocation") }

  /// For all there is to do until a relayed address is there.
  private static let patience: TimeAmount = .seconds(10)
  private static let connectPatience: TimeAmount = .seconds(5)
  /// For the answer to our last word; an allocation that was not given back ends by itself after ten minutes.
  private static let goodbye: TimeAmount = .seconds(1)
  private static let keepAliveTime: TimeAmount = .seconds(20)
  private static let mostRedirections = 3
  private static let mostPorts = 2
  /// A UDP datagram's most over IPv4, with a Send indication around it.
  private static let longestData = 65_507 - 36
}

extension Destination {
  fileprivate var hostAndPort: (String, UInt16) {
    switch self {
    case .endpoint(let endpoint): (endpoint.ip.description, endpoint.port)
    case .host(let host, let port): (host, port)
    case .unix(let path): (path, 0)
    }
  }
}
