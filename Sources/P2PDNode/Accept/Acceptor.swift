import NIOCore
import NIOSSL
import P2PDNet

/// What an acceptor asks its node. All calls come on the event loop.
protocol AcceptorOwner: AnyObject {
  /// Before anything is spent on a connection. false cuts it.
  func shouldAccept(_ peer: Endpoint) -> Bool
  /// The TLS of now: it changes with the hosted protocols.
  func serverContext() throws -> NIOSSLContext
  /// An accepted connection ended without proving a key, or before it was nominated. Comes once for each that was let in,
  /// unless `accepted` does.
  func acceptFailed(_ peer: Endpoint, _ error: NetError)
  /// A node has proven its key and, where it has to, nominated the stream. The callee takes it over, or closes it.
  func accepted(_ peer: Endpoint, _ guest: Arrival.Guest)
}

/// One listening TCP socket of a node. Confined to its event loop.
final class Acceptor: ListenerOwner, @unchecked Sendable {
  let endpoint: Endpoint
  private let owner: any AcceptorOwner
  private let time: TimeAmount
  private let loop: any EventLoop
  private var listener: Transport?
  private var unfinished: [ObjectIdentifier: Arrival] = [:]
  /// The caller asked about last.
  private var caller: Endpoint?

  /// Throws ``NetError``, `inUse` among others. On the loop.
  init(
    on asked: Endpoint, handshakeTime: TimeAmount, owner: any AcceptorOwner, loop: any EventLoop
  ) throws(NetError) {
    self.owner = owner
    self.loop = loop
    time = handshakeTime
    let late = LateAcceptor()
    // IPv6 alone on IPv6 sockets, since the same port is bound once per family.
    let listener = try loop.requireNetwork("listen on \(asked)")
      .listenStream(on: .ip(asked), StreamOptions(), owner: late)
    endpoint = listener.localEndpoint ?? asked
    self.listener = listener
    late.acceptor = self
  }

  /// Before anything was set up for a connection.
  func refusal(of peer: Endpoint?) -> [UInt8]? {
    guard let peer, owner.shouldAccept(peer) else { return AcceptRefusal.alert }
    caller = peer
    return nil
  }

  /// The others get TLS and the time to prove a key.
  func accepted(_ stream: Transport) {
    guard let peer = caller else { return stream.close(linger: false) }
    caller = nil
    var id: ObjectIdentifier?
    let arrival = Arrival("accept \(peer)", expected: nil) { result in
      if let id { self.unfinished[id] = nil }
      switch result {
      case .success(let guest): self.owner.accepted(peer, guest)
      case .failure(let error): self.owner.acceptFailed(peer, error)
      }
    }
    let known = ObjectIdentifier(arrival)
    id = known
    unfinished[known] = arrival
    do {
      let context = try owner.serverContext()
      arrival.start(over: stream, context: context, isServer: true, time: time, on: loop)
    } catch {
      stream.close(linger: false)
      arrival.cut()
    }
  }

  /// The kernel refuses new connections from now on, and unfinished handshakes are cut.
  func close() -> EventLoopFuture<Void> {
    for arrival in Array(unfinished.values) { arrival.cut() }
    let closed = loop.makePromise(of: Void.self)
    listener?.whenGone { closed.succeed() }
    if listener == nil { closed.succeed() }
    listener?.close(linger: false)
    listener = nil
    return closed.futureResult
  }
}

/// Stands for an acceptor until its listener is there. Nobody is accepted before.
private final class LateAcceptor: ListenerOwner {
  weak var acceptor: Acceptor?
  func refusal(of peer: Endpoint?) -> [UInt8]? { acceptor.map { $0.refusal(of: peer) } ?? AcceptRefusal.alert }
  func accepted(_ stream: Transport) {
    if let acceptor { acceptor.accepted(stream) } else { stream.close(linger: false) }
  }
}

/// A fatal TLS alert, `access_denied` (RFC 8446 §6.2), in clear, so that the caller learns why it was cut. It may be
/// lost with the connection: then the caller sees that it was hung up on.
enum AcceptRefusal {
  static let alert: [UInt8] = [21, 3, 3, 0, 2, 2, 49]
  static let asBoringSSLSaysIt = "ALERT_ACCESS_DENIED"
}
