import ArgumentParser
import P2PDNet

struct Reload: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let a running node take its scripts as they are on disk now.",
    discussion: """
      `run` does this by itself when a file is saved, unless --no-watch. Here it is
      asked for and waited for, and the report is shown. What fails before the new
      code serves leaves the old code serving, its state untouched.

      EXAMPLES
        p2pd-lua reload                  every protocol whose files have changed
        p2pd-lua reload chat             this one
        p2pd-lua reload --dry-run chat   would it be taken? Nothing changes

      EXIT STATUS
        0  the files serve now, or did already (--dry-run: would)
        1  the node refused them, and says file and line; or there is no such node
      """)

  @Argument(help: "The protocol's name; all of them without it.")
  var `protocol`: String?

  @Flag(help: "Load and check, and throw it away.")
  var dryRun = false

  @Flag(help: "Write the reports as JSON.")
  var json = false

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func run() throws {
    var members: [(String, JSONText)] = [("dry_run", .bool(dryRun))]
    if let name = self.protocol { members.append(("protocol", .string(name))) }
    try Self.show("reload", members, of: try choice.open(), json: json)
  }

  /// Asks for reloads, shows their reports, and ends with status 1 where one is bad.
  static func show(_ operation: String, _ members: [(String, JSONText)], of link: ControlLink, json: Bool) throws {
    let answer = try link.call(operation, members, seconds: patience)
    let reports = answer["reports"]?.items ?? []
    var isGood = true
    if json { Console.shared.out(JSONText.array(reports).pretty + "\n") }
    for report in reports {
      let isGoodOne = report["good"]?.bool == true
      isGood = isGood && isGoodOne
      guard !json else { continue }
      if isGoodOne {
        Console.shared.out(ReloadReports.text(report))
      } else {
        Console.shared.note(ReloadReports.text(report))
      }
    }
    if reports.isEmpty, !json { Console.shared.out("the node hosts no protocol\n") }
    if !isGood { throw Exit.failed }
  }

  /// Seconds; a large state may take its time to migrate.
  private static let patience = 120.0
}

struct Rollback: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let a running node go back to the code it served before.",
    discussion: """
      The last 5 generations' sources are kept. The files on disk stay as they are:
      the node takes them up again when they change, or with `reload`.

      EXAMPLES
        p2pd-lua rollback chat
        p2pd-lua rollback                every protocol that has something to go back to

      EXIT STATUS
        0  the earlier code serves
        1  there is nothing to go back to, or it failed; or there is no such node
      """)

  @Argument(help: "The protocol's name; all of them without it.")
  var `protocol`: String?

  @Flag(help: "Write the reports as JSON.")
  var json = false

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func run() throws {
    let members: [(String, JSONText)] = self.protocol.map { [("protocol", .string($0))] } ?? []
    try Reload.show("rollback", members, of: try choice.open(), json: json)
  }
}

struct Generations: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the generations of a running node's protocols that are alive.",
    discussion: """
      Each loading of a script is a generation. The newest serves; older ones are
      there while something keeps them: probation, a handler that has not ended,
      pipes that finish on them (M.drain). Of one that has ended and that Lua has not
      collected, KEPT BY tells what still holds its code: package.loaded.foo.cb say;
      `^name` is a variable that a function took with it.

      EXAMPLES
        p2pd-lua generations
        p2pd-lua generations --json | jq '.[] | .kept_alive_by'

      EXIT STATUS
        0  there is the list
        1  no such node, or it does not answer
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @Flag(help: "Write JSON.")
  var json = false

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws { try choice.check(name) }

  func run() throws {
    let report = try choice.open(name).call("generations", [("holders", .bool(true))])
    let list = report["generations"]?.items ?? []
    Console.shared.out(json ? JSONText.array(list).pretty + "\n" : ReloadReports.generations(list))
  }
}
