import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript
import P2PDSignaling
import P2PDTraversal

/// What a running node says of itself, as JSON. Times are seconds, sizes bytes.
enum ControlReports {
  /// Who a node is; stays the same while it runs.
  struct Identity: Sendable {
    var name: String
    var program: String
    var pid: Int
    var started: LogTime
    var socket: String
    /// nil: the key is of this run only.
    var stateFolder: String?
  }

  /// Call it on the node's loop.
  static func status(
    _ identity: Identity, _ host: ScriptHost, _ node: Node, lastError: LogLine?,
    reloads: [String: (report: ReloadReport, at: LogTime)]
  ) -> JSONText {
    let report = host.report()
    var members: [(String, JSONText)] = [
      ("name", .string(identity.name)), ("key", .string(node.id)), ("pid", .int(identity.pid)),
      ("version", .string(identity.program)), ("started", .string(identity.started.utc)),
    ]
    members += [
      ("uptime", seconds(report.uptime)), ("state_folder", identity.stateFolder.map { .string($0) } ?? .null),
      ("control_socket", .string(identity.socket)), ("address", .string(node.address.description)),
      ("port", .int(Int(node.port))), ("listening", .array(node.listening.map { .string($0.description) })),
      ("routes", .array(node.address.routes.map { route($0, node) })),
    ]
    members += [
      ("offline", .bool(node.configuration.offline)),
      ("external", .array(node.knownExternals.map { .string($0.description) })),
      ("paths", .array(ReachText.reports(node).map(path))), ("brokers", .array(brokers(node))),
    ]
    members += [
      ("protocols", .array(report.protocols.map { hosted($0, reloads[$0.name]) })), ("pipes", pipes(report, node)),
      ("traffic", traffic(report.traffic)), ("rates", rates(report.rates)), ("errors", errors(report, lastError)),
      ("memory", memory(report)), ("loop", loop(report)),
    ]
    return .object(members)
  }

  private static func errors(_ report: HostReport, _ last: LogLine?) -> JSONText {
    .object([
      ("count", count(report.traffic.errors)), ("stopped_for_time", .int(report.kills)),
      ("last", last.map { $0.object } ?? .null),
    ])
  }

  private static func memory(_ report: HostReport) -> JSONText {
    .object([
      ("lua", .int(report.memory)), ("lua_peak", .int(report.memoryPeak)), ("lua_limit", .int(report.memoryLimit)),
      ("process", ProcessFacts.residentBytes.map { .int($0) } ?? .null),
    ])
  }

  private static func loop(_ report: HostReport) -> JSONText {
    .object([
      ("lag_mean", seconds(report.lagMean)), ("lag_worst", seconds(report.lagWorst)), ("tasks", .int(report.tasks)),
      ("descriptors", ProcessFacts.openDescriptors.map { .int($0) } ?? .null),
    ])
  }

  private static func route(_ route: NodeRoute, _ node: Node) -> JSONText {
    // An interface's link-local addresses carry their scope, a route's do not.
    let interface = node.interfaces.first {
      $0.addresses.contains { IPAddress(family: $0.ip.family, high: $0.ip.high, low: $0.ip.low) == route.nic }
    }
    let external: JSONText =
      switch route.external {
      case .unknown: .string("unknown")
      case .none: .string("none")
      case .at(let endpoint): .string(endpoint.description)
      }
    return .object([
      ("interface", interface.map { .string($0.name) } ?? .null), ("ip", .string(route.nic.description)),
      ("family", .string(route.family == .v4 ? "ipv4" : "ipv6")), ("port", .int(Int(route.port))),
      ("external", external), ("mtu", interface.map { .int($0.mtu) } ?? .null),
    ])
  }

  /// What was measured of one way out.
  private static func path(_ report: NATReport) -> JSONText {
    .object([
      ("interface", .string(report.interface)), ("family", .string(report.family == .v4 ? "ipv4" : "ipv6")),
      ("local", .string(report.local.description)),
      ("external", .array(report.external.map { .string($0.description) })), ("nat_type", .int(Int(report.p2pdType))),
      ("words", .array(report.sentences.map { .string($0) })), ("complete", .bool(report.isComplete)),
    ])
  }

  private static func brokers(_ node: Node) -> [JSONText] {
    (node.signalling?.status ?? []).map { status in
      .object([
        ("broker", .string(status.broker.description)), ("state", .string(status.state.rawValue)),
        ("own", .bool(!status.isForeign)), ("rtt", status.roundTrip.map { seconds($0.smoothed) } ?? .null),
        ("problem", status.error.map { .string("\($0)") } ?? .null),
      ])
    }
  }

