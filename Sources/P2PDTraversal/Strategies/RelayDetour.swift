import NIOCore
import P2PDNet

/// The way round a firewall that lets out a few ports only, and so no call to a relayed address: an allocation of this side's
/// own, at a TURN server whose port is one of the few, from which that server connects to the other side's relayed address
/// (RFC 6062 §4.3).
///
/// It must outlive its streams: when the allocation goes, the server cuts them. Whoever has got one calls ``retire()``, which
/// waits for their end, or ``close()``, which does not. Confined to its loop.
public final class RelayDetour: @unchecked Sendable {
  /// What a node has to do with its way round, from the first to the last.
  public struct Plan {
    public var servers: [ServerURL]
    /// For `turns:`; nil trusts the system's roots.
    public var tls: ServerTLS?
    /// Dialling was of no use the last time, in this network: the way round is taken at once, beside it.
    public var isWalled: Bool
    /// Asked before an allocation is opened: nil, or why none may be.
    public var refusal: () -> NetError?
    /// Tells the other side from where it will be come to: from there.
    /// - Returns: when the other side lets it through. Fails with why it does not.
    public var tell: (Endpoint) -> EventLoopFuture<Void>
    /// The allocation that ``refusal`` had nothing against is given back, or there never was one; called once.
    public var closed: () -> Void

    public init(
      _ servers: [ServerURL], tls: ServerTLS?, isWalled: Bool = false, refusal: @escaping () -> NetError? = { nil },
      tell: @escaping (Endpoint) -> EventLoopFuture<Void>, closed: @escaping () -> Void = {}
    ) {
      (self.servers, self.tls, self.isWalled) = (servers, tls, isWalled)
      (self.refusal, self.tell, self.closed) = (refusal, tell, closed)
    }
  }

  /// From where the other side is come to, once open.
  var relayed: Endpoint? { allocation?.address?.relayed }
  /// The server that works.
  var server: ServerURL? { allocation?.url }
  /// The allocation was lost after ``open(_:)`` had succeeded.
  var lost: ((NetError) -> Void)?

  private let to: Endpoint
  private let loop: any EventLoop
  private let race: TURNRace
  private var allocation: TURNAllocation?
  private var taken: TURNStreams?
  private var closed: (() -> Void)?
  private var streams = 0
  private var isRetired = false
  private var isClosed = false

  init(to: Endpoint, _ plan: Plan, interface: String?, on loop: any EventLoop) {
    self.to = to
    self.loop = loop
    closed = plan.closed
    // One that can connect there: an allocation has one family (RFC 8656 §7.1).
    race = TURNRace(
      what: "get a relay", ofStreamsAt: plan.servers, family: to.ip.family, interface: interface, tls: plan.tls,
      on: loop)
  }

  /// Gets the allocation. To be called once.
  /// - Parameter done: comes once, and not after ``close()``.
  func open(_ done: @escaping (Result<Endpoint, NetError>) -> Void) {
    race.start { [self] result in
      switch result {
      case .failure(let error):
        close()
        done(.failure(error))
      case .success(let allocation):
        guard let relayed = allocation.address?.relayed else {
          close()
          return done(.failure(NetError(.closed, "get a relay", cause: "it was lost at once")))
        }
        self.allocation = allocation
        guard Self.mayConnect(from: relayed, to: to) else {
          close()
          let cause = "\(to) is an address of a private network, which is another one at the relay \(relayed)"
          return done(.failure(NetError(.badAddress, "connect to \(to)", cause: cause)))
        }
        allocation.onEnd = { [weak self] error in self?.ended(error) }
        taken = TURNStreams(of: allocation, on: loop)
        taken?.prepare()
        done(.success(relayed))
      }
    }
  }

  /// The address is the other side's word: a relay on the Internet is not sent into the network it stands in.
  static func mayConnect(from relayed: Endpoint, to: Endpoint) -> Bool {
    (!to.ip.isLoopback || relayed.ip.isLoopback) && (!to.ip.isPrivate || relayed.ip.isPrivate)
  }

  /// Connects. One at a time.
  /// - Parameter done: comes once, and not after ``close()``: the raw stream, the callee's to close.
  func connect(_ done: @escaping (Result<Transport, NetError>) -> Void) {
    guard let allocation, let taken, !isClosed else {
      return done(.failure(NetError(.closed, "connect to \(to)", cause: "the relay is not open")))
    }
    // Beside the server's way there and back.
    taken.prepare()
    allocation.connect(to: to) { [self] result in
      guard !isClosed, !isRetired else { return }
      switch result {
      case .failure(let error): done(.failure(error))
      case .success(let id):
        taken.take(id) { [self] in
          done(
            $0.map(hold).mapError { error in
              // 400, or a connection that coturn closes instead: the number is unknown by now.
              guard error.code == .unsupported || error.code == .closed else { return error }
              return NetError(.reset, "connect to \(to)", cause: "it was cut at once: we are not let through yet")
            })
        }
      }
    }
  }

  /// No more streams are wanted. Closes when those handed out have ended; at once where there are none.
  func retire() {
    guard !isRetired, !isClosed else { return }
    isRetired = true
    taken?.close()
    if streams == 0 { close() }
  }

  /// Gives the allocation back, which ends the streams that were handed out, and closes all connections to the server.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    lost = nil
    race.cancel()
    taken?.close()
    let told = closed
    closed = nil
    if let allocation {
      allocation.close().assumeIsolated().whenComplete { _ in told?() }
    } else {
      told?()
    }
  }

  private func hold(_ transport: Transport) -> Transport {
    streams += 1
    // Strong: the allocation is needed as long as the stream is.
    transport.whenGone { [self] in
      streams -= 1
      if streams == 0, isRetired { close() }
    }
    return transport
  }

  private func ended(_ error: NetError) {
    let told = lost
    close()
    told?(error)
  }
}
