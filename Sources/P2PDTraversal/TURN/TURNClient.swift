import NIOCore
import P2PDNet

/// Datagrams through a TURN server, as a UDP pipe: what peers send to the relayed address comes out of it, and what is sent
/// on it comes to them from there. Each peer is let through first, with ``accept(_:relay:)``.
///
/// Confined to its loop. Its owner closes it; when the allocation is lost, the pipe ends with the reason.
public final class TURNClient: @unchecked Sendable {
  /// The messages. It keeps as many as its conf says; over that the newest is dropped and counted.
  public let pipe: Pipe
  /// Our own address and port as the server sees them.
  public let mapped: Endpoint?
  /// Where peers send to.
  public let relayed: Endpoint
  /// The server that works, and what it is spoken to over.
  public var server: ServerURL { allocation.url }
  public var way: TURNWay { allocation.way }

  private let allocation: TURNAllocation
  private let loop: any EventLoop
  private var allowed: Set<IPAddress> = []
  private let datagrams: CarriedDatagrams

  /// Opens an allocation on the first of several servers that works.
  /// - Parameters:
  ///   - servers: in order of preference. `turn:` is tried over UDP and, where that is blocked, over TCP; with
  ///     `?transport=tcp` over TCP alone; `turns:` over TLS.
  ///   - ways: tries these in their place.
  ///   - conf: of the pipe: its queue's bounds.
  ///   - ticket: to give it up with.
  public static func open(
    _ servers: [ServerURL], ways: [TURNWay]? = nil, conf: PipeConf = PipeConf(), interface: String? = nil,
    tls: ServerTLS? = nil, ticket: TURNTicket? = nil, on loop: any EventLoop
  ) -> EventLoopFuture<TURNClient> {
    let plan = servers.flatMap { url in (ways ?? Self.ways(to: url)).map { (url, $0) } }
    let needed = plan.contains { $0.1 == .tls } ? tls ?? ServerTLS(on: loop) : nil
    let race = TURNRace(what: "use a relay", tls: needed, on: loop) { setup in
      plan.map { url, way in
        TURNAllocation(url, over: way, relaying: .udp, interface: interface, tls: setup, on: loop)
      }
    }
    let promise = loop.makePromise(of: TURNClient.self)
    ticket?.onCancel = {
      race.cancel()
      promise.fail(NetError(.cancelled, "use a relay", cause: "it was given up"))
    }
    race.start { result in
      ticket?.onCancel = nil
      switch result {
      case .failure(let error): promise.fail(error)
      case .success(let allocation):
        guard let address = allocation.address else {
          return promise.fail(NetError(.closed, "use a relay", cause: "it was lost at once"))
        }
        promise.succeed(TURNClient(allocation, address, conf, loop))
      }
    }
    return promise.futureResult
  }

  /// What a server is spoken to over, in the order to try.
  static func ways(to url: ServerURL) -> [TURNWay] {
    switch url.scheme {
    case .turns: [.tls]
    case .turn: url.transport == .tcp ? [.tcp] : [.udp, .tcp]
    default: []
    }
  }

  private init(
    _ allocation: TURNAllocation, _ address: TURNSession.Address, _ conf: PipeConf, _ loop: any EventLoop
  ) {
    self.allocation = allocation
    self.loop = loop
    mapped = address.mapped
    relayed = address.relayed
    let datagrams = CarriedDatagrams(
      local: address.relayed,
      carry: { [unowned allocation] bytes, peer in
        if case .failed(let error) = allocation.send(bytes, to: peer) { error } else { nil }
      },
      // Strong: an allocation without an owner would live on at the server.
      closed: { _ = allocation.close() })
    self.datagrams = datagrams
    pipe = Pipe.adopt(datagrams: datagrams, conf: conf, on: loop)
    allocation.onData = { [weak datagrams] bytes, peer in datagrams?.received(bytes, from: peer) }
    allocation.onEnd = { [weak datagrams] error in datagrams?.end(error) }
  }

  /// Lets a peer send to us, and us to it.
  /// - Parameters:
  ///   - peer: the peer's own address, as others see it.
  ///   - relay: its relayed address, where it has one: it sends from there then.
  /// - Returns: fails with `permission` where the server does not relay to it.
  public func accept(_ peer: Endpoint, relay: Endpoint? = nil) -> EventLoopFuture<Void> {
    let main = relay ?? peer
    if main.ip != peer.ip {
      // It may send directly as well. A server that forbids that (a private address) forbids nothing we need.
      allocation.permit(peer.ip).assumeIsolated().whenSuccess { self.allowed.insert(peer.ip) }
    }
    return allocation.permit(main.ip).flatMap { () -> EventLoopFuture<Void> in
      self.allowed.insert(main.ip)
      // A channel costs four bytes a datagram; without one it goes on with thirty-six.
      return self.allocation.bindChannel(to: main).recover { _ in }
    }
  }

  /// Sends to a peer that was accepted.
  public func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint) -> NetError? {
    guard allowed.contains(peer.ip) else {
      return NetError(.permission, "send to \(peer)", cause: "the relay does not let it through; accept the peer first")
    }
    if case .failed(let error) = pipe.send(bytes, to: pipe.peer(for: peer)) { return error }
    return nil
  }

  /// Gives the allocation back.
  /// - Returns: when that is done.
  @discardableResult
  public func close() -> EventLoopFuture<Void> {
    let done = allocation.close()
    pipe.close(flush: .zero)
    return done
  }
}

/// What the opening of a ``TURNClient`` is given up with. Confined to the loop of the opening.
public final class TURNTicket: @unchecked Sendable {
  var onCancel: (() -> Void)?

  public init() {}

  /// Harmless when it is over.
  public func cancel() {
    let body = onCancel
    onCancel = nil
    body?()
  }
}
