import ArgumentParser
import NIOCore
import P2PDNet
import P2PDNode

/// What the commands take that ask or change names, and what they do alike.
struct NameOptions: ParsableArguments {
  @Flag(help: "Write JSON.")
  var json = false

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  /// Knows the sources that are configured; without a node.
  func service() async throws -> NameService {
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

  /// The key that this machine's names belong to.
  func identity() throws -> Identity {
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
  func run<T: Sendable>(
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
