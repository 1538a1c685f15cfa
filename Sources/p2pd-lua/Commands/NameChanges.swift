import ArgumentParser
import NIOCore
import P2PDNames
import P2PDNet
import P2PDNode

/// `names push`
struct NamePush: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "push",
    abstract: "Register a name once, with this machine's key.",
    discussion: """
      The first key that takes a name has it. `run --nickname` does the same and keeps
      the name: it renews it and tells a new address. What is pushed by hand lasts 7
      days.

      EXAMPLES
        p2pd-lua names push example                 for the node that runs here
        p2pd-lua names push example.peer p2pd1...   this address of this machine's key
      """)

  @Argument(help: "The name; without an ending it is one of .peer.")
  var name: String

  @Argument(help: ArgumentHelp("The address, of this machine's key.", discussion: "Default: that of the running node"))
  var address: String?

  @Flag(help: "Write JSON.")
  var json = false

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func run() async throws {
    let service = try await NameTools.service(servers, state, config, log)
    let identity = try NameTools.identity(state)
    let address = try present(identity)
    guard address.key == identity.key else {
      throw Failure(
        "the address is that of node \(address.key), and this machine's key is \(identity.id)",
        remedy: "A name is registered with the key of its node: do it on that machine.")
    }
    let name = name
    let full = try await NameTools.run(service) { service.push(name, address, as: identity) }
    Console.shared.out(
      json ? JSONText.object([("name", .string("\(full)")), ("id", .string(identity.id))]).pretty + "\n" : "\(full)\n")
  }

  private func present(_ identity: Identity) throws -> NodeAddress {
    guard let text = address else {
      var configuration = NodeConfiguration()
      configuration.stateDirectory = state.given
      if let running = NodeStart.runningAddress(configuration) { return running }
      throw Failure("no node of this machine's key runs", remedy: "Start it (`run`), or give the address.")
    }
    do { return try NodeAddress(text) } catch { throw Failure("\(error)") }
  }
}

/// `names delete`
struct NameDelete: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete",
    abstract: "Give a name up that this machine's key has.",
    discussion: """
      A node that runs with `--nickname` would register it again: stop it first.

      EXAMPLE
        p2pd-lua names delete example.peer
      """)

  @Argument(help: "The name; without an ending it is one of .peer.")
  var name: String

  @Flag(help: "Write JSON.")
  var json = false

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func run() async throws {
    let service = try await NameTools.service(servers, state, config, log)
    let identity = try NameTools.identity(state)
    let name = name
    let full = try await NameTools.run(service) { service.delete(name, as: identity) }
    Console.shared.out(json ? JSONText.object([("deleted", .string("\(full)"))]).pretty + "\n" : "\(full) is deleted\n")
  }
}

/// What the `names` commands share.
enum NameTools {
  static func service(_ servers: ServerOptions, _ state: StateOptions, _ config: ConfigOptions, _ log: LogOptions)
    async throws -> NameService
  {
    let config = try config.load()
    let logger = try log.logger(defaultLevel: .warning, config)
    var configuration = NodeConfiguration()
    configuration.stateDirectory = state.given
    configuration.ephemeral = state.ephemeral
    try servers.apply(to: &configuration, config)
    configuration.names = try servers.naming(state, config)
    let made = configuration
    return try await Engine.loop.submit { NameService(made, on: Engine.loop, logger: logger) }.get()
  }

  static func identity(_ state: StateOptions) throws -> Identity {
    guard !state.ephemeral else {
      throw Failure("a fresh key has no names", remedy: "Leave --ephemeral out: names belong to this machine's key.")
    }
    guard let folder = state.folder else {
      throw Failure(
        "neither HOME nor XDG_STATE_HOME says where the key lies", remedy: "Give the folder with --state-dir.")
    }
    do { return try Identity.load(from: StateFolder(folder)) } catch { throw Failure("\(error)") }
  }

  /// Runs it on the loop, and closes the service.
  static func run<T: Sendable>(
    _ service: NameService, _ body: @escaping @Sendable () -> EventLoopFuture<T>
  ) async throws -> T {
    do {
      let result = try await Engine.loop.flatSubmit(body).get()
      try await Engine.loop.flatSubmit { service.close() }.get()
      return result
    } catch {
      throw Failure("\(error)")
    }
  }
}
