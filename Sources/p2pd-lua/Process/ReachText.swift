import P2PDNet
import P2PDNode
import P2PDTraversal

/// How others get to a node, in words. On the node's loop.
enum ReachText {
  /// After a start: what was found out, and the address that tells it. nil: nothing there is to tell.
  /// - Parameter first: the address that was shown already.
  static func found(_ node: Node, since first: NodeAddress) -> String? {
    guard !node.configuration.offline, !isWithoutServers(node.configuration) else { return nil }
    var words = [brokers(node)]
    if let outside = outside(node) { words.append(outside) }
    let text = words.joined(separator: "\n")
    return node.address == first ? text + "\nThe address stays as it is.\n" : text + "\nThe node's address is now:\n"
  }

  static func brokers(_ node: Node) -> String {
    let names = node.address.signalling.map(\.host)
    guard names.isEmpty else { return "Reachable through \(names.joined(separator: ", "))." }
    guard !node.configuration.servers.brokers.isEmpty else { return "No broker is configured: only direct connections work." }
    let failed = node.signalling?.status.first { $0.error != nil }.flatMap(\.error)
    return "No broker can be reached, so only direct connections work\(failed.map { " (\($0))" } ?? "")."
  }

  /// The outside addresses with what the likeliest router does.
  private static func outside(_ node: Node) -> String? {
    let reports = reports(node).filter(\.hasAnswer)
    guard let first = reports.first else {
      return node.configuration.servers.stun.isEmpty ? nil : "No STUN server answered: the outside address is not known."
    }
    let seen = node.knownExternals
    let place = seen.isEmpty ? "" : "Seen from outside as \(seen.map(\.description).joined(separator: ", ")). "
    return place + (first.sentences.first ?? "")
  }

  /// The likely ways out first.
  static func reports(_ node: Node) -> [NATReport] {
    node.knowledge.reports.sorted {
      ($0.key.gateway == nil ? 1 : 0, $0.key.family.rawValue, $0.key.index)
        < ($1.key.gateway == nil ? 1 : 0, $1.key.family.rawValue, $1.key.index)
    }.map(\.value)
  }

  static func isWithoutServers(_ configuration: NodeConfiguration) -> Bool {
    configuration.servers.stun.isEmpty && configuration.servers.brokers.isEmpty
  }
}

extension Node {
  /// The addresses under which the Internet sees it, each once.
  var knownExternals: [IPAddress] {
    var seen: Set<IPAddress> = []
    return ReachText.reports(self).flatMap(\.external).filter { seen.insert($0).inserted }
  }
}
