import P2PDNet
import P2PDTraversal

/// How one of the node's addresses looks from outside, as far as it was measured. *Unknown* is not *none*.
struct OutsideView: Hashable {
  var external = ExternalAddress.unknown
  var nat: NATFacts?
}

extension OutsideView {
  /// - Parameters:
  ///   - port: the one the node listens on.
  ///   - mapped: where a router keeps it open.
  init(
    of ip: IPAddress, on interface: NetworkInterface, port: UInt16, by knowledge: NetworkKnowledge, mapped: Endpoint?
  ) {
    self.init()
    if let mapped { external = .at(mapped) }
    guard !ip.isLoopback, !ip.isLinkLocal, let report = knowledge.report(interface: interface.name, of: ip) else {
      return
    }
    nat = NATFacts(report)
    guard mapped == nil else { return }
    let isTranslated = (report.tcp.mapping ?? report.udp.mapping) != NATBehaviour.Mapping.none
    if !isTranslated {
      // Also a further address of the same interface, which was not measured itself.
      external = .at(Endpoint(ip: ip, port: port))
    } else if let seen = report.external.first, seen.family == ip.family {
      // Which outside port leads to the listening one, if any, only a port mapping tells.
      external = .at(Endpoint(ip: seen, port: 0))
    } else if report.isComplete, !report.hasAnswer, knowledge.hasAnswer(ip.family) {
      // The servers live: it is this path that leads nowhere.
      external = .none
    }
  }
}

extension NATFacts {
  /// nil where nothing was found out.
  init?(_ report: NATReport) {
    let delta = report.p2pdDelta
    let type = NATType(rawValue: report.p2pdType) ?? .unknown
    let kind = DeltaType(rawValue: delta.type) ?? .unknown
    guard type != .unknown || kind != .unknown else { return nil }
    self.init(type: type, delta: kind, value: Int32(clamping: delta.value))
  }
}
