import NIOCore
import NIOSSL
import P2PDNet

/// Leads TLS on a connected stream until the peer has proven its key: whoever waits gets the encrypted stream, the key and
/// the protocol's name at the very moment the handshake ends, before the first byte that follows it.
///
/// Confined to its event loop.
final class HandshakeGate: @unchecked Sendable {
  struct Proof {
    let stream: TLSTransport
    let key: NodeKey
    let agreed: ALPN.Agreed
  }

  private let what: String
  /// The key that must be proven; nil takes any (accepting).
  private let expected: NodeKey?
  private var done: ((Result<Proof, NetError>) -> Void)?
  private var proven: NodeKey?
  private var timer: Scheduled<Void>?
  private var tls: TLSTransport?

  /// `done` is called exactly once, on the loop. `what` begins the error's text.
  init(_ what: String, expected: NodeKey?, done: @escaping (Result<Proof, NetError>) -> Void) {
    self.what = what
    self.expected = expected
    self.done = done
  }

  /// Begins the handshake. The gate has the stream from now on, and closes it if the handshake fails.
  func start(over stream: Transport, context: NIOSSLContext, isServer: Bool, time: TimeAmount, on loop: any EventLoop) {
    timer = loop.assumeIsolated().scheduleTask(in: time) {
      self.giveUp(NetError(.timeout, self.what, cause: "no TLS handshake within \(time.inSeconds) s"))
    }
    let verify: TLSTransport.Verify = { [self] in refusal($0) }
    let ended: (Result<TLSTransport, any Error>) -> Void = { [self] in handshakeEnded($0) }
    do throws(NetError) {
      tls =
        isServer
        ? TLSTransport.server(over: stream, context: context, verify: verify, on: loop, ended)
        : try TLSTransport.client(over: stream, context: context, serverName: nil, verify: verify, on: loop, ended)
    } catch {
      finish(.failure(error))
    }
  }

  /// Cuts the connection; `done` hears of it unless it has heard of the end already.
  func cut() { giveUp(Self.hungUp(what)) }

  private func giveUp(_ error: NetError) {
    tls?.close(linger: false)
    finish(.failure(error))
  }

  /// Why the peer of this chain is not the one wanted.
  private func refusal(_ chain: [NIOSSLCertificate]) -> NetError? {
    guard let key = NodeTLS.key(of: chain) else {
      return NetError(.notP2PD, what, cause: "what answered has no node's certificate")
    }
    if let expected, key != expected {
      return NetError(.wrongKey, what, cause: "what answered there is node \(key), not \(expected)")
    }
    proven = key
    return nil
  }

  private func handshakeEnded(_ result: Result<TLSTransport, any Error>) {
    switch result {
    case .success(let stream):
      guard let proven else {
        return giveUp(NetError(.notP2PD, what, cause: "what answered has no node's certificate"))
      }
      finish(.success(Proof(stream: stream, key: proven, agreed: ALPN.agreed(stream.negotiatedProtocol))))
    case .failure(let error): finish(.failure(Self.reading(error, what)))
    }
  }

  private func finish(_ result: Result<Proof, NetError>) {
    guard let done else { return }
    self.done = nil
    timer?.cancel()
    timer = nil
    tls = nil
    done(result)
  }

  private static func hungUp(_ what: String) -> NetError {
    NetError(.closed, what, cause: "it hung up during the handshake: no p2pd node, or one that takes no more pipes")
  }

  /// What a failed handshake says about the other side. TLS errors mean that no node is there, since all nodes speak
  /// the same TLS.
  private static func reading(_ error: any Error, _ what: String) -> NetError {
    if let error = error as? NetError {
      // The network's word on the connection below, or the refusal above.
      return error.what == what ? error : NetError(error.code, what, cause: error.cause)
    }
    switch error as? NIOSSLError {
    case .handshakeFailed(.sslError(let stack))? where stack == [.eofDuringHandshake]: return hungUp(what)
    case .uncleanShutdown?: return hungUp(what)
    default: break
    }
    let text = "\(error)"
    if text.contains(AcceptRefusal.asBoringSSLSaysIt) {
      return NetError(.limit, what, cause: "the node takes no more pipes for now")
    }
    if let (_, cause) = explanations.first(where: { text.contains($0.0) }) {
      return NetError(.notP2PD, what, cause: cause)
    }
    return NetError(.notP2PD, what, cause: "TLS failed: \(text)")
  }

  private static let explanations = [
    ("WRONG_VERSION_NUMBER", "what answered does not speak TLS"),
    ("HTTP_REQUEST", "what answered is a plain web client or server"),
    ("UNSUPPORTED_PROTOCOL", "what answered speaks an older TLS"),
    ("ALERT_PROTOCOL_VERSION", "what answered speaks an older TLS"),
    ("HANDSHAKE_FAILURE", "what answered speaks TLS, but not as a node"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "what called has no node's certificate"),
    ("UNEXPECTED_RECORD", "what answered does not speak TLS"),
    ("BAD_DECRYPT", "what answered does not speak TLS"),
  ]
}

extension TimeAmount {
  var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
