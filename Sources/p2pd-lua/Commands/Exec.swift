import ArgumentParser
import Glibc
import P2PDScript

struct Exec: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a script that does something and ends.",
    usage: "p2pd-lua exec [OPTIONS] SCRIPT [ARGS...]",
    discussion: """
      The script gets what follows its name as `arg` and `...`. It may start
      nodes, open pipes and wait; what it leaves open is closed at its end. The
      node options are what p2pd.node{} starts from.

      EXAMPLES
        p2pd-lua exec hello.lua
        p2pd-lua exec --ephemeral --offline echo_test.lua "answers"

      EXIT STATUS
        What the script returned or gave to os.exit: a number, true (0), false (1).
        1    the script raised an error
        2    the command line is wrong
        130  ended by SIGINT; 143: by SIGTERM
      """)

  @Argument(
    parsing: .captureForPassthrough,
    help: ArgumentHelp("The script and its arguments.", valueName: "script"), completion: .file(extensions: ["lua"]))
  var words: [String]

  @OptionGroup(title: "Node options") var node: NodeOptions
  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Script options") var limits: ScriptLimitOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    guard let first = words.first else { throw ValidationError("exec needs a script.") }
    // Everything from the first word on is the script's, so an option here is one that does not exist.
    if first.hasPrefix("-") {
      throw first == "-h" || first == "--help"
        ? CleanExit.helpRequest(self)
        : ValidationError("Unknown option '\(first)'; the script's name comes after the options.")
    }
  }

  func run() async throws {
    let path = words[0]
    try ScriptPaths.mustExist(path)
    let config = try config.load(beside: path)
    var options = try limits.scriptOptions(config)
    options.nodeDefaults = try node.configuration(state, servers, config)
    let logger = try log.logger(defaultLevel: .notice, config)
    logger.info("servers the script's nodes may contact", metadata: ServersText.metadata(options.nodeDefaults))
    let host = try await ScriptHost.make(on: Engine.loop, options: options, logger: logger)
    let stop = StopSignal()
    let signals = try Signals { number in
      stop.signalled(number)
      Task { await host.interrupt(Signals.name(number)) }
    }
    let status = await host.exec(path, arguments: Array(words.dropFirst()))
    withExtendedLifetime(signals) {}
    // A script that was interrupted gives 130 whatever the signal was.
    if let signal = stop.received, status == 130 { throw ExitCode(128 + signal) }
    throw ExitCode(status)
  }
}
