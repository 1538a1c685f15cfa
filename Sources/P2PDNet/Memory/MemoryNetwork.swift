import NIOCore

/// A network of simulated hosts, in memory and in virtual time. What happens in it depends on nothing but what the hosts
/// do and on the seed. Confined to the thread of its ``VirtualTime``.
public final class MemoryNetwork: @unchecked Sendable {
  public let time: VirtualTime
  public private(set) var seed: UInt64
  public private(set) var hosts: [MemoryHost] = []
  /// Links that nobody has changed.
  public var standard = LinkConditions() {
    didSet { for pair in links.keys where !changed.contains(pair) { links[pair]?.conditions = standard } }
  }
  /// Names that whoever asks for waits in vain.
  public var muteNames: Set<String> = []
  /// Told what happens, a line each: `a:49152 > b:7 connects`.
  public var onEvent: ((String) -> Void)?

  private struct Pair: Hashable {
    let low, high: Int
  }
  private var links: [Pair: MemoryLink] = [:]
  private var changed: Set<Pair> = []
  private var byAddress: [IPAddress: MemoryHost] = [:]

  public init(_ time: VirtualTime, seed: UInt64) {
    self.time = time
    self.seed = seed
  }

  /// Adds a host.
  /// - Parameter addresses: that no other has; nil gives it `10.0.0.N` and `fd00::N`.
  public func addHost(_ name: String, addresses: [IPAddress]? = nil) -> MemoryHost {
    let number = hosts.count + 1
    let host = MemoryHost(
      name, number: number, in: self,
      addresses: addresses ?? [
        IPAddress(family: .v4, high: (UInt64(10) << 24 | UInt64(number & 0xff_ffff)) << 32, low: 0),
        IPAddress(family: .v6, high: 0xfd00 << 48, low: UInt64(number)),
      ])
    hosts.append(host)
    for address in host.addresses { byAddress[address] = host }
    return host
  }

  /// Begins anew: open streams are dropped without a word, hosts (but the first, if it is asked to stay) and links are
  /// forgotten. With a new seed.
  public func reset(seed: UInt64, keeping first: MemoryHost? = nil) {
    for host in hosts { host.end() }
    hosts = first.map { [$0] } ?? []
    links = [:]
    changed = []
    muteNames = []
    byAddress = [:]
    for host in hosts { for address in host.addresses { byAddress[address] = host } }
    standard = LinkConditions()
    self.seed = seed
  }

  // MARK: Conditions

  public func conditions(_ a: MemoryHost, _ b: MemoryHost) -> LinkConditions { link(a, b) { $0.conditions } }

  public func change(_ a: MemoryHost, _ b: MemoryHost, _ body: (inout LinkConditions) -> Void) {
    changed.insert(pair(a, b))
    link(a, b) { body(&$0.conditions) }
  }

  /// Cuts every stream between the two: both ends hear of a reset.
  public func cut(_ a: MemoryHost, _ b: MemoryHost) {
    for stream in a.streams(to: b) { stream.resetBothEnds() }
  }

  // MARK: For hosts

  func host(at ip: IPAddress, from asking: MemoryHost) -> MemoryHost? { ip.isLoopback ? asking : byAddress[ip] }
  func host(named name: String) -> MemoryHost? { hosts.first { $0.name == name } }

  /// Nothing that either sends gets to the other. A host always reaches itself.
  func isCut(_ a: MemoryHost, _ b: MemoryHost) -> Bool {
    a !== b && (a.hasVanished || b.hasVanished || link(a, b) { $0.conditions.isCut })
  }

  func datagramDelay(_ bytes: Int, from a: MemoryHost, to b: MemoryHost) -> TimeAmount? {
    if a === b { return .zero }
    return link(a, b) { $0.datagram(bytes, forward: a.number < b.number, now: time.now) }
  }

  func streamDelay(_ bytes: Int, from a: MemoryHost, to b: MemoryHost, firstRetry: TimeAmount) -> TimeAmount {
    if a === b { return .zero }
    return link(a, b) { $0.segment(bytes, forward: a.number < b.number, now: time.now, firstRetry: firstRetry) }
  }

  func tell(_ event: @autoclosure () -> String) {
    if let onEvent { onEvent(event()) }
  }

  private func pair(_ a: MemoryHost, _ b: MemoryHost) -> Pair {
    Pair(low: min(a.number, b.number), high: max(a.number, b.number))
  }

  /// Each link has luck of its own, so that traffic elsewhere does not change it.
  private func link<T>(_ a: MemoryHost, _ b: MemoryHost, _ body: (inout MemoryLink) -> T) -> T {
    let pair = pair(a, b)
    var mixer = SplitMix64(seed ^ UInt64(pair.low) << 32 ^ UInt64(pair.high))
    var link = links[pair] ?? MemoryLink(standard, seed: mixer.next())
    defer { links[pair] = link }
    return body(&link)
  }
}
