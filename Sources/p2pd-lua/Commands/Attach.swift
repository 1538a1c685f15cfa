import ArgumentParser
import Glibc
import P2PDNet

struct Attach: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A Lua prompt inside a running node.",
    discussion: """
      Each line is run by the node, under the limits of any handler: an error is
      shown and harms nobody. An expression gives its value; an unfinished line
      asks for more; lines may wait (p2pd.sleep, pipe:recv). Tab completes names,
      the arrows bring back earlier lines, Control-C ends the line that runs,
      Control-D the prompt. `help` says what is there beside Lua and p2pd.

      The lines have globals of their own, or with --protocol those of a script.
      What they start (timers, tasks, pipes) ends with the prompt.

      In a pipeline standard input is run as one chunk and its values are written.

      EXAMPLES
        p2pd-lua attach
        p2pd-lua attach --protocol chat             its globals, and its p2pd.state
        p2pd-lua attach --read-only                 look, but change nothing
        p2pd-lua attach -e 'protocols.chat.state'
        echo 'return 1+1' | p2pd-lua attach

      EXIT STATUS
        0    done
        1    no such node or protocol, an error in the code, or the node has ended
        130  ended by SIGINT; 143: by SIGTERM
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @Flag(help: "Show values and change nothing: what acts is refused.")
  var readOnly = false

  @Option(help: ArgumentHelp("See the globals and the state of this protocol's script.", valueName: "name"))
  var `protocol`: String?

  @Option(name: [.customShort("e"), .long], help: ArgumentHelp("Run this and end.", valueName: "code"))
  var eval: String?

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws { try choice.check(name) }

  func run() throws {
    let link = try choice.open(name)
    var members: [(String, JSONText)] = [("read_only", .bool(readOnly))]
    if let name = self.protocol { members.append(("protocol", .string(name))) }
    _ = try link.call("attach", members)
    let console = Console.shared
    if let eval { return try once(eval, link) }
    if console.inputIsTerminal, console.outputIsTerminal, Environment.value("TERM") != "dumb" {
      let folder = StateOptions.folder(choice.stateDir)
      let file = folder.map { $0 + "/attach_history" }
      var terminal = AttachTerminal(link, history: file.map { History(file: $0) } ?? History(), readOnly: readOnly)
      defer { if let folder, let file, Files.makeFolder(folder) { terminal.history.save(to: file) } }
      return try terminal.run()
    }
    try once(String(decoding: try input(), as: UTF8.self), link)
  }

  private func input() throws -> [UInt8] {
    guard let bytes = Files.read("/dev/stdin", atMost: Self.longestInput) else {
      throw Failure(errno: "cannot read standard input")
    }
    return bytes
  }

  private func once(_ code: String, _ link: ControlLink) throws {
    let console = Console.shared
    let members: [(String, JSONText)] = [("code", .string(code)), ("quoted", .bool(false)), ("partial", .bool(false))]
    let result = try link.call("evaluate", members, seconds: nil) { event in
      console.out((event["text"]?.string ?? "") + "\n")
    }
    if let error = result["error"]?.string { throw Failure(Self.words(error, result["traceback"]?.string)) }
    if let values = result["values"]?.string, !values.isEmpty { console.out(values + "\n") }
  }

  /// An error as the prompt shows it; a traceback of one line says nothing that the error does not.
  static func words(_ error: String, _ traceback: String?) -> String {
    var words = error
    if let traceback, traceback.split(separator: "\n").count > 2, !error.contains(traceback) {
      words += "\n" + traceback
    }
    return Printable.message(Array(words.replacing("\t", with: "  ").utf8))
  }

  /// Below the longest line, whatever escapes JSON needs for ordinary code.
  private static let longestInput = 512 << 10
}
