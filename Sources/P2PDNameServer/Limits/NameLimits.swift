/// How much a server keeps and does for whom. Every bound has its figure here or in ``NameServerConfiguration``.
public struct NameLimits: Sendable, Equatable {
  /// Names that one key may hold.
  public var namesPerKey = 64
  /// Names that may be registered from one source (``Source``). More than a key's, since many share a provider's address.
  public var namesPerSource = 256
  /// Names in all; beyond, nothing new is registered until some expire. A million take about 1 GB of disk.
  public var names = 1_000_000
  /// Pushes and deletions a source may send in a second, and at once.
  public var pushesPerSecond = 5.0
  public var pushBurst = 100.0
  /// Lookups and the rest.
  public var lookupsPerSecond = 100.0
  public var lookupBurst = 1000.0
  /// Connections of one source and in all. Those beyond are told so and closed.
  public var connectionsPerSource = 256
  public var connections = 4096

  public init() {}
}
