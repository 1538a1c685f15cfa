import NIOCore
import NIOHTTP1
import P2PDNames
import P2PDNet

/// The HTTP API: which request becomes which question to the registry, what its answer becomes, and how many of them a source
/// may ask. On the loop. docs/names-api.md describes it for those who use it.
final class NameAPI: RequestService {
  private let registry: NameRegistry
  private let connections: Connections
  private let version: String
  private let trustsProxy: Bool
  private let started = NIODeadline.now()
  private var pushes: KeyedRates<Source>
  private var lookups: KeyedRates<Source>
  private var metrics = ServerMetrics()
  private var calendar = HTTPDate()

  init(_ registry: NameRegistry, _ connections: Connections, limits: NameLimits, trustsProxy: Bool, version: String) {
    (self.registry, self.connections, self.version, self.trustsProxy) = (registry, connections, version, trustsProxy)
    pushes = KeyedRates(rate: limits.pushesPerSecond, burst: limits.pushBurst, capacity: Self.sources)
    lookups = KeyedRates(rate: limits.lookupsPerSecond, burst: limits.lookupBurst, capacity: Self.sources)
  }

  func answer(
    _ request: NameRequest, _ manner: RequestReader.Manner, _ peer: Source, _ done: @escaping (APIAnswer) -> Void
  ) {
    let isProxied = trustsProxy && peer.isLoopback
    let source = isProxied ? Source.forwarded(manner.forwarded) ?? peer : peer
    let now = NIODeadline.now()
    if case .push(let name, let body, let isDeletion) = request {
      guard pushes.allows(source, at: now) else { return done(tooFast(pushes.wait(source, at: now))) }
      return push(.init(json: body, name: name, isDeletion: isDeletion, now: registry.now), source, done)
    }
    guard lookups.allows(source, at: now) else { return done(tooFast(lookups.wait(source, at: now))) }
    switch request {
    case .lookup(let name):
      registry.lookup(name) { result in
        switch result {
        case .success(let found): done(found.map(APIAnswer.found) ?? .notFound)
        case .failure(let error): done(error.code == .limit ? .busy : .broken(error))
        }
      }
    case .status: done(.text(status.text + "\n", type: "application/json"))
    case .metrics: done(.text(metrics.text(gauges), type: "text/plain; version=0.0.4; charset=utf-8"))
    case .push: break
    }
  }

  func answered(_ method: HTTPMethod, _ status: HTTPResponseStatus, after time: TimeAmount) {
    metrics.answered(method, status, after: time)
  }

  func date() -> String { calendar.at(registry.now) }

  func refusedConnection() { metrics.refusedConnections += 1 }

  private func push(_ candidate: NameRegistry.Candidate, _ source: Source, _ done: @escaping (APIAnswer) -> Void) {
    registry.push(candidate, from: source) { pushed in
      switch pushed {
      case .busy: done(.busy)
      case .bad(let error): done(.refused(error))
      case .done(let record, let outcome): done(.pushed(record, outcome))
      }
    }
  }

  private func tooFast(_ wait: TimeAmount) -> APIAnswer { .tooFast(UInt64(wait.nanoseconds / 1_000_000_000) + 1) }

  private var uptime: Int { Int((NIODeadline.now() - started).nanoseconds / 1_000_000_000) }

  private var status: JSONText {
    .object([
      ("version", .string(version)), ("names", .int(registry.database.rows.load(ordering: .relaxed))),
      ("uptime", .int(uptime)), ("time", .int(Int(clamping: registry.now))),
    ])
  }

  private var gauges: ServerMetrics.Gauges {
    .init(
      names: registry.database.rows.load(ordering: .relaxed), connections: connections.count, uptime: uptime,
      storeBytes: registry.database.size, cacheHits: registry.hits, cacheMisses: registry.misses,
      transactions: registry.transactions, stored: registry.changes)
  }

  /// Sources whose rates are kept in mind.
  private static let sources = 65_536
}
