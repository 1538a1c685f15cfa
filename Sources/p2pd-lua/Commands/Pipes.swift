import ArgumentParser

struct Pipes: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the open pipes of a running node, or end one.",
    discussion: """
      For each pipe: who is at the other end, which protocol serves it, by which
      path it came, its age, bytes in and out, messages that wait to be handled,
      bytes that wait to be sent, and the last round trip (pipes between nodes).

      EXAMPLES
        p2pd-lua pipes
        p2pd-lua pipes --kill 12         the other side is told that you ended it
        p2pd-lua pipes --json | jq '.[] | select(.unsent > 0)'

      EXIT STATUS
        0  done
        1  no such node or pipe, or the node does not answer
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @Flag(help: "Write JSON.")
  var json = false

  @Option(help: ArgumentHelp("End the pipe of this number.", valueName: "id"))
  var kill: UInt64?

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws {
    try choice.check(name)
    if json, kill != nil { throw ValidationError("--json lists pipes, --kill ends one; give one of them.") }
    if let kill, kill > UInt64(Int.max) { throw ValidationError("No pipe has the number \(kill).") }
  }

  func run() throws {
    let link = try choice.open(name)
    guard let kill else {
      let report = try link.call("pipes")
      Console.shared.out(
        json ? (report["pipes"] ?? .array([])).pretty + "\n" : StatusText.pipes(report))
      return
    }
    let done = try link.call("kill", [("pipe", .int(Int(kill)))])
    switch done["lost"]?.int {
    case 0?: Console.shared.out("pipe \(kill) has ended\n")
    case let lost?: Console.shared.out("pipe \(kill) has ended; \(Figures.bytes(lost)) could not be sent\n")
    case nil: Console.shared.out("pipe \(kill) is ending: its other side does not read what is still to be sent\n")
    }
  }
}
