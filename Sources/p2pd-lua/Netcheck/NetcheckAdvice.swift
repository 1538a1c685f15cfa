import NIOCore
import P2PDTraversal

/// The one thing to do that helps most. The cases are in the order of what stands in the way of all that follows.
enum NetcheckAdvice: String, CaseIterable, Sendable {
  /// No interface has an address.
  case connect
  /// Nobody outside answers.
  case checkNetwork = "check_network"
  /// No name can be looked up.
  case fixDNS = "fix_dns"
  /// The clock is too far off for signals and certificates.
  case setClock = "set_clock"
  /// No broker answers: other nodes cannot call this one.
  case findBroker = "find_broker"
  /// Nothing stands in the way.
  case nothing
  /// The router opens a port where it is asked.
  case portOpens = "port_opens"
  /// A carrier's NAT.
  case askProvider = "ask_provider"
  /// A second router within the house.
  case secondRouter = "second_router"
  /// A symmetric NAT and no relay.
  case configureRelay = "configure_relay"
  /// A symmetric NAT, and a relay for whom nothing else works.
  case relayHelps = "relay_helps"
  /// An ordinary NAT.
  case openPort = "open_port"
  /// No NAT, but a firewall, or nobody knows whether there is one.
  case openFirewall = "open_firewall"

  init(_ findings: NetcheckFindings) {
    let reached = findings.paths.filter(\.hasAnswer)
    func some(_ test: (NATReport) -> Bool) -> Bool { reached.contains(where: test) }
    if !findings.hasInterface {
      self = .connect
    } else if !findings.hasAnswer {
      self = .checkNetwork
    } else if findings.lookups.areAllUnknown {
      self = .fixDNS
    } else if let off = findings.clockError, abs(off.nanoseconds) > Self.clockTolerance.nanoseconds {
      self = .setClock
    } else if !findings.servers.brokers.isEmpty, !findings.brokers.isEmpty, !findings.hasBroker {
      self = .findBroker
    } else if some({ $0.udp.filtering == NATBehaviour.Filtering.none }) {
      self = .nothing
    } else if findings.hasMapping {
      self = .portOpens
    } else if some({ $0.carrierNAT == true }) || findings.outerAddress?.isShared == true {
      self = findings.hasRelay ? .relayHelps : .askProvider
    } else if findings.outerAddress != nil {
      self = .secondRouter
    } else if !reached.isEmpty, reached.allSatisfy({ $0.leading.mapping == NATBehaviour.Mapping.none }) {
      self = .openFirewall
    } else if reached.isEmpty || some({ $0.leading.mapping == nil || $0.leading.mapping?.isPredictable == true }) {
      self = .openPort
    } else {
      self = findings.hasRelay ? .relayHelps : .configureRelay
    }
  }

  func sentence(_ findings: NetcheckFindings) -> String {
    switch self {
    case .connect: return "Connect this machine to a network: no interface has an address."
    case .checkNetwork:
      return "Check the cable, the Wi-Fi and the firewall: nothing on the Internet answered"
        + (findings.lookups.areAllUnknown ? ", and no server's name could be looked up (DNS)." : ".")
    case .fixDNS:
      return
        "Set this machine's name servers right (DNS, `/etc/resolv.conf`): none of the servers' names can be looked "
        + "up, though others answer."
    case .setClock:
      let off = findings.clockError ?? .zero
      return "Set this machine's clock, which is \(NetcheckText.drift(off)) (`timedatectl set-ntp true`): "
        + "other nodes refuse signals that are more than a minute old or early."
    case .findBroker:
      return findings.brokers.contains { $0.outcome == .certificate }
        ? "Give the certificate authority of the brokers, or name others: none of them can be trusted, and without one "
          + "other nodes cannot call this one."
        : "Name a broker that can be reached from here (docs/servers tells how to host one): none answers, and without "
          + "one other nodes cannot call this one."
    case .nothing: return "Nothing is needed: others can connect to this host directly."
    case .portOpens:
      return "Nothing is needed: the router opens a port for a node, so others can connect to it directly."
    case .askProvider:
      return
        "Ask the provider for IPv6 or a public address, or configure a relay: the provider's NAT stands in the way."
    case .secondRouter:
      return
        "Let the router before this one do without address translation (bridge mode), or forward a port there too: "
        + "two routers in a row translate addresses, and the outer one opens no port."
    case .configureRelay:
      return "Configure a relay (TURN), or forward a port at the router: hole punching alone will often fail here."
    case .relayHelps:
      return "Nothing is needed: where hole punching fails, the relay takes over. Forward a port at the router to be "
        + "reached without it."
    case .openFirewall:
      let isKnown = findings.paths.contains { $0.udp.filtering != nil }
      return
        (isKnown
        ? "Let the firewall, on this host or before it, pass TCP to the node's port (`run --port` chooses it)"
        : "See that no firewall, on this host or before it, shuts the node's port (`run --port` chooses it): "
          + "no server could tell")
        + ", to be reached by all. Peers behind ordinary routers will be reached by hole punching in any case."
    case .openPort:
      let isKnown = findings.paths.contains { $0.leading.mapping?.isPredictable == true }
      let punch = "Peers behind ordinary routers will \(isKnown ? "" : "probably ")be reached by hole punching. "
      if let refusal = findings.routers.refusal {
        return punch + "Let the router open ports (its \(refusal.by) refuses: \(refusal.why)), or forward one, to be "
          + "reached by all."
      }
      return punch + "Allow UPnP or NAT-PMP at the router, or forward a port, to be reached by all."
    }
  }

  /// By which two nodes' clocks may differ for a signal to be taken.
  private static let clockTolerance: TimeAmount = .seconds(60)
}

extension NetcheckRouters.Findings {
  /// A protocol that is there and gives nothing.
  fileprivate var refusal: (by: PortMappingProtocol, why: String)? {
    for router in routers {
      for by in PortMappingProtocol.allCases {
        if case .refused(let why)? = router.answers[by] { return (by, why) }
      }
    }
    return nil
  }
}
