import P2PDNet
import P2PDNode
import P2PDTraversal

/// How others get to a node, in words. On the node's loop.
enum ReachText {
  /// What was found out after a start. nil: there are no servers to find anything out by.
  static func found(_ node: Node) -> String? {
    guard !node.configuration.offline, !isWithoutServers(node.configuration) else { return nil }
    return ([brokers(node), outside(node)].compactMap { $0 } + mappings(node)).joined(separator: "\n")
  }

  static func brokers(_ node: Node) -> String {
    let names = node.address.signalling.map(\.host)
    guard names.isEmpty else { return "Reachable through \(names.joined(separator: ", "))." }
    guard !node.configuration.servers.brokers.isEmpty else {
      return "No broker is configured: only direct connections work."
    }
    let failed = node.signalling?.status.first { $0.error != nil }.flatMap(\.error)
    return "No broker can be reached, so only direct connections work\(failed.map { " (\($0))" } ?? "")."
  }

  /// The outside addresses with what the likeliest router does.
  private static func outside(_ node: Node) -> String? {
    let reports = reports(node).filter(\.hasAnswer)
    guard let first = reports.first else {
      return node.configuration.servers.stun.isEmpty
        ? nil : "No STUN server answered: the outside address is not known."
    }
    let seen = node.knownExternals
    let place = seen.isEmpty ? "" : "Seen from outside as \(seen.map(\.description).joined(separator: ", ")). "
    return place + (first.sentences.first ?? "")
  }

  /// What routers keep open for the node, and what of it others are not told and why.
  private static func mappings(_ node: Node) -> [String] {
    (node.portMapper?.mappings ?? []).map { mapping in
      if let why = mapping.distrust { return "The router opened a port (\(mapping.by)), which leads nowhere: \(why)." }
      let what = mapping.path.family == .v4 ? "forwards" : "lets in"
      return "The router \(what) \(mapping.external) to this node (\(mapping.by))."
    }
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
