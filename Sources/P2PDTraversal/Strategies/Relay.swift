import NIOCore
import P2PDNet

/// The near side of a relayed path: an address at a TURN server to which the peer connects as to any other (RFC 6062). One
/// TCP allocation on the first of several servers that works; each peer that comes is handed out as the raw stream to it.
///
/// It must outlive its streams: when the allocation goes, the server cuts them. Whoever has got one calls ``retire()``, which
/// waits for their end, or ``close()``, which does not.
///
/// Confined to its loop.
public final class RelayPath: @unchecked Sendable {
  /// A peer has connected: the raw stream to it, which reads nothing yet and is the callee's to close, and from where. To be
  /// set before peers are let through: who comes while nobody is there to tell is not taken.
  public var connected: ((Transport, Endpoint) -> Void)?
  /// The allocation was lost after ``open()`` had succeeded, and its streams with it.
  public var lost: ((NetError) -> Void)?
  /// The peer is the one that speaks first on its stream, as TLS's client does: it is told with one byte that it has come
  /// through (``RelayDial``).
  public var greets = false
  /// The allocation is given back, or there never was one; called once.
  public var closed: (() -> Void)?
  /// What did not work, in order: servers, peers that are not let through, connections that could not be taken.
  public private(set) var failures: [NetError] = []
  /// Where peers connect to, once open.
  public var relayed: Endpoint? { allocation?.address?.relayed }
  /// The server that works.
  public var server: ServerURL? { allocation?.url }
  /// Streams handed out that have not ended.
  public private(set) var streams = 0

  private let loop: any EventLoop
  private let race: TURNRace
  private var allocation: TURNAllocation?
  private var opened: EventLoopPromise<Endpoint>?
  private var wanted: [IPAddress] = []
  private var taken: TURNStreams?
  /// Peers that are being taken.
  private var attempts = 0
  /// Relays that the peer comes by.
  private var relays: Set<IPAddress> = []
  private var isRetired = false
  private var isClosed = false

  /// - Parameters:
  ///   - servers: in order of preference; those that are no TURN servers are passed over. `turn:` is spoken over TCP, `turns:`
  ///     over TLS, whatever transport the URL names: streams are relayed over nothing else.
  ///   - family: the relayed address's, which the peer must be able to speak.
  ///   - interface: held to it; nil for the kernel's choice.
  ///   - tls: for `turns:`; nil trusts the system's roots.
  public init(
    servers: [ServerURL], family: AddressFamily = .v4, interface: String? = nil, tls: ServerTLS? = nil,
    on loop: any EventLoop
  ) {
    self.loop = loop
    race = TURNRace(
      what: "get a relay", ofStreamsAt: servers, family: family, interface: interface, tls: tls, on: loop)
  }

  /// Gets the relayed address: three round trips to the server (connect, be asked for the password, allocate). To be called
  /// once.
  public func open() -> EventLoopFuture<Endpoint> {
    guard opened == nil, !isClosed else {
      return loop.makeFailedFuture(NetError(.closed, "get a relay", cause: "it was used before"))
    }
    let promise = loop.makePromise(of: Endpoint.self)
    opened = promise
    race.start { [self] result in
      failures = race.failures + failures
      switch result {
      case .failure(let error):
        becomeClosed()
        promise.fail(error)
      case .success(let allocation):
        guard let relayed = allocation.address?.relayed else {
          becomeClosed()
          return promise.fail(NetError(.closed, "get a relay", cause: "it was lost at once"))
        }
        self.allocation = allocation
        allocation.onAttempt = { [weak self] id, peer in self?.attempted(id, peer) }
        allocation.onRefused = { [weak self] _, error in self?.note(error) }
        allocation.onEnd = { [weak self] error in self?.ended(error) }
        let wanted = wanted
        self.wanted = []
        for ip in wanted { ask(for: ip) }
        taken = TURNStreams(of: allocation, on: loop)
        taken?.prepare()
        promise.succeed(relayed)
      }
    }
    return promise.futureResult
  }

  /// Lets peers at these addresses connect; before ``open()`` is done it is kept until then.
  public func permit(_ ips: [IPAddress]) {
    guard !isClosed else { return }
    for ip in ips where !ip.isWildcard && !ip.isMulticast && !ip.isBroadcast {
      if allocation != nil {
        ask(for: ip)
      } else if wanted.count < Self.mostWanted, !wanted.contains(ip) {
        wanted.append(ip)
      }
    }
  }

