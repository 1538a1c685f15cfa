import NIOCore
import P2PDNames
import P2PDNet

/// The names of a simulated world, in memory: what name servers are to nodes that have a network. The first key that
/// takes a name has it. All nodes that share one are confined to one thread.
public final class NameTable: @unchecked Sendable {
  private var records: [PeerName: (key: [UInt8], address: String)] = [:]

  public init() {}

  /// Forgets all names.
  public func removeAll() { records = [:] }

  func find(_ name: PeerName) -> NameFinding {
    guard let record = records[name] else { return NameFinding(.servers, .absent, by: Self.teller) }
    return NameFinding(.servers, .found(key: record.key, address: record.address), by: Self.teller)
  }

  func push(_ name: PeerName, _ address: String, as key: [UInt8]) throws(NetError) {
    try check(name, key, "register \(name)")
    guard records[name] != nil || records.count < Self.most else {
      throw NetError(.limit, "register \(name)", cause: "there are \(Self.most) names already")
    }
    records[name] = (key, address)
  }

  func delete(_ name: PeerName, as key: [UInt8]) throws(NetError) {
    guard records[name] != nil else { throw NetError(.notFound, "delete \(name)", cause: "nobody has this name") }
    try check(name, key, "delete \(name)")
    records[name] = nil
  }

  private func check(_ name: PeerName, _ key: [UInt8], _ what: String) throws(NetError) {
    guard let record = records[name], record.key != key else { return }
    throw NetError(.taken, what, cause: "another node has this name")
  }

  private static let teller = "this simulated world"
  private static let most = 10_000
}
