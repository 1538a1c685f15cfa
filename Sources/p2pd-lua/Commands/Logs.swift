import ArgumentParser
import P2PDNet

struct Logs: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a running node has logged lately.",
    discussion: """
      The node keeps its last 2000 log lines, of the level it logs at (--log-level
      of `run`). With --follow the next ones are shown as they come; where they
      come faster than they are read, lines are left out and their number is told.

      EXAMPLES
        p2pd-lua logs
        p2pd-lua logs -f chat
        p2pd-lua logs -n 5 --json | jq .message

      EXIT STATUS
        0  done
        1  no such node, or it does not answer; --follow: or it has ended
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @Flag(name: .shortAndLong, help: "Show the next lines, too, until Control-C.")
  var follow = false

  @Option(
    name: [.customShort("n"), .long],
    help: ArgumentHelp("Most lines of the past.", discussion: "Default: 100", valueName: "count"))
  var lines: Int = 100

  @Flag(help: "Write each line as a JSON object.")
  var json = false

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws {
    try choice.check(name)
    if lines < 0 { throw ValidationError("--lines counts from 0 on; \(lines) does not.") }
  }

  func run() throws {
    let link = try choice.open(name)
    let members: [(String, JSONText)] = [("lines", .int(min(lines, 1 << 32))), ("follow", .bool(follow))]
    let request = try link.send("logs", members)
    guard follow else {
      for line in try link.answer(to: request, event: { _ in })["lines"]?.items ?? [] { _ = show(line) }
      return
    }
    while let event = try link.next(seconds: nil) {
      if event["event"] == nil { _ = try ControlLink.result(event) }
      if let count = event["count"]?.int, event["event"]?.string == "dropped" {
        Console.shared.note("(\(Figures.count(count)) lines left out: they came faster than they were read)\n")
      }
      if let line = event["log"], !show(line) { return }
    }
    throw link.gone
  }

  /// False where nobody reads any more.
  private func show(_ object: JSONText) -> Bool {
    if json { return Console.shared.out(object.text + "\n") }
    guard let line = LogLine(object) else { return true }
    let console = Console.shared
    return console.out(line.text(colours: console.outputColours, withDate: true))
  }
}
