import NIOCore
import P2PDNet
import P2PDTraversal

/// The findings for a person.
enum NetcheckText {
  static func lines(_ findings: NetcheckFindings) -> String {
    var out = section("Interfaces", interfaces(findings.snapshot))
    out += section("Seen from outside", findings.paths.flatMap { path($0, findings) })
    out += section("Port mapping", routers(findings.routers))
    for (title, found) in [
      ("Brokers (MQTT)", findings.brokers), ("STUN servers", findings.stun), ("Relays (TURN)", findings.relays),
      ("Name servers", findings.names),
    ] {
      out += section(title, found.isEmpty ? ["none is configured"] : servers(found))
    }
    out += section("Clock", clock(findings.clock))
    out += section("Blocked", findings.blocked.isEmpty ? ["nothing that was tried"] : findings.blocked)
    return out + section("Advice", [NetcheckAdvice(findings).sentence(findings)])
  }

  private static func section(_ title: String, _ lines: [String]) -> String {
    lines.isEmpty ? "" : "\(title)\n" + lines.map { "  \(Printable.line($0))\n" }.joined() + "\n"
  }

  private static func interfaces(_ snapshot: NetworkSnapshot) -> [String] {
    let used = snapshot.interfaces.filter { !$0.isLoopback }
    var table = TextTable()
    for nic in used {
      let defaults = AddressFamily.allCases.filter { snapshot.isDefault(nic, $0) }.map(\.description)
      let addresses = nic.addresses.filter(\.isUsable).map(\.description).joined(separator: ", ")
      table.add([
        nic.name, nic.isUp ? "up" : "down", addresses.isEmpty ? "no address" : addresses,
        defaults.isEmpty ? "" : "default for \(defaults.joined(separator: " and "))",
      ])
    }
    return used.isEmpty ? ["none"] : table.lines
  }

  private static func path(_ report: NATReport, _ findings: NetcheckFindings) -> [String] {
    var out = ["\(report.interface) \(report.family) \(report.local)"]
    if !report.external.isEmpty {
      out.append("  outside address: \(report.external.map(\.description).joined(separator: ", "))")
    }
    out += sentences(report, findings).map { "  \($0)" }
    if report.hasAnswer {
      out.append("  UDP: \(facts(report.udp)); TCP: \(facts(report.tcp))")
      let delta = report.p2pdDelta
      out.append(
        "  P2PD: NAT type \(report.p2pdType), delta type \(delta.type)"
          + (delta.value == 0 ? "" : ", value \(delta.value)"))
    }
    // A server that contradicts the others or fails on this path alone.
    out +=
      !report.hasAnswer
      ? []
      : report.servers.filter { !$0.isSecond }.compactMap { finding in
        finding.problem.map { "  \(finding.means) \(finding.server): \($0)" }
      }
    return out
  }

  /// Silence on one way out of several means something else than silence on the only one.
  private static func sentences(_ report: NATReport, _ findings: NetcheckFindings) -> [String] {
    if findings.servers.stun.isEmpty { return ["Not measured: no STUN server is configured."] }
    if report.servers.isEmpty, findings.lookups.areAllUnknown {
      return ["Not measured: no STUN server's name can be looked up (DNS)."]
    }
    if report.servers.isEmpty {
      return ["Not measured: no STUN server has an \(report.family) address, or finding one took too long."]
    }
    if findings.isBeside(report) {
      return ["No server answers by it: good for its own network, and for nothing beyond."]
    }
    return report.sentences
  }

  static func routers(_ found: NetcheckRouters.Findings) -> [String] {
    found.routers.flatMap { router -> [String] in
      let name = router.router.map { "\($0), " } ?? ""
      var out = ["\(name)\(router.path.gateway) on \(router.path.interface)"]
      let answers = PortMappingProtocol.allCases.compactMap { by in router.answers[by].map { "\(by) \(words($0))" } }
      out.append("  " + (answers.isEmpty ? "not asked" : answers.joined(separator: "; ")))
      for mapping in found.mappings where mapping.path == router.path {
        out.append(
          "  " + (mapping.distrust.map { "of no use: \($0)" } ?? "reached from outside at \(mapping.external.ip)"))
      }
      return out
    }
  }

  private static func words(_ answer: PortMappingFinding.Answer) -> String {
    switch answer {
    case .silent: "is silent"
    case .answered: "is there"
    case .granted: "opens a port"
    case .refused(let why): "refuses: \(why)"
    }
  }

  private static func facts(_ behaviour: NATBehaviour) -> String {
    if let reach = behaviour.reach, reach != .answered { return reach.rawValue }
    let mapping = behaviour.mapping?.rawValue.replacing("_", with: " ") ?? "unknown"
    let filtering = behaviour.filtering?.rawValue.replacing("_", with: " ") ?? "unknown"
    let ports = behaviour.allocation.map { allocation in
      allocation.description + (allocation.range.map { " of \($0.lowerBound) to \($0.upperBound)" } ?? "")
    }
    return "mapping \(mapping), filtering \(filtering), ports \(ports ?? "unknown")"
  }

  static func servers(_ findings: [ServerFinding]) -> [String] {
    var table = TextTable()
    for finding in findings { table.add([finding.server, words(finding)]) }
    return table.lines
  }

  private static func words(_ finding: ServerFinding) -> String {
    let why = finding.problem.map { ": \($0)" } ?? ""
    switch finding.outcome {
    case .answered:
      var out = "answers"
      if let time = finding.roundTrip { out += " in \(milliseconds(time))" }
      if let time = finding.setup { out += ", ready after \(milliseconds(time))" }
      if let address = finding.address { out += ", relays at \(address.ip)" }
      return out
    case .rejected: return "lets this host do nothing\(why)"
    case .refused: return "refuses the connection"
    case .silent: return "is silent\(why)"
    case .unreachable: return "cannot be reached\(why)"
    case .noName: return "has no address\(why)"
    case .certificate: return "is not to be trusted\(why)"
    case .garbled: return "is something else\(why)"
    case .failed: return "is of no use\(why)"
    }
  }

  static func clock(_ report: ClockReport?) -> [String] {
    guard let report else { return ["not measured in time"] }
    var out: [String] = []
    if report.servers.isEmpty { return ["no time server is configured"] }
    if let reading = report.reading {
      let error = "give or take \(milliseconds(reading.error))"
      let isRight = abs(reading.offset.nanoseconds) <= reading.error.nanoseconds
      out.append("this machine's clock is \(isRight ? "right" : drift(reading.offset)), \(error)")
    } else {
      out.append(
        "not known: \(report.servers.contains { $0.reading != nil } ? "the servers contradict each other" : "no server tells the time")"
      )
    }
    var table = TextTable()
    for server in report.servers {
      var words = server.reading.map { "\(drift($0.offset)) by it, answers in \(milliseconds($0.roundTrip))" } ?? ""
      if let problem = server.problem { words += (words.isEmpty ? "" : "; ") + problem }
      table.add([server.server, words])
    }
    return out + table.lines
  }

  /// How far off a clock is to which `offset` must be added: `2.5 s slow`.
  static func drift(_ offset: TimeAmount) -> String {
    let seconds = Double(abs(offset.nanoseconds)) / 1e9
    return "\(Figures.time(seconds)) \(offset.nanoseconds < 0 ? "fast" : "slow")"
  }

  private static func milliseconds(_ time: TimeAmount) -> String { Figures.time(Double(time.nanoseconds) / 1e9) }
}
