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
  private var spare: Spare?
  private var isMakingSpare = false
  /// Peers that wait for a connection to be taken by, and the connections being taken.
  private var attempts = 0
  private var tickets: [Int: OpenTicket] = [:]
  private var lastTicket = 0
  private var taking: [ObjectIdentifier: STUNStream] = [:]
  private var isRetired = false
  private var isClosed = false

  /// A connection to the server that waits for a peer.
  private struct Spare {
    let stream: STUNStream
    let since: NIODeadline
  }

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
    let turn = servers.filter { $0.scheme == .turn || $0.scheme == .turns }
    let needed = turn.contains { $0.scheme == .turns } ? tls ?? ServerTLS(on: loop) : nil
    race = TURNRace(what: "get a relay", tls: needed, on: loop) { setup in
      turn.map { url in
        TURNAllocation(
          url, over: url.scheme == .turns ? .tls : .tcp, relaying: .tcp, family: family,
          interface: interface, tls: setup, on: loop)
      }
    }
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
        makeSpare()
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

  /// No more peers are wanted. Closes when the streams handed out have ended; at once where there are none.
  public func retire() {
    guard !isRetired, !isClosed else { return }
    isRetired = true
    connected = nil
    closeSpares()
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
    closeSpares()
    return allocation?.close() ?? loop.makeSucceededVoidFuture()
  }

  private func becomeClosed() {
    isClosed = true
    let told = closed
    closed = nil
    told?()
  }

  private func closeSpares() {
    spare?.stream.close()
    spare = nil
    for ticket in tickets.values { ticket.cancel() }
    tickets = [:]
    let taking = taking.values
    self.taking = [:]
    for stream in taking { stream.close() }
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
    if let spare {
      self.spare = nil
      spare.stream.onEnd = nil
      take(id, peer, over: spare.stream, isSpare: true)
    } else {
      connectFor(id, peer)
    }
    makeSpare()
  }

  private func connectFor(_ id: UInt32, _ peer: Endpoint) {
    connectBeside { [self] result in
      switch result {
      case .success(let stream): take(id, peer, over: stream, isSpare: false)
      case .failure(let error):
        attempts -= 1
        note(error)
      }
    }
  }

  private func take(_ id: UInt32, _ peer: Endpoint, over stream: STUNStream, isSpare: Bool) {
    guard let allocation, !isClosed else { return stream.close() }
    taking[ObjectIdentifier(stream)] = stream
    allocation.take(id, over: stream) { [self] result in
      taking[ObjectIdentifier(stream)] = nil
      switch result {
      case .success(let transport): hand(transport, peer)
      // The server may have dropped a connection that lay idle, with nothing told to us yet.
      case .failure(let error)
      where isSpare && (error.code == .closed || error.code == .reset) && !isClosed && !isRetired:
        connectFor(id, peer)
      case .failure(let error):
        attempts -= 1
        if !isClosed { note(error) }
      }
    }
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

  // MARK: Connections in advance

  /// Keeps one connection to the server ready, which saves a peer that connects one round trip, over TLS two.
  private func makeSpare() {
    guard spare == nil, !isMakingSpare, !isRetired, !isClosed, allocation != nil else { return }
    isMakingSpare = true
    connectBeside { [self] result in
      isMakingSpare = false
      guard case .success(let stream) = result else { return }
      guard spare == nil, !isRetired, !isClosed else { return stream.close() }
      spare = Spare(stream: stream, since: loop.now)
      stream.onEnd = { [weak self, weak stream] _ in
        guard let self, let held = spare, held.stream === stream else { return }
        spare = nil
        // Servers drop idle connections after a while (coturn: a minute). One that does at once shall not be bothered.
        if loop.now - held.since >= Self.shortestSpare { makeSpare() }
      }
    }
  }

  /// - Parameter done: does not come after ``close()``.
  private func connectBeside(_ done: @escaping (Result<STUNStream, NetError>) -> Void) {
    guard let allocation else { return }
    let ticket = OpenTicket()
    lastTicket += 1
    let number = lastTicket
    tickets[number] = ticket
    allocation.connectBeside(ticket).assumeIsolated().whenComplete { [self] result in
      let isWanted = tickets.removeValue(forKey: number) != nil
      switch result {
      case .success(let stream):
        guard isWanted else { return stream.close() }
        done(.success(stream))
      case .failure(let error): if isWanted { done(.failure(NetError(error, "connect to the relay"))) }
      }
    }
  }

  /// TLS begins with 22 (RFC 8446 §5.1): this is no part of it.
  static let greeting: UInt8 = 0x70
  private static let mostWanted = 64
  private static let mostFailures = 32
  /// Peers being taken at once, and streams in all: a relay is made for one peer, which may try several times.
  private static let mostAttempts = 8
  private static let mostStreams = 32
  private static let shortestSpare: TimeAmount = .seconds(10)
}
