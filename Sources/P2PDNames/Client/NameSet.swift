import P2PDNet

/// The name servers of one TLD. What a majority of them says is so.
public struct NameSet: Hashable, Sendable {
  public let tld: String
  public let servers: [NameServerURL]

  /// How many servers must agree: one more than half.
  public var majority: Int { servers.count / 2 + 1 }

  /// - Throws: `bad_name` for the TLD, `limit` for no servers or more than ``maximum``; a server named twice counts once.
  public init(tld: String, servers: [NameServerURL]) throws(NetError) {
    self.tld = try LabelRules.tld(tld)
    var distinct: [NameServerURL] = []
    for server in servers where !distinct.contains(server) { distinct.append(server) }
    guard (1...Self.maximum).contains(distinct.count) else {
      throw NetError(
        .limit, "take the name servers of .\(tld)", cause: "there are \(distinct.count)",
        remedy: "Give it 1 to \(Self.maximum) servers; three bear the loss of any one.")
    }
    self.servers = distinct
  }

  public static let maximum = 15
}