  /// Lets a relay through that the peer comes by (``RelayDetour``), since it cannot dial the address itself. Not before the
  /// peer has named it: whoever has an account at that relay comes from its address, and our own server's is one too.
  /// - Returns: when it is let through. Fails with why it is not.
  public func permit(relay ip: IPAddress) -> EventLoopFuture<Void> {
    let what = "let \(ip) through"
    guard let allocation, let relayed, !isClosed, !isRetired else {
      return loop.makeFailedFuture(NetError(.closed, what, cause: "the relay is not open"))
    }
    guard ip.family == relayed.ip.family else {
      return loop.makeFailedFuture(NetError(.unsupported, what, cause: "the relayed address is of the other family"))
    }
    guard !ip.isWildcard, !ip.isMulticast, !ip.isBroadcast else {
      return loop.makeFailedFuture(NetError(.badAddress, what, cause: "no relay has this address"))
    }
    guard relays.contains(ip) || relays.count < Self.mostRelays else {
      return loop.makeFailedFuture(NetError(.limit, what, cause: "there are \(relays.count) relays already"))
    }
    relays.insert(ip)
    return allocation.permit(ip)
  }

  /// No more peers are wanted. Closes when the streams handed out have ended; at once where there are none.
  public func retire() {
    guard !isRetired, !isClosed else { return }
    isRetired = true
    connected = nil
    taken?.close()
    if streams == 0 { close() }
  }

  /// Gives the allocation back, which ends the streams that were handed out, and closes all connections to the server.
  /// - Returns: when that is done.
  @discardableResult
  public func close() -> EventLoopFuture<Void> {
    connected = nil
    lost = nil
    wanted = []
    let isFirst = !isClosed
    becomeClosed()
    race.cancel()
    if isFirst, allocation == nil { opened?.fail(NetError(.cancelled, "get a relay", cause: "it was given up")) }
    taken?.close()
    return allocation?.close() ?? loop.makeSucceededVoidFuture()
  }

  private func becomeClosed() {
    isClosed = true
    let told = closed
    closed = nil
    told?()
  }

  private func ended(_ error: NetError) {
    guard !isClosed else { return }
    let told = lost
    note(error)
    close()
    told?(error)
  }

  private func note(_ error: NetError) {
    if failures.count < Self.mostFailures { failures.append(error) }
  }

  private func ask(for ip: IPAddress) {
    // A peer of the other family cannot connect to the address anyhow.
    guard let allocation, ip.family == relayed?.ip.family else { return }
    allocation.permit(ip).assumeIsolated().whenFailure { [weak self] error in
      guard let self, !isClosed else { return }
      note(NetError(error, "let \(ip) through"))
    }
  }

  // MARK: Peers that connect

  private func attempted(_ id: UInt32, _ peer: Endpoint) {
    guard !isRetired, !isClosed, connected != nil else { return }
    // Whoever shares the peer's address may connect as well; each costs us a connection to the server.
    guard attempts < Self.mostAttempts, streams + attempts < Self.mostStreams else {
      return note(NetError(.limit, "take \(peer) at the relay", cause: "too many connect there at once"))
    }
    attempts += 1
    taken?.take(id) { [self] result in
      switch result {
      case .success(let transport): hand(transport, peer)
      case .failure(let error):
        attempts -= 1
        note(error)
      }
    }
    taken?.prepare()
  }

  private func hand(_ transport: Transport, _ peer: Endpoint) {
    attempts -= 1
    guard let connected, !isClosed, !isRetired else { return transport.close(linger: false) }
    streams += 1
    // Strong: the allocation is needed as long as the stream is.
    transport.whenGone { [self] in
      streams -= 1
      if streams == 0, isRetired, !isClosed { close() }
    }
    // A stream that does not take it has ended.
    if greets { _ = transport.sendPreface([Self.greeting]) }
    connected(transport, peer)
  }

  /// TLS begins with 22 (RFC 8446 §5.1): this is no part of it.
  static let greeting: UInt8 = 0x70
  private static let mostWanted = 64
  /// One of the peer's servers each.
  private static let mostRelays = 4
  private static let mostFailures = 32
  /// Peers being taken at once, and streams in all: a relay is made for one peer, which may try several times.
  private static let mostAttempts = 8
  private static let mostStreams = 32
}
