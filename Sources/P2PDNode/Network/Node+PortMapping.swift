import Logging
import NIOCore
import P2PDNet
import P2PDTraversal

/// The node's port, kept open in the routers before it. What must be known to have the same mapping after a restart lies
/// in the state folder.
extension Node {
  /// - Parameters:
  ///   - folder: to keep the memory in; nil keeps none.
  ///   - memory: of the run before.
  func portMappingStarted(_ folder: StateFolder?, _ memory: PortMappingMemory) {
    guard configuration.mapsPorts else { return }
    let mapper = PortMapper(ports: [.init(.tcp, port)], memory: memory, on: loop)
    portMapper = mapper
    var kept = memory
    var told: [PortMapping] = []
    var outside: [PortMappingPath: IPAddress] = [:]
    mapper.changed = { [weak self, weak mapper] in
      guard let self, let mapper else { return }
      if mapper.memory != kept {
        kept = mapper.memory
        if let folder { keep(kept, in: folder) }
      }
      let now = mapper.mappings
      guard now != told else { return }
      log(now, before: told)
      told = now
      knowledge.learn(now)
      // The router has another address than before: what servers said of the old one is out of date.
      let hasMoved = now.contains { outside[$0.path].map { [new = $0.external.ip] old in old != new } ?? false }
      for mapping in now { outside[mapping.path] = mapping.external.ip }
      if hasMoved { knowledge.refresh() }
      renewLater()
    }
    updatePortMapping()
  }

  /// The interfaces are others, or new ones.
  func updatePortMapping() {
    let served = acceptors.map(\.endpoint.ip)
    portMapper?.update(snapshot, only: configuration.interfaces) { local in
      served.contains { $0.isSameHost(as: local) || $0.isWildcard && $0.family == local.family }
    }
  }

  /// Where a router keeps the node's port open for that address; nil while STUN servers may still say otherwise.
  func mapped(_ ip: IPAddress, on interface: NetworkInterface) -> Endpoint? {
    guard let mapping = portMapper?.mappings.first(where: { $0.path.local == ip && $0.isTrusted }) else { return nil }
    let isAsked = !configuration.servers.stun.isEmpty
    if mapping.trust == .unverified, isAsked, knowledge.report(interface: interface.name, of: ip)?.isComplete != true {
      return nil
    }
    return mapping.external
  }

  private func log(_ now: [PortMapping], before: [PortMapping]) {
    for mapping in now
    where !before.contains(where: { $0.external == mapping.external && $0.isTrusted == mapping.isTrusted }) {
      let facts: Logger.Metadata = [
        "port": "\(mapping.external)", "by": "\(mapping.by)", "router": "\(mapping.path.gateway)",
      ]
      if let why = mapping.distrust {
        logger.info("the router opened a port that leads nowhere: \(why)", metadata: facts)
      } else {
        logger.debug("the router opened a port", metadata: facts)
      }
    }
  }

  private func keep(_ memory: PortMappingMemory, in folder: StateFolder) {
    let (loop, logger, before) = (loop, logger, keeping)
    // One after another: the later memory is the one that stays.
    keeping = loop.run {
      try? await before?.get()
      do {
        try await loop.offload { try folder.locked { try folder.write(Array(memory.text.utf8), to: Node.mappingFile) } }
      } catch {
        logger.debug("the port mappings cannot be kept for the next start", metadata: ["error": "\(error)"])
      }
    }
  }

  static let mappingFile = "mappings"
}

extension NodeConfiguration {
  /// See ``portMapping``.
  var mapsPorts: Bool {
    let hasServers = !(servers.stun.isEmpty && servers.brokers.isEmpty)
    return !offline && (portMapping ?? hasServers)
  }
}
