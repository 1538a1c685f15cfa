import NIOCore
import P2PDNet
import P2PDTraversal

/// What a look at the network found. What was not finished in time is missing, which is not the same as bad.
struct NetcheckFindings: Sendable {
  var snapshot: NetworkSnapshot
  /// Whom it asked.
  var servers: ServerList
  /// By interface and family.
  var paths: [NATReport] = []
  var routers = NetcheckRouters.Findings()
  var brokers: [ServerFinding] = []
  var stun: [ServerFinding] = []
  var relays: [ServerFinding] = []
  var names: [ServerFinding] = []
  var clock: ClockReport?
  var lookups = NetcheckLookups.Findings()
  var took: TimeAmount = .zero

  init(snapshot: NetworkSnapshot, servers: ServerList) {
    self.snapshot = snapshot
    self.servers = servers
  }

  /// Somebody beyond this host's own network answered.
  var hasAnswer: Bool {
    paths.contains(where: \.hasAnswer) || (brokers + stun + relays + names).contains { $0.isAlive } || clockIsKnown
  }

  var clockIsKnown: Bool { clock?.servers.contains { $0.reading != nil } ?? false }
  var hasBroker: Bool { brokers.contains { $0.outcome == .answered } }
  var hasRelay: Bool { relays.contains { $0.outcome == .answered } }

  /// A router opened a port, and others can be told of it.
  var hasMapping: Bool { routers.mappings.contains(where: \.isTrusted) }

  /// The outside address of a router that opened a port, where it is no outside address yet.
  var outerAddress: IPAddress? {
    routers.mappings.first { $0.trust == .privateAddress }?.external.ip
  }

  /// There is an interface with an address to speak from.
  var hasInterface: Bool {
    snapshot.interfaces.contains { $0.isUp && !$0.isLoopback && !$0.supported.isEmpty }
  }

  /// How far the clock is off, where that is known to be so.
  var clockError: TimeAmount? {
    guard let reading = clock?.reading else { return nil }
    return abs(reading.offset.nanoseconds) > reading.error.nanoseconds ? reading.offset : nil
  }

  /// What does not get through, a sentence each.
  var blocked: [String] {
    let names = lookups.areAllUnknown ? ["DNS: none of \(lookups.all) server names can be looked up."] : []
    guard hasAnswer else { return hasInterface ? ["Everything: nobody on the Internet answers."] + names : [] }
    var out = names
    for path in paths {
      let name = "\(path.interface) \(path.family)"
      if path.udp.reach == .blocked { out.append("UDP on \(name): servers answer over TCP only.") }
      if path.udp.reach == .silent, path.tcp.reach == .silent, !isBeside(path) {
        out.append("Everything on \(name): no server answers there.")
      }
    }
    out += ports.sorted { $0.key < $1.key }.compactMap { place, counts in
      // One server that is silent is more likely to be down itself.
      guard counts.answered == 0, counts.silent > 1, counts.silent == counts.all else { return nil }
      return "\(place.name): none of \(counts.all) servers answers there."
    }
    return out
  }

  /// A silent way out beside others of its family that answer, and not the one that packets take: a bridge to guests of
  /// this machine, an address for the local network.
  func isBeside(_ path: NATReport) -> Bool {
    guard !path.hasAnswer else { return false }
    let answering = paths.filter { $0.family == path.family && $0.hasAnswer }
    let isDefault = snapshot.interfaces.first { $0.name == path.interface }.map { snapshot.isDefault($0, path.family) }
    return answering.contains { $0.interface == path.interface } || !answering.isEmpty && isDefault != true
  }

  private struct Place: Hashable, Comparable {
    var port: UInt16
    var isTCP: Bool
    var name: String { "\(isTCP ? "TCP" : "UDP") port \(port)" }
    static func < (a: Place, b: Place) -> Bool { (a.port, a.isTCP ? 1 : 0) < (b.port, b.isTCP ? 1 : 0) }
  }

  /// How the servers at each port did.
  private var ports: [Place: (all: Int, answered: Int, silent: Int)] {
    var out: [Place: (all: Int, answered: Int, silent: Int)] = [:]
    let groups = [(servers.brokers, brokers), (servers.stun, stun), (servers.turn, relays), (servers.names, names)]
    for (urls, findings) in groups {
      for finding in findings {
        guard let url = urls.first(where: { $0.description == finding.server }) else { continue }
        // Relays are spoken to over TCP, whatever transport their URL names.
        let place = Place(port: url.port, isTCP: url.transport == .tcp || [.turn, .turns].contains(url.scheme))
        out[place, default: (0, 0, 0)].all += 1
        if finding.isAlive { out[place, default: (0, 0, 0)].answered += 1 }
        if finding.outcome == .silent || finding.outcome == .refused { out[place, default: (0, 0, 0)].silent += 1 }
      }
    }
    for finding in clock?.servers ?? [] {
      guard let url = servers.ntp.first(where: { $0.description == finding.server }) else { continue }
      let place = Place(port: url.port, isTCP: false)
      out[place, default: (0, 0, 0)].all += 1
      if finding.reading != nil { out[place, default: (0, 0, 0)].answered += 1 }
      if finding.problem?.hasPrefix("no answer") == true { out[place, default: (0, 0, 0)].silent += 1 }
    }
    return out
  }
}

extension ServerFinding {
  /// Something came back from it, good or bad.
  var isAlive: Bool { [.answered, .rejected, .certificate, .garbled].contains(outcome) }
}
