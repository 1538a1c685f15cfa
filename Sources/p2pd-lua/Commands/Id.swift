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
    let identity = state.ephemeral ? Identity.ephemeral() : try Identity.load(from: StateFolder(state.folder))
    Console.shared.out("\(identity.id)\n")
  }
}
