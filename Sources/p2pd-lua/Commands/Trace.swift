import ArgumentParser
import CNet
import Glibc
import P2PDNet

struct Trace: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the messages of a running node as they come and go.",
    discussion: """
      Each message in and out of a pipe, or of every pipe of a protocol: when, which
      way, who, how large, and its first bytes. Where they come faster than they are
      shown, messages are left out and their number is told. Nobody notices, and a
      node that nobody traces pays nothing.

      EXAMPLES
        p2pd-lua trace 12                   the pipe 12 (see `pipes`)
        p2pd-lua trace chat                 the protocol chat
        p2pd-lua trace --hex --bytes 256 12
        p2pd-lua trace --json chat | jq 'select(.size > 1000)'

      EXIT STATUS
        0    the pipe has ended
        1    no such node, pipe or protocol; or the node has ended
        130  ended by Control-C
      """)

  @Argument(help: "The number of a pipe, or the name of a protocol.")
  var target: String

  @Flag(help: "Show bytes as hexadecimal digits and letters.")
  var hex = false

  @Flag(help: "Show text, what is none as escapes. The default.")
  var text = false

  @Flag(help: "Write each message as a JSON object, its first bytes as hexadecimal digits in \"data\".")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Most bytes of a message that are shown.", discussion: "Default: 64", valueName: "count"))
  var bytes: Int = 64

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws {
    if [hex, text, json].filter({ $0 }).count > 1 { throw ValidationError("Give one of --hex, --text and --json.") }
    guard (0...ControlRequest.largestPreview).contains(bytes) else {
      throw ValidationError("--bytes is from 0 to \(ControlRequest.largestPreview); \(bytes) is not.")
    }
  }

  func run() throws {
    let link = try choice.open()
    let what: (String, JSONText) =
      UInt64(target).flatMap { Int(exactly: $0) }.map { ("pipe", .int($0)) } ?? ("protocol", .string(target))
    let request = try link.send("trace", [what, ("bytes", .int(bytes))])
    while let line = try link.next(seconds: nil) {
      guard line["id"]?.int == request else { continue }
      guard let event = line["event"]?.string else {
        let end = try ControlLink.result(line)
        if !json { Console.shared.note("the pipe has ended: \(Printable.line(end["reason"]?.string ?? ""))\n") }
        return
      }
      guard show(event, line) else { return }
    }
    throw link.gone
  }

  /// False where nobody reads any more.
  private func show(_ event: String, _ line: JSONText) -> Bool {
    let console = Console.shared
    switch event {
    case "tracing":
      let count = line["pipes"]?.int ?? 0
      if !json {
        console.note("tracing \(count == 1 ? "1 pipe" : "\(Figures.count(count)) pipes"); end with Control-C\n")
      }
    case "dropped":
      console.note("(\(Figures.count(line["count"]?.int ?? 0)) left out: they came faster than they were shown)\n")
    default:
      if json {
        let members = line.members.filter { $0.0 != "id" }
        return console.out(JSONText.object(members).text + "\n")
      }
      return console.out(TraceText.lines(event, line, hex: hex))
    }
    return true
  }
}
