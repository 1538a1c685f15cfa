import ArgumentParser
import Glibc
import P2PDNode

struct Addr: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show this machine's node address, or explain one.",
    discussion: """
      EXAMPLES
        p2pd-lua addr                    where others reach `run` on this machine
        p2pd-lua addr explain p2pd1...   what an address says, in words
      """,
    subcommands: [Show.self, Explain.self], defaultSubcommand: Show.self)

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show this machine's node address (what `addr` alone does).",
      discussion: """
        The address of the node that runs, or else the one it would have: servers are
        asked how this machine looks from outside (--offline: none are). It holds as long
        as the machine's addresses and the node's port do.
        """)

    @OptionGroup(title: "State options") var state: StateOptions
    @OptionGroup(title: "Node options") var node: NodeOptions
    @OptionGroup(title: "Server options") var servers: ServerOptions
    @OptionGroup(title: "Configuration") var config: ConfigOptions
    @OptionGroup(title: "Log options") var log: LogOptions

    func run() async throws {
      let config = try config.load()
      let configuration = try node.configuration(state, servers, config)
      let address: NodeAddress
      if let running = NodeStart.runningAddress(configuration) {
        address = running
      } else {
        address = try await NodeStart.address(configuration, log.logger(defaultLevel: .error, config))
      }
      Console.shared.out("\(address)\n")
    }
  }

  struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Say in words what an address holds.",
      discussion: """
        EXAMPLE
          p2pd-lua addr explain "$(p2pd-lua addr)"

        EXIT STATUS
          0  it is an address
          1  it is none, or a damaged or forged one
        """)

    @Argument(help: "The address, p2pd1...")
    var address: String

    func run() throws {
      let address: NodeAddress
      do {
        address = try NodeAddress(self.address)
      } catch {
        throw Failure("\(error)")
      }
      let now = UInt32(clamping: time(nil))
      let lines = address.explanation(now: now)
      let width = lines.map { $0.what.count }.max() ?? 0
      for line in lines {
        let space = String(repeating: " ", count: width - line.what.count + 2)
        Console.shared.out("\(line.what)\(space)\(Printable.line(line.value))\n")
      }
    }
  }
}
