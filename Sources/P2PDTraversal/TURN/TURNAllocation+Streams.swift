import NIOCore
import P2PDNet

/// The streams of a TCP allocation (RFC 6062): each takes a connection of its own to the server, beside the one that the
/// allocation hangs on.
extension TURNAllocation {
  /// A connection to the server beside the control connection, as ``take(_:over:_:)`` needs one. The caller's to close.
  func connectBeside(_ ticket: OpenTicket) -> EventLoopFuture<STUNStream> {
    guard let control, !isOver, way != .udp else { return loop.makeFailedFuture(notOpen) }
    return STUNStream.connect(to: .endpoint(control.server), conf: conf, ticket: ticket, on: loop)
  }

  /// Has the server connect from the relayed address to a peer (RFC 6062 §4.3), which needs no permission there. One
  /// connection to a peer at a time: the server says 446 (`in_use`) to a second one, and 447 (`refused`) where the peer
  /// cannot be reached.
  /// - Parameter done: the connection's number, which waits for ``take(_:over:_:)``.
  func connect(to peer: Endpoint, _ done: @escaping (Result<UInt32, NetError>) -> Void) {
    guard let session, let control = control as? STUNStream, relaying == .tcp else { return done(.failure(notOpen)) }
    ask(.connect, [.xorPeerAddress(peer)], over: control, session.authentication) { [what] result in
      done(
        result.flatMap { answer in
          answer.connectionID.map { .success($0) }
            ?? .failure(NetError(.io, what, cause: "the server connected, and gave the connection no number"))
        })
    }
  }

  /// Makes the connection the peer's stream (RFC 6062 §4.4). It is used up, whatever comes of it.
  func take(
    _ connection: UInt32, over stream: STUNStream, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    guard let session else {
      stream.close()
      return done(.failure(notOpen))
    }
    ask(.connectionBind, [.connectionID(connection)], over: stream, session.authentication) { [what] result in
      switch result {
      case .failure(let error):
        stream.close()
        done(.failure(error))
      case .success:
        guard let transport = stream.release() else {
          stream.close()
          return done(.failure(NetError(.closed, what, cause: "the peer's stream ended at once")))
        }
        done(.success(transport))
      }
    }
  }

  /// Asks over a stream, logged in with what is known already.
  /// - Parameter done: comes in the middle of reading: who is told may take over the rest of the stream.
  private func ask(
    _ method: STUNMethod, _ attributes: [STUNAttribute], over stream: STUNStream, _ authentication: TURNAuthentication,
    challenges: Int = 0, _ done: @escaping (Result<STUNMessage, NetError>) -> Void
  ) {
    let (message, signature) = authentication.signed(method, attributes)
    stream.ask(message, signed: signature, schedule: Self.streamPatience) { [what] result in
      let answer: STUNMessage
      switch result {
      case .failure(let error): return done(.failure(error))
      case .success(let came): answer = came.message
      }
      guard answer.kind == .failure else { return done(.success(answer)) }
      let code = answer.error?.code ?? 500
      guard code == 401 || code == 438, challenges < Self.mostChallenges else {
        return done(.failure(TURNSession.error(code, answer.error?.reason ?? "", what)))
      }
      var renewed = authentication
      // The server may have a nonce for each connection: the first 401 on this one is no refusal.
      if let problem = renewed.challenged(by: answer, wasSigned: challenges > 0) { return done(.failure(problem)) }
      self.ask(method, attributes, over: stream, renewed, challenges: challenges + 1, done)
    }
  }

  /// A server drops a peer that was not taken in 30 s (RFC 6062 §5.3), and tries to connect to one for as long (§5.2): whoever
  /// waits for the pipe does not.
  private static let streamPatience = STUNTransaction.Schedule(rto: .seconds(10), requests: 1, lastWait: 1)
  private static let mostChallenges = 2
}
