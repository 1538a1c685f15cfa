import ArgumentParser
import NIOCore
import P2PDNames
import P2PDNet
import P2PDNode

/// `names lookup`
struct NameLookup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lookup",
    abstract: "Look a node's name up, and show what everybody says of it.",
    discussion: """
      Asked are, in this order, your own names file (~/.config/p2pd/names), the local
      network, the name servers and the DNS; the first that knows the name decides.
      Nothing is remembered.

      EXAMPLES
        p2pd-lua names lookup example.peer
        p2pd-lua names lookup --json example.peer | jq -r .address

      EXIT STATUS
        0  it was found
        1  it was not; standard error says why
      """)

  @Argument(help: "The name: example.peer, or example for one of the local network.")
  var name: String

  @OptionGroup var options: NameOptions

  func run() async throws {
    let service = try await options.service()
    let name = name
    let report = try await options.run(service) { service.lookup(name, all: true) }
    Console.shared.out(options.json ? NameText.json(report).pretty + "\n" : NameText.lines(report))
    if case .failure(let error) = report.result {
      // What each said stands above.
      let alone = NetError(error.code, error.what, cause: error.cause, remedy: error.remedy)
      throw Failure("\(alone)")
    }
  }
}

/// A lookup's report for people and for programs.
enum NameText {
  static func lines(_ report: NameReport) -> String {
    var out = ""
    if case .success(let found) = report.result {
      out += "\(report.name) is node \(NodeKey(bytes: found.key)?.description ?? "")\n\(found.address)\n"
    }
    var table = TextTable()
    let winner = (try? report.result.get())?.source
    for finding in report.findings {
      table.add([
        finding.source == winner ? "* \(finding.source.words)" : "  \(finding.source.words)", words(finding),
        asked(finding) ? Figures.time(Double(finding.took.nanoseconds) / 1e9) : "",
      ])
      for part in finding.parts {
        table.add([
          "    \(part.teller)", Printable.line(part.words),
          part.took.map { Figures.time(Double($0.nanoseconds) / 1e9) } ?? "",
        ])
      }
    }
    return out + table.text
  }

  private static func asked(_ finding: NameFinding) -> Bool {
    if case .notAsked = finding.outcome { false } else { finding.source != .file }
  }

  private static func words(_ finding: NameFinding) -> String {
    let from = finding.teller.isEmpty ? "" : " (\(Printable.line(finding.teller)))"
    switch finding.outcome {
    case .found(let key, let address):
      return "\(NodeKey(bytes: key)?.short ?? "")\(address == nil ? ", the key alone" : "")\(from)"
    case .absent: return "does not know it\(from)"
    case .failed(let error): return Printable.line(error.cause.isEmpty ? error.code.rawValue : error.cause)
    case .notAsked(let why): return "not asked: \(why)"
    }
  }

  static func json(_ report: NameReport) -> JSONText {
    let found = try? report.result.get()
    var error: NetError?
    if case .failure(let failure) = report.result { error = failure }
    return .object([
      ("format", .int(1)), ("name", .string("\(report.name)")),
      ("id", found.flatMap { NodeKey(bytes: $0.key) }.map { .string($0.description) } ?? .null),
      ("address", found.map { .string($0.address) } ?? .null),
      ("source", found.map { .string($0.source.rawValue) } ?? .null),
      ("error", error.map { .object([("code", .string($0.code.rawValue)), ("message", .string("\($0)"))]) } ?? .null),
      ("took_us", .int(Int(report.took.nanoseconds / 1000))),
      ("answers", .array(report.findings.map(json))),
    ])
  }

  private static func json(_ finding: NameFinding) -> JSONText {
    var why: String?
    switch finding.outcome {
    case .failed(let error): why = error.description
    case .notAsked(let words): why = words
    case .found, .absent: break
    }
    return .object([
      ("source", .string(finding.source.rawValue)), ("outcome", .string(finding.outcome.word)),
      ("id", finding.key.flatMap { NodeKey(bytes: $0) }.map { .string($0.description) } ?? .null),
      ("address", finding.address.map { .string($0) } ?? .null), ("from", .string(finding.teller)),
      ("why", why.map { .string($0) } ?? .null), ("took_us", .int(Int(finding.took.nanoseconds / 1000))),
      (
        "parts",
        .array(
          finding.parts.map { part in
            .object([
              ("from", .string(part.teller)), ("words", .string(part.words)),
              ("took_us", part.took.map { .int(Int($0.nanoseconds / 1000)) } ?? .null),
            ])
          })
      ),
    ])
  }
}
