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

  @OptionGroup var options: NameOptions

  func run() async throws {
    let service = try await options.service()
    let identity = try options.identity()
    let address = try present(identity)
    guard address.key == identity.key else {
      throw Failure(
        "the address is that of node \(address.key), and this machine's key is \(identity.id)",
        remedy: "A name is registered with the key of its node: do it on that machine.")
    }
    let name = name
    let full = try await options.run(service) { service.push(name, address, as: identity) }
    Console.shared.out(
      options.json
        ? JSONText.object([("name", .string("\(full)")), ("id", .string(identity.id))]).pretty + "\n" : "\(full)\n")
  }

  private func present(_ identity: Identity) throws -> NodeAddress {
    guard let text = address else {
      var configuration = NodeConfiguration()
      configuration.stateDirectory = options.state.given
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

      EXIT STATUS
        0  it is nobody's now
        1  it is not given up, or nobody had it (so a second time too)
      """)

  @Argument(help: "The name; without an ending it is one of .peer.")
  var name: String

  @OptionGroup var options: NameOptions

  func run() async throws {
    let service = try await options.service()
    let identity = try options.identity()
    let name = name
    let full = try await options.run(service) { service.delete(name, as: identity) }
    Console.shared.out(
      options.json ? JSONText.object([("deleted", .string("\(full)"))]).pretty + "\n" : "\(full) is deleted\n")
  }
}
