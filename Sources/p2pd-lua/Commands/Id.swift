import ArgumentParser
import P2PDNode

struct Id: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show this machine's node id.",
    discussion: """
      The id is the public half of the node's key. The key is made at the first
      start, this command included, and lies in the state folder, readable by its
      owner only. Whoever has a copy of it can pose as this node.

      EXAMPLES
        p2pd-lua id
        p2pd-lua id --state-dir /srv/chat
      """)

  @OptionGroup(title: "State options") var state: StateOptions

  func run() throws {
    Console.shared.out("\(try identity().id)\n")
  }

  private func identity() throws -> Identity {
    if state.ephemeral { return .ephemeral() }
    guard let folder = state.folder else {
      throw Failure(
        "neither HOME nor XDG_STATE_HOME says where the key lies", remedy: "Give the folder with --state-dir.")
    }
    do {
      return try Identity.load(from: StateFolder(folder))
    } catch {
      throw Failure("\(error)")
    }
  }
}
