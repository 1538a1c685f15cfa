import NIOCore
import P2PDNet

/// How much of a node strangers may take up. Pipes that this node opened itself do not count.
public struct AcceptLimits: Sendable {
  /// Accepted pipes, unfinished handshakes included.
  public var pipes = 16_384
  /// Pipes of one node key.
  public var perKey = 128
  /// Pipes of one source: an IPv4 address, or an IPv6 /64, which is what one subscriber gets (RFC 6177).
  public var perSource = 512
  /// Connections that have not proven a key yet.
  public var handshakes = 1024
  /// The same of one source. Below the total, so that one source cannot keep all others out.
  public var handshakesPerSource = 64
  /// How long a handshake may take.
  public var handshakeTime = TimeAmount.seconds(10)

  public init() {}
}

/// The limit a connection ran into.
enum AcceptLimit: String, CaseIterable {
  case pipes = "pipes in all"
  case perKey = "pipes per node key"
  case perSource = "pipes per source address"
  case handshakes = "unfinished handshakes"
  case handshakesPerSource = "unfinished handshakes per source address"
}

/// Counts who is here and says who may come. Pure; the caller reports each connection as
/// `admit` → `proven` or `failed`, and after a `proven` that was let in → `ended`.
struct AcceptCounter {
  var limits: AcceptLimits
  private(set) var pipes = 0
  private(set) var handshakes = 0
  private var sources: [IPAddress: (pipes: Int, handshakes: Int)] = [:]
  private var keys: [NodeKey: Int] = [:]

  init(_ limits: AcceptLimits) { self.limits = limits }

  /// A connection came in. nil lets it try to prove its key; otherwise it is not counted and must be cut.
  mutating func admit(_ address: IPAddress) -> AcceptLimit? {
    let source = Self.source(address)
    let here = sources[source] ?? (0, 0)
    if pipes + handshakes >= limits.pipes { return .pipes }
    if handshakes >= limits.handshakes { return .handshakes }
    if here.handshakes >= limits.handshakesPerSource { return .handshakesPerSource }
    if here.pipes + here.handshakes >= limits.perSource { return .perSource }
    handshakes += 1
    sources[source] = (here.pipes, here.handshakes + 1)
    return nil
  }

  /// An admitted connection ended without a proven key.
  mutating func failed(_ address: IPAddress) {
    handshakes -= 1
    change(Self.source(address), handshakes: -1)
  }

  /// An admitted connection proved its key. nil lets it in; otherwise it is forgotten and must be cut.
  mutating func proven(_ address: IPAddress, _ key: NodeKey) -> AcceptLimit? {
    failed(address)
    let count = keys[key] ?? 0
    if count >= limits.perKey { return .perKey }
    keys[key] = count + 1
    pipes += 1
    change(Self.source(address), pipes: 1)
    return nil
  }

  /// A pipe that was let in is over.
  mutating func ended(_ address: IPAddress, _ key: NodeKey) {
    pipes -= 1
    change(Self.source(address), pipes: -1)
    keys[key] = keys[key].flatMap { $0 > 1 ? $0 - 1 : nil }
  }

  /// No entry outlives what it counts, or strangers could fill the tables.
  var tableSizes: (sources: Int, keys: Int) { (sources.count, keys.count) }

  private mutating func change(_ source: IPAddress, pipes: Int = 0, handshakes: Int = 0) {
    let here = sources[source] ?? (0, 0)
    let next = (pipes: here.pipes + pipes, handshakes: here.handshakes + handshakes)
    sources[source] = next.pipes > 0 || next.handshakes > 0 ? next : nil
  }

  private static func source(_ address: IPAddress) -> IPAddress {
    let address = address.unmapped
    return address.family == .v4 ? address : IPAddress(family: .v6, high: address.high, low: 0)
  }
}

/// Lets one line per limit through in ten seconds, so that a flood of strangers is not also a flood of log lines.
struct RefusalLog {
  private var last: [AcceptLimit: NIODeadline] = [:]
  private var held: [AcceptLimit: Int] = [:]

  /// nil: say nothing now. Otherwise how many refusals went unsaid before this one.
  mutating func refused(_ limit: AcceptLimit, now: NIODeadline) -> Int? {
    if let last = last[limit], now - last < Self.pause {
      held[limit, default: 0] += 1
      return nil
    }
    last[limit] = now
    return held.removeValue(forKey: limit) ?? 0
  }

  private static let pause = TimeAmount.seconds(10)
}
