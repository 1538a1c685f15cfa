import P2PDNet
import P2PDScript

/// Reports of reloads and the list of generations as JSON, and as text again.
enum ReloadReports {
  static func json(_ report: ReloadReport) -> JSONText {
    var members: [(String, JSONText)] = [
      ("protocol", .string(report.protocolName)), ("path", .string(report.path)), ("trigger", .string(report.trigger)),
      ("result", .string(report.result.rawValue)), ("good", .bool(report.isGood)), ("dry_run", .bool(report.dryRun)),
      ("from", id(report.from)), ("to", id(report.to)),
    ]
    members += [
      ("from_version", report.fromVersion.map { .int($0) } ?? .null),
      ("to_version", report.toVersion.map { .int($0) } ?? .null),
      ("error", report.error.map { .string($0) } ?? .null), ("traceback", .string(report.traceback)),
      ("files", .array(report.files.map(json))), ("times", json(report.times)), ("pipes", .int(report.pipes)),
      ("in_flight", .int(report.inFlight)), ("generations", .array(report.generations.map(json))),
      ("words", .string(report.description)),
    ]
    return .object(members)
  }

  private static func json(_ file: FileChange) -> JSONText {
    .object([
      ("path", .string(file.path)), ("change", .string(file.change.rawValue)),
      ("hash", file.hash.map { .string("\($0)") } ?? .null),
    ])
  }

  /// Seconds.
  private static func json(_ times: ReloadReport.Times) -> JSONText {
    .object([
      ("read", .number(times.read)), ("stage", .number(times.stage)), ("check", .number(times.check)),
      ("migrate", .number(times.migrate)), ("swap", .number(times.swap)), ("pause", .number(times.pause)),
      ("total", .number(times.total)),
    ])
  }

  static func json(_ info: GenerationInfo) -> JSONText {
    var members: [(String, JSONText)] = [
      ("id", .int(Int(info.id))), ("protocol", .string(info.protocolName)), ("version", .int(info.version)),
      ("phase", .string(info.phase.rawValue)), ("hash", .string(info.hash)), ("since", .number(info.since)),
      ("messages", .int(Int(clamping: info.messages))), ("errors", .int(Int(clamping: info.errors))),
    ]
    members += [
      ("kills", .int(Int(clamping: info.kills))), ("pipes", .int(info.pipes)), ("tasks", .int(info.tasks)),
      ("timers", .int(info.timers)), ("listeners", .int(info.listeners)), ("in_flight", .int(info.inFlight)),
      ("kept_alive_by", .array(info.keptAliveBy.map { .string($0) })),
    ]
    return .object(members)
  }

  private static func id(_ id: Int64?) -> JSONText { id.map { .int(Int($0)) } ?? .null }

  // MARK: For people

  /// What `reload` and `rollback` print.
  static func text(_ report: JSONText) -> String {
    let words = report["words"]?.string ?? ""
    let lines = words.split(separator: "\n", omittingEmptySubsequences: false)
      .map { Printable.line(String($0).replacing("\t", with: "  ")) }
    return lines.joined(separator: "\n  ") + "\n"
  }

  static func generations(_ list: [JSONText]) -> String {
    var table = TextTable(
      ["PROTOCOL", "ID", "VERSION", "PHASE", "AGE", "HASH", "MESSAGES", "ERRORS", "PIPES", "KEPT BY"],
      right: [1, 2, 4, 6, 7, 8])
    for info in list {
      let kept = info["kept_alive_by"]?.items.compactMap(\.string).joined(separator: ", ") ?? ""
      table.add([
        info["protocol"]?.string ?? "", "\(info["id"]?.int ?? 0)", "\(info["version"]?.int ?? 0)",
        info["phase"]?.string ?? "", Figures.time(info["since"]?.number ?? 0),
        String((info["hash"]?.string ?? "").prefix(10)), Figures.count(info["messages"]?.int ?? 0),
        Figures.count(info["errors"]?.int ?? 0), Figures.count(info["pipes"]?.int ?? 0), kept,
      ])
    }
    return table.text
  }
}
