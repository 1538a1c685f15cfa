import NIOCore
import P2PDNet
import P2PDTraversal

// The word of two nodes about a relayed address that one of them cannot dial: from where it will be connected to instead.

extension RelayDetour.Plan {
  /// The way round of a node in one session: at its own TURN servers, and told to the other side.
  /// - Parameters:
  ///   - until: how long the other side is asked to let it through.
  ///   - refusal, closed: as in the plan.
  /// - Returns: nil where the node knows no TURN server.
  init?(
    of node: Node, _ session: SessionID, _ messenger: any Messenger, until: NIODeadline,
    refusal: @escaping () -> NetError? = { nil }, closed: @escaping () -> Void = {}
  ) {
    guard !node.configuration.servers.turn.isEmpty else { return nil }
    let loop = node.loop
    self.init(
      node.configuration.servers.turn, tls: node.serverTLS, isWalled: node.isWalled, refusal: refusal,
      tell: { endpoint in
        let left = max(.milliseconds(1), until - loop.now)
        return messenger.request(Rendezvous(session, .round([endpoint])).bytes, timeout: left)
          .flatMapThrowing { bytes, _ in
            guard !bytes.isEmpty else { return }
            guard case .report(let met)? = Rendezvous(bytes)?.message, let first = met.first else {
              throw NetError(.notP2PD, "relay", cause: "what the other side said about its relay cannot be read")
            }
            throw NetError(first.outcome, "relay", cause: "the other side does not let it through: \(first.seen)")
          }
      }, closed: closed)
  }
}

extension RelayPath {
  /// The peer comes by these relays: they are let through, and it is told when they are, or why not.
  /// - Parameter answer: nil: nobody waits for it.
  func welcome(_ endpoints: [Endpoint], _ session: SessionID, _ answer: (([UInt8]) -> Void)?) {
    let permits = endpoints.map { permit(relay: $0.ip) }
    guard let loop = permits.first?.eventLoop else { return }
    EventLoopFuture.andAllSucceed(permits, on: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .success: answer?([])
      case .failure(let error): RelayPath.refuse(session, error, answer)
      }
    }
  }

  /// There is no relay to let anybody through.
  static func refuse(_ session: SessionID, _ error: any Error, _ answer: (([UInt8]) -> Void)?) {
    let error = (error as? NetError) ?? NetError(.io, "relay", cause: "\(error)")
    answer?(Rendezvous(session, .report([PathAttempt(.relay, error)])).bytes)
  }

  static let notThere = NetError(.closed, "relay", cause: "it has no relay open")
}
