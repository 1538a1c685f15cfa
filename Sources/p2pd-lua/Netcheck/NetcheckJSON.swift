import NIOCore
import P2PDNet
import P2PDTraversal

/// The findings as JSON. docs/netcheck.md describes it: what is there stays, with its meaning; more may come. Times are
/// microseconds, null is *unknown*.
enum NetcheckJSON {
  static func object(_ findings: NetcheckFindings) -> JSONText {
    let advice = NetcheckAdvice(findings)
    return .object([
      ("format", .int(1)),
      ("interfaces", .array(findings.snapshot.interfaces.map { InterfaceText.json($0, in: findings.snapshot) })),
      ("paths", .array(findings.paths.map(path))),
      ("port_mapping", .array(findings.routers.routers.map { router($0, findings.routers.mappings) })),
      ("brokers", .array(findings.brokers.map(server))),
      ("stun", .array(findings.stun.map(server))),
      ("relays", .array(findings.relays.map(server))),
      ("names", .array(findings.names.map(server))),
      ("clock", findings.clock.map(clock) ?? .null),
      ("blocked", .array(findings.blocked.map { .string($0) })),
      ("advice", .string(advice.sentence(findings))), ("advice_code", .string(advice.rawValue)),
      ("took_us", microseconds(findings.took)),
    ])
  }

  private static func path(_ report: NATReport) -> JSONText {
    let delta = report.p2pdDelta
    return .object([
      ("interface", .string(report.interface)), ("family", .string(report.family == .v4 ? "ipv4" : "ipv6")),
      ("local", .string(report.local.description)),
      ("external", .array(report.external.map { .string($0.description) })),
      ("udp", behaviour(report.udp)), ("tcp", behaviour(report.tcp)),
      ("hairpin", report.hairpin.map { .string($0.rawValue) } ?? .null),
      ("carrier_nat", report.carrierNAT.map { .bool($0) } ?? .null),
      ("nat_type", .int(Int(report.p2pdType))), ("delta_type", .int(Int(delta.type))),
      ("delta_value", .int(delta.value)),
      ("round_trip_us", microseconds(report.roundTrip)), ("complete", .bool(report.isComplete)),
      ("words", .array(report.sentences.map { .string($0) })),
      ("servers", .array(report.servers.map(probe))),
    ])
  }

  private static func probe(_ finding: NATReport.ServerFinding) -> JSONText {
    .object([
      ("server", .string(finding.server.description)), ("transport", .string(finding.means)),
      ("mapped", finding.mapped.map { .string($0.description) } ?? .null),
      ("round_trip_us", microseconds(finding.roundTrip)), ("problem", word(finding.problem)),
    ])
  }

  private static func behaviour(_ behaviour: NATBehaviour) -> JSONText {
    .object([
      ("reach", word(behaviour.reach?.rawValue)), ("mapping", word(behaviour.mapping?.rawValue)),
      ("filtering", word(behaviour.filtering?.rawValue)), ("allocation", behaviour.allocation.map(allocation) ?? .null),
      ("mapped", .array(behaviour.mapped.map { .string($0.description) })),
    ])
  }

  private static func allocation(_ allocation: PortAllocation) -> JSONText {
    var fields: [(String, JSONText)]
    switch allocation {
    case .preserving: fields = [("kind", .string("preserve"))]
    case .offset(let distance): fields = [("kind", .string("offset")), ("value", .int(distance))]
    case .sequential(let step, _): fields = [("kind", .string("sequential")), ("value", .int(step))]
    case .random: fields = [("kind", .string("random"))]
    }
    if let range = allocation.range {
      fields.append(("range", .array([.int(Int(range.lowerBound)), .int(Int(range.upperBound))])))
    }
    return .object(fields)
  }

  private static func server(_ finding: ServerFinding) -> JSONText {
    .object([
      ("server", .string(finding.server)), ("outcome", .string(finding.outcome.rawValue)),
      ("setup_us", microseconds(finding.setup)), ("round_trip_us", microseconds(finding.roundTrip)),
      ("relayed", word(finding.address?.description)), ("problem", word(finding.problem)),
    ])
  }

  private static func router(_ finding: PortMappingFinding, _ mappings: [PortMapping]) -> JSONText {
    let answers = PortMappingProtocol.allCases.map { by -> (String, JSONText) in
      switch finding.answers[by] {
      case nil: (by.rawValue, .null)
      case .silent?: (by.rawValue, .string("silent"))
      case .answered?: (by.rawValue, .string("answered"))
      case .granted?: (by.rawValue, .string("granted"))
      case .refused?: (by.rawValue, .string("refused"))
      }
    }
    let refusals = PortMappingProtocol.allCases.compactMap { by -> String? in
      if case .refused(let why)? = finding.answers[by] { "\(by): \(why)" } else { nil }
    }
    let own = mappings.filter { $0.path == finding.path }.map { mapping in
      JSONText.object([
        ("by", .string(mapping.by.rawValue)), ("external", .string(mapping.external.description)),
        ("usable", .bool(mapping.isTrusted)), ("problem", word(mapping.distrust)),
      ])
    }
    return .object([
      ("interface", .string(finding.path.interface)), ("local", .string(finding.path.local.description)),
      ("gateway", .string(finding.path.gateway.description)), ("router", word(finding.router)),
      ("protocols", .object(answers)), ("problems", .array(refusals.map { .string($0) })), ("mappings", .array(own)),
    ])
  }

  private static func clock(_ report: ClockReport) -> JSONText {
    .object([
      ("offset_us", microseconds(report.reading?.offset)), ("error_us", microseconds(report.reading?.error)),
      ("round_trip_us", microseconds(report.reading?.roundTrip)),
      (
        "servers",
        .array(
          report.servers.map { server in
            .object([
              ("server", .string(server.server)), ("stratum", server.stratum.map { .int(Int($0)) } ?? .null),
              ("offset_us", microseconds(server.reading?.offset)),
              ("round_trip_us", microseconds(server.reading?.roundTrip)), ("problem", word(server.problem)),
            ])
          })
      ),
    ])
  }

  private static func word(_ text: String?) -> JSONText { text.map { .string($0) } ?? .null }

  private static func microseconds(_ time: TimeAmount?) -> JSONText {
    time.map { .int(Int($0.nanoseconds / 1000)) } ?? .null
  }
}
