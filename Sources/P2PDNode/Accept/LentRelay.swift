import NIOCore
import P2PDNet
import P2PDTraversal

/// A relay that this node opens for one that has none: an allocation at this node's TURN server, given back when the
/// session is over or, where a stream over it has become a pipe, when that has ended. Confined to its event loop.
final class LentRelay: @unchecked Sendable {
  private let path: RelayPath

  /// - Parameters:
  ///   - peers: who may come, as seen from outside.
  ///   - opened: its address, or what the servers met.
  ///   - arrived: a raw stream that somebody came by.
  ///   - closed: called once, the last of all.
  init(
    _ node: Node, for peers: [IPAddress], opened: @escaping (Endpoint?, [NetError]) -> Void,
    arrived: @escaping (Transport, Endpoint) -> Void, closed: @escaping () -> Void
  ) {
    let path = RelayPath(
      servers: node.configuration.servers.turn, family: peers.relayFamily, tls: node.serverTLS, on: node.loop)
    self.path = path
    path.greets = true
    path.connected = arrived
    path.closed = closed
    path.permit(Array(peers.prefix(Self.mostPeers)))
    path.open().assumeIsolated().whenComplete { result in
      switch result {
      case .success(let endpoint): opened(endpoint, [])
      case .failure(let error):
        opened(nil, path.failures.isEmpty ? [NetError(error, "relay")] : path.failures)
      }
    }
  }

  /// The peer cannot dial it, and comes by these.
  func rounded(_ endpoints: [Endpoint], _ session: SessionID, _ answer: (([UInt8]) -> Void)?) {
    path.welcome(endpoints, session, answer)
  }

  /// Nobody else is to come.
  func retire() { path.retire() }

  private static let mostPeers = 8
}
