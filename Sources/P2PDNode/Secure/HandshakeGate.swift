import Glibc
import NIOCore
import NIOSSL
import NIOTLS
import P2PDNet

/// Stands behind the TLS handler until the peer has proven its key, then makes room for the pipe: whoever waits gets
/// the channel, the key and the protocol's name at the very moment the handshake ends, before the first byte that
/// follows it.
///
/// Confined to its channel's event loop.
final class HandshakeGate: ChannelInboundHandler, RemovableChannelHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer

  struct Proof {
    let channel: any Channel
    let key: NodeKey
    let agreed: ALPN.Agreed
  }

  private let what: String
  /// The key that must be proven; nil takes any (accepting).
  private let expected: NodeKey?
  private var done: ((Result<Proof, NetError>) -> Void)?
  private var proven: NodeKey?
  private var refusal: NetError?
  private var timer: Scheduled<Void>?

  /// `done` is called exactly once, on the loop. `what` begins the error's text.
  init(_ what: String, expected: NodeKey?, done: @escaping (Result<Proof, NetError>) -> Void) {
    self.what = what
    self.expected = expected
    self.done = done
  }

  /// Puts TLS and the gate into a new channel.
  func install(in channel: any Channel, context: NIOSSLContext, isServer: Bool, time: TimeAmount) throws {
    let verify: NIOSSLCustomVerificationCallback = { chain, promise in
      promise.succeed(self.accepts(chain) ? .certificateVerified : .failed)
    }
    let tls: NIOSSLHandler =
      isServer
      ? NIOSSLServerHandler(context: context, customVerificationCallback: verify)
      : try NIOSSLClientHandler(context: context, serverHostname: nil, customVerificationCallback: verify)
    SocketOptions.closeOnExec(channel)
    timer = channel.eventLoop.assumeIsolated().scheduleTask(in: time) {
      self.finish(.failure(NetError(.timeout, self.what, cause: "no TLS handshake within \(time.inSeconds) s")))
      channel.close(promise: nil)
    }
    try channel.pipeline.syncOperations.addHandlers([tls, self])
  }

  private func accepts(_ chain: [NIOSSLCertificate]) -> Bool {
    guard let key = NodeTLS.key(of: chain) else {
      refusal = NetError(.notP2PD, what, cause: "what answered has no node's certificate")
      return false
    }
    if let expected, key != expected {
      refusal = NetError(.wrongKey, what, cause: "what answered there is node \(key), not \(expected)")
      return false
    }
    proven = key
    return true
  }

  private func finish(_ result: Result<Proof, NetError>) {
    guard let done else { return }
    self.done = nil
    timer?.cancel()
    timer = nil
    done(result)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case TLSUserEvent.handshakeCompleted(let negotiated) = event, let proven else {
      return context.fireUserInboundEventTriggered(event)
    }
    finish(.success(Proof(channel: context.channel, key: proven, agreed: ALPN.agreed(negotiated))))
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard done != nil else { return context.fireErrorCaught(error) }
    finish(.failure(refusal ?? Self.reading(error, what)))
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(.failure(refusal ?? Self.hungUp(what)))
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    // Never connected, or shut from this side. Later, since whoever dialled hears first why the connection failed.
    guard done != nil else { return }
    context.eventLoop.assumeIsolated().execute { self.finish(.failure(self.refusal ?? Self.hungUp(self.what))) }
  }

  private static func hungUp(_ what: String) -> NetError {
    NetError(.closed, what, cause: "it hung up during the handshake: no p2pd node, or one that takes no more pipes")
  }

  /// What a failed handshake says about the other side. TLS errors mean that no node is there, since all nodes speak
  /// the same TLS.
  private static func reading(_ error: any Error, _ what: String) -> NetError {
    if let error = error as? IOError { return NetError(errno: error.errnoCode, what) }
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
