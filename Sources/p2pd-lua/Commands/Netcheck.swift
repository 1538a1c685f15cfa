import ArgumentParser
import NIOCore
import P2PDNet
import P2PDTraversal

struct Netcheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find out how this machine is connected to the Internet, and what that means for peers.",
    discussion: """
      Asks STUN servers over UDP and TCP how they see this machine. Nothing else is contacted.

      EXAMPLES
        p2pd-lua netcheck
        p2pd-lua netcheck --stun stun.example.net --stun 192.0.2.7:3478
        p2pd-lua netcheck --json | jq '.paths[].nat_type'
      """)

  @Flag(help: "Write JSON.")
  var json = false

  @Option(
    name: .customLong("stun"),
    help: ArgumentHelp(
      "A STUN server to ask, HOST or HOST:PORT; may be given several times. P2PD_STUN (separated by commas) stands in for it. Default: well-known public servers.",
      valueName: "server"))
  var stun: [String] = []

  @Option(name: .customLong("interface"), help: "Only this interface; may be given several times.")
  var interfaces: [String] = []

  func validate() throws { _ = try servers() }

  private func servers() throws -> [STUNServer] {
    if !stun.isEmpty { return try StunServers.read(stun) }
    return try StunServers.fromEnvironment() ?? STUNServer.wellKnown
  }

  func run() async throws {
    if try Environment.flag("P2PD_OFFLINE") {
      throw Failure(
        "netcheck asks servers on the Internet, and P2PD_OFFLINE forbids that", remedy: "Unset it for this.")
    }
    let snapshot: NetworkSnapshot
    do {
      snapshot = try NetworkSnapshot.current()
      for name in interfaces { _ = try snapshot.interface(named: name) }
    } catch {
      throw Failure("\(error)", remedy: "`\(Environment.program) ifs` lists the interfaces.")
    }
    let only = interfaces.isEmpty ? nil : interfaces
    let servers = try servers()
    let loop = Engine.loop
    let reports = try await loop.flatSubmit {
      let knowledge = NetworkKnowledge(servers: servers, on: loop)
      knowledge.update(snapshot, only: only)
      return knowledge.settled().map { () -> [NATReport] in
        knowledge.close()
        return knowledge.reports.sorted {
          ($0.key.index, $0.key.family.rawValue) < ($1.key.index, $1.key.family.rawValue)
        }
        .map(\.value)
      }
    }.get()
    if json {
      Console.shared.out(NetcheckText.json(reports, snapshot, servers).pretty + "\n")
    } else {
      Console.shared.out(NetcheckText.lines(reports, servers))
    }
  }
}

/// The findings in words and as JSON.
enum NetcheckText {
  static func lines(_ reports: [NATReport], _ servers: [STUNServer]) -> String {
    var out = ""
    for report in reports {
      out += "\(report.interface) \(report.family) \(report.local)\n"
      if !report.external.isEmpty {
        out += "    outside address: \(report.external.map(\.description).joined(separator: ", "))\n"
      }
      for sentence in report.sentences { out += "    \(sentence)\n" }
      if report.hasAnswer {
        out += "    UDP: \(facts(report.udp)); TCP: \(facts(report.tcp))\n"
        let delta = report.p2pdDelta
        out += "    P2PD: NAT type \(report.p2pdType), delta type \(delta.type)"
        out += delta.value == 0 ? "\n" : ", value \(delta.value)\n"
      }
      out += answers(report)
    }
    if reports.isEmpty { out += "No interface is up and has an address.\n" }
    return out + "\n" + NATReport.advice(reports) + "\n"
  }

  private static func facts(_ behaviour: NATBehaviour) -> String {
    if let reach = behaviour.reach, reach != .answered { return reach.rawValue }
    let mapping = behaviour.mapping?.rawValue.replacing("_", with: " ") ?? "unknown"
    let filtering = behaviour.filtering?.rawValue.replacing("_", with: " ") ?? "unknown"
    return "mapping \(mapping), filtering \(filtering), ports \(behaviour.allocation?.description ?? "unknown")"
  }

  private static func answers(_ report: NATReport) -> String {
    report.servers.map { finding in
      let name = "    \(finding.transport.rawValue) \(finding.server)"
      if let problem = finding.problem { return "\(name): \(problem)\n" }
      let time =
        finding.roundTrip.map { " in \($0.nanoseconds / 100_000 / 10).\($0.nanoseconds / 100_000 % 10) ms" } ?? ""
      return "\(name): \(finding.mapped.map(\.description) ?? "no answer")\(time)\n"
    }.joined()
  }

  static func json(_ reports: [NATReport], _ snapshot: NetworkSnapshot, _ servers: [STUNServer]) -> JSONText {
    .object([
      ("interfaces", .array(snapshot.interfaces.map { InterfaceText.json($0, in: snapshot) })),
      ("stun_servers", .array(servers.map { .string($0.description) })),
      ("paths", .array(reports.map(json))),
      ("advice", .string(NATReport.advice(reports))),
    ])
  }

  private static func json(_ report: NATReport) -> JSONText {
    let delta = report.p2pdDelta
    return .object([
      ("interface", .string(report.interface)), ("family", .string(report.family == .v4 ? "ipv4" : "ipv6")),
      ("local", .string(report.local.description)),
      ("external", .array(report.external.map { .string($0.description) })),
      ("udp", json(report.udp)), ("tcp", json(report.tcp)),
      ("hairpin", report.hairpin.map { .string($0.rawValue) } ?? .null),
      ("carrier_nat", report.carrierNAT.map { .bool($0) } ?? .null),
      ("nat_type", .int(Int(report.p2pdType))), ("delta_type", .int(Int(delta.type))),
      ("delta_value", .int(delta.value)),
      ("round_trip_us", microseconds(report.roundTrip)), ("complete", .bool(report.isComplete)),
      ("words", .array(report.sentences.map { .string($0) })),
      ("servers", .array(report.servers.map(json))),
    ])
  }

  private static func json(_ finding: NATReport.ServerFinding) -> JSONText {
    .object([
      ("server", .string(finding.server.description)), ("transport", .string(finding.transport.rawValue)),
      ("mapped", finding.mapped.map { .string($0.description) } ?? .null),
      ("round_trip_us", microseconds(finding.roundTrip)), ("problem", finding.problem.map { .string($0) } ?? .null),
    ])
  }

  private static func json(_ behaviour: NATBehaviour) -> JSONText {
    .object([
      ("reach", behaviour.reach.map { .string($0.rawValue) } ?? .null),
      ("mapping", behaviour.mapping.map { .string($0.rawValue) } ?? .null),
      ("filtering", behaviour.filtering.map { .string($0.rawValue) } ?? .null),
      ("allocation", behaviour.allocation.map(json) ?? .null),
      ("mapped", .array(behaviour.mapped.map { .string($0.description) })),
    ])
  }

  private static func json(_ allocation: PortAllocation) -> JSONText {
    func ports(_ range: ClosedRange<UInt16>) -> (String, JSONText) {
      ("range", .array([.int(Int(range.lowerBound)), .int(Int(range.upperBound))]))
    }
    switch allocation {
    case .preserving: return .object([("kind", .string("preserve"))])
    case .offset(let distance): return .object([("kind", .string("offset")), ("value", .int(distance))])
    case .sequential(let step, let range):
      return .object([("kind", .string("sequential")), ("value", .int(step)), ports(range)])
    case .random(let range): return .object([("kind", .string("random")), ports(range)])
    }
  }

  private static func microseconds(_ time: TimeAmount?) -> JSONText {
    time.map { .int(Int($0.nanoseconds / 1000)) } ?? .null
  }
}
