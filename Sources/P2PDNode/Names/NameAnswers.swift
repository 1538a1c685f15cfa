import P2PDNames
import P2PDNet

// What the sources' own answers mean for a node: an address that its key has signed, or why it is none.

/// Nodes of a name on the local network.
enum LANFinding {
  static func read(_ name: PeerName, _ found: [LocalName]) -> NameFinding {
    let nodes = found.map { (node: $0, address: try? NodeAddress($0.value)) }
    let parts = nodes.map { node, address in
      let words = address.map { $0.key.description } ?? "an address that cannot be read"
      return NameFinding.Part("\(node.from.ip)", words)
    }
    let good = nodes.compactMap { node, address in address.flatMap { $0.key.bytes == node.key ? $0 : nil } }
    guard let newest = good.max(by: { $0.issued < $1.issued }) else {
      guard !found.isEmpty else { return NameFinding(.lan, .absent) }
      let error = NetError(
        .badRecord, "find \(name) on the local network", cause: "what it says of its address is damaged")
      return NameFinding(.lan, .failed(error), parts: parts)
    }
    guard Set(good.map(\.key)).count == 1 else {
      let error = NetError(
        .taken, "find \(name) on the local network", cause: "several nodes are called so here",
        remedy: "Write the id of the right one into your names file.")
      return NameFinding(.lan, .failed(error), parts: parts)
    }
    let teller = nodes.first { $0.address == newest }.map { "\($0.node.from.ip)" } ?? ""
    return NameFinding(.lan, .found(key: newest.key.bytes, address: newest.description), by: teller, parts: parts)
  }
}

/// Texts of the DNS: `p2pd=p2pd1...`.
enum TextFinding {
  static func read(_ name: PeerName, _ host: String, _ texts: [String]) -> NameFinding {
    let values = texts.compactMap { text -> String? in
      let parts = text.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, parts[0].lowercased() == "p2pd" else { return nil }
      return parts[1].trimmed
    }
    guard !values.isEmpty else { return NameFinding(.dns, .absent, by: host) }
    var why = ""
    var good: [NodeAddress] = []
    for value in values {
      do throws(NodeAddressError) { good.append(try NodeAddress(value)) } catch { why = error.description }
    }
    let parts = values.count > 1 ? values.map { NameFinding.Part(host, String($0.prefix(60))) } : []
    guard let newest = good.max(by: { $0.issued < $1.issued }) else {
      return NameFinding(
        .dns, .failed(NetError(.badRecord, "find \(name) in the DNS", cause: "the text of \(host) is \(why)")), by: host
      )
    }
    guard Set(good.map(\.key)).count == 1 else {
      return NameFinding(
        .dns, .failed(NetError(.badRecord, "find \(name) in the DNS", cause: "\(host) names several nodes")), by: host,
        parts: parts)
    }
    return NameFinding(.dns, .found(key: newest.key.bytes, address: newest.description), by: host, parts: parts)
  }
}

extension Substring {
  fileprivate var trimmed: String {
    String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
  }
}
