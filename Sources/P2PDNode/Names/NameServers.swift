import Logging
import NIOCore
import P2PDNames
import P2PDNet

/// A node's name servers: the sets of its configuration. Confined to its loop.
final class NameServers: @unchecked Sendable {
  let sets: [NameSet]
  private let client: NameClient
  private let table: NameTable?
  private let loop: any EventLoop

  init(_ configuration: NodeConfiguration, on loop: any EventLoop, logger: Logger) {
    sets = configuration.offline ? [] : configuration.servers.nameSets
    table = configuration.names.table
    var conf = NameClientConf()
    conf.caFile = configuration.caFile
    client = NameClient(sets: sets, conf: conf, on: loop, logger: logger)
    self.loop = loop
  }

  /// Whether there are servers for names of this ending.
  func knows(_ tld: String) -> Bool {
    if table != nil, tld == PeerName.defaultTLD { return true }
    return sets.contains { $0.tld == tld }
  }

  func ask(_ name: PeerName, all: Bool) -> EventLoopFuture<NameFinding> {
    if let table { return loop.makeSucceededFuture(table.find(name)) }
    return client.lookup(name, waitForAll: all).assumeIsolated().map { Self.finding($0) }.nonisolated()
  }

  func push(_ name: PeerName, _ address: String, as identity: Identity) -> EventLoopFuture<Void> {
    if let table { return loop.makeCompletedFuture { try table.push(name, address, as: identity.key.bytes) } }
    return client.push(name, value: address, as: identity.nameOwner).map { _ in }
  }

  func delete(_ name: PeerName, as identity: Identity) -> EventLoopFuture<Void> {
    if let table { return loop.makeCompletedFuture { try table.delete(name, as: identity.key.bytes) } }
    return client.delete(name, as: identity.nameOwner).map { _ in }
  }

  func close() { client.close() }

  private static func finding(_ answer: NameAnswer) -> NameFinding {
    let parts = answer.replies.map { reply in
      NameFinding.Part(reply.server.description, words(reply), took: reply.took)
    }
    let spoke = answer.replies.filter { if case .record = $0.word { true } else { false } }.count
    let teller = "\(spoke) of \(answer.replies.count)"
    switch answer.result {
    case .failure(let error) where error.code == .notFound:
      return NameFinding(.servers, .absent, by: "\(answer.replies.count) servers", parts: parts)
    case .failure(let error): return NameFinding(.servers, .failed(error), parts: parts)
    case .success(let record):
      do throws(NodeAddressError) {
        let address = try NodeAddress(record.value)
        guard address.key.bytes == record.key else {
          let error = NetError(
            .badRecord, "find \(record.name)", cause: "its owner registered another node's address")
          return NameFinding(.servers, .failed(error), by: teller, parts: parts)
        }
        return NameFinding(.servers, .found(key: record.key, address: record.value), by: teller, parts: parts)
      } catch {
        let why = NetError(.badRecord, "find \(record.name)", cause: "its value is \(error)")
        return NameFinding(.servers, .failed(why), by: teller, parts: parts)
      }
    }
  }

  private static func words(_ reply: ServerReply) -> String {
    switch reply.word {
    case .record(let record):
      let id = NodeKey(bytes: record.key)?.short ?? ""
      let what = record.isDeleted ? "given up by \(id)" : "\(id)"
      return "\(what), change \(record.sequence)" + (reply.isRepaired ? ", brought up to date" : "")
    case .nothing: return "does not know it"
    case .failed(let error): return error.cause.isEmpty ? error.code.rawValue : error.cause
    case .pending: return "had not answered yet"
    }
  }
}

extension Identity {
  /// As the owner of names.
  public var nameOwner: NameOwner {
    let identity = self
    return NameOwner(key: key.bytes) { try identity.sign($0) }
  }
}

extension ServerList {
  /// The configured sets; a URL that names no ending is of the default one. More servers than a set may have are left
  /// out.
  var nameSets: [NameSet] {
    var tlds: [String] = []
    var servers: [String: [NameServerURL]] = [:]
    for url in names {
      let tld = url.tld ?? PeerName.defaultTLD
      if servers[tld] == nil { tlds.append(tld) }
      servers[tld, default: []].append(
        NameServerURL(isTLS: url.scheme == .https, host: url.host, port: url.port))
    }
    return tlds.compactMap { tld in try? NameSet(tld: tld, servers: Array((servers[tld] ?? []).prefix(NameSet.maximum)))
    }
  }
}
