import ArgumentParser

/// Which of the running nodes a command is about.
struct NodeChoice: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The node, by its name or the first letters of its key.",
      discussion: "Default: the one that is running (P2PD_NODE)", valueName: "name"),
    completion: .custom { _, _, _ in Self.names })
  var node: String?

  @Option(
    help: ArgumentHelp(
      "The state folder that the node was started with.", discussion: "Needed only where there is no XDG_RUNTIME_DIR",
      valueName: "folder"),
    completion: .directory)
  var stateDir: String?

  func validate() throws {
    if node?.isEmpty == true { throw ValidationError("--node needs the name of a node.") }
  }

  /// Connects to the node.
  /// - Parameter argument: its name where the command takes it without `--node`.
  func open(_ argument: String? = nil) throws -> ControlLink {
    let fromEnvironment = Environment.value("P2PD_NODE").flatMap { $0.isEmpty ? nil : $0 }
    return try NodeFinder.find(argument ?? node ?? fromEnvironment, stateFolder: folder)
  }

  /// Throws where a node is named twice.
  func check(_ argument: String?) throws {
    if argument != nil, node != nil { throw ValidationError("Name the node once: alone, or with --node.") }
    if argument?.isEmpty == true { throw ValidationError("The name of a node is not empty.") }
  }

  private var folder: String? { StateOptions.folder(stateDir) }

  /// For the shell's completion.
  static var names: [String] { NodeFinder.all(stateFolder: StateOptions.folder(nil)).map { $0.greeting.name } }
}