  private static func hosted(_ hosted: ProtocolReport, _ last: (report: ReloadReport, at: LogTime)?) -> JSONText {
    var reload = JSONText.null
    if let last, case .object(let members) = ReloadReports.json(last.report) {
      reload = .object([("at", .string(last.at.utc))] + members)
    }
    return .object([
      ("name", .string(hosted.name)), ("path", .string(hosted.path)), ("version", .int(hosted.version)),
      ("generation", .int(Int(hosted.generation))), ("default", .bool(hosted.isDefault)),
      ("on_probation", .bool(hosted.isOnProbation)), ("pipes", .int(hosted.pipes)),
      ("messages", count(hosted.messages)), ("errors", count(hosted.errors)), ("last_reload", reload),
    ])
  }

  private static func pipes(_ report: HostReport, _ node: Node) -> JSONText {
    .object([("open", .int(report.pipes)), ("between_nodes", .int(node.pipes().count))])
  }

  private static func traffic(_ traffic: Traffic) -> JSONText {
    .object([
      ("messages_in", count(traffic.messagesIn)), ("messages_out", count(traffic.messagesOut)),
      ("bytes_in", count(traffic.bytesIn)), ("bytes_out", count(traffic.bytesOut)), ("dropped", count(traffic.dropped)),
    ])
  }

  private static func rates(_ rates: TrafficRates) -> JSONText {
    .object([
      ("seconds", rounded(rates.seconds)), ("messages_in", rounded(rates.messagesIn)),
      ("messages_out", rounded(rates.messagesOut)), ("bytes_in", rounded(rates.bytesIn)),
      ("bytes_out", rounded(rates.bytesOut)), ("errors", rounded(rates.errors)),
    ])
  }

  static func pipe(_ pipe: PipeReport) -> JSONText {
    let stats = pipe.stats
    return .object([
      ("id", .int(Int(clamping: pipe.id))), ("protocol", .string(pipe.protocolName)),
      ("proto", .string(pipe.proto.rawValue)), ("server", .bool(pipe.isServer)), ("peer", .string(pipe.place)),
      ("peer_id", pipe.peerID.isEmpty ? .null : .string(pipe.peerID)), ("path", .string(pipe.path)),
      ("strategy", .string(pipe.strategy)), ("age", seconds(stats.age)), ("bytes_in", count(stats.bytesIn)),
      ("bytes_out", count(stats.bytesOut)), ("messages_in", count(stats.messagesIn)),
      ("messages_out", count(stats.messagesOut)), ("queued", .int(stats.queued)),
      ("queued_bytes", .int(stats.queuedBytes)), ("unsent", .int(stats.unsent)), ("dropped", count(stats.dropped)),
      ("rtt", stats.rtt.map(seconds) ?? .null),
    ])
  }

  static func trace(_ event: TraceEvent) -> (name: String, members: [(String, JSONText)]) {
    var members: [(String, JSONText)] = [
      ("time", .number(Double(event.seconds) + Double(event.microseconds) / 1e6)),
      ("pipe", .int(Int(clamping: event.pipe))), ("peer", .string(event.peer)),
    ]
    switch event.kind {
    case .opened: return ("opened", members)
    case .ended: return ("ended", members + [("reason", .string(event.reason))])
    case .received, .sent:
      members += [
        ("direction", .string(event.kind.rawValue)), ("size", .int(event.size)),
        ("data", .string(HexText.encode(event.preview))),
      ]
      return ("message", members)
    }
  }

  private static func count(_ number: UInt64) -> JSONText { .int(Int(clamping: number)) }

  /// To the microsecond.
  private static func seconds(_ time: TimeAmount) -> JSONText {
    .number((Double(time.nanoseconds) / 1e3).rounded() / 1e6)
  }

  private static func rounded(_ number: Double) -> JSONText { .number((number * 100).rounded() / 100) }
}

/// Bytes as hexadecimal digits, two each.
enum HexText {
  static func encode(_ bytes: some Sequence<UInt8>) -> String {
    var out: [UInt8] = []
    for byte in bytes { out += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: out, as: UTF8.self)
  }

  /// nil where the text is something else.
  static func decode(_ text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0 else { return nil }
    var out: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else { return nil }
      out.append(byte)
    }
    return out
  }

  private static let digits = Array("0123456789abcdef".utf8)
}
