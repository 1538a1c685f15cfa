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
      ("brokers", .array(findings.brokers.map(server))),
      ("stun", .array(findings.stun.map(server))),
      ("relays", .array(findings.relays.map(server))),
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
      ("server", .string(finding.server.description)), ("transport", .string(finding.transport.rawValue)),
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

  private static func server(_ finding: ServerFinding) -> JSONText {
    .object([
      ("server", .string(finding.server)), ("outcome", .string(finding.outcome.rawValue)),
      ("setup_us", microseconds(finding.setup)), ("round_trip_us", microseconds(finding.roundTrip)),
      ("problem", word(finding.problem)),
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
