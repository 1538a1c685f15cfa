import NIOCore
import P2PDNet

/// Looks up the servers' names beside those who ask the servers, who would call a server silent whose name nobody answers
/// for. Confined to its loop.
final class NetcheckLookups {
  struct Findings: Sendable {
    /// How many names there are.
    var all = 0
    /// Those that have no address, or of which none was told in time.
    var unknown: Set<String> = []

    /// Not one of them could be looked up.
    var areAllUnknown: Bool { all > 0 && unknown.count == all }
  }

  private(set) var findings = Findings()

  init(_ servers: [ServerURL], patience: TimeAmount, on loop: any EventLoop) {
    let names = Set(servers.map(\.host).filter { IPAddress($0) == nil && $0 != "localhost" })
    guard let network = try? loop.requireNetwork("look up the servers") else { return }
    findings = Findings(all: names.count, unknown: names)
    for name in names {
      network.resolve(name, families: AddressFamily.allCases, timeout: patience).assumeIsolated().whenSuccess { _ in
        self.findings.unknown.remove(name)
      }
    }
  }
}

extension NetcheckFindings {
  /// Servers that were not silent, but could not be asked.
  mutating func mark(_ lookups: NetcheckLookups.Findings) {
    self.lookups = lookups
    let unknown = Set(servers.all.filter { lookups.unknown.contains($0.host) }.map(\.description))
    for path in [\NetcheckFindings.brokers, \.stun, \.relays, \.names] as [WritableKeyPath<Self, [ServerFinding]>] {
      for index in self[keyPath: path].indices {
        let finding = self[keyPath: path][index]
        guard finding.outcome == .silent, unknown.contains(finding.server) else { continue }
        self[keyPath: path][index].outcome = .noName
        self[keyPath: path][index].problem = Self.noName
      }
    }
    for index in clock?.servers.indices ?? 0..<0 {
      guard let server = clock?.servers[index], server.reading == nil, unknown.contains(server.server) else { continue }
      clock?.servers[index].problem = Self.noName
    }
  }

  private static let noName = "its name cannot be looked up"
}
