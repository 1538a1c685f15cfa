/// Finds the running nodes of this user by their control sockets.
enum NodeFinder {
  /// Connections to all nodes that run. What killed nodes left behind is taken away on the way.
  static func all(stateFolder: String?) -> [ControlLink] {
    look(stateFolder).links
  }

  private static func look(_ stateFolder: String?) -> (links: [ControlLink], problems: [Failure]) {
    var links: [ControlLink] = []
    var problems: [Failure] = []
    for folder in ControlFolder.all(stateFolder: stateFolder) {
      for socket in folder.sockets {
        do {
          links.append(try ControlLink.open(socket))
        } catch {
          if error.isStale { folder.removeStale(socket) } else { problems.append(error.failure) }
        }
      }
    }
    return (links.sorted { ($0.greeting.name, $0.greeting.key) < ($1.greeting.name, $1.greeting.key) }, problems)
  }

  /// The one node meant.
  /// - Parameter name: a node's name, or the first letters of its key; nil: the one that runs.
  /// - Throws: ``Failure``, which lists the nodes where none or several fit.
  static func find(_ name: String?, stateFolder: String?) throws -> ControlLink {
    let (links, problems) = look(stateFolder)
    let fitting = choose(name, among: links.map(\.greeting)).map { links[$0] }
    if fitting.count == 1 { return fitting[0] }
    if let problem = problems.first, fitting.isEmpty { throw problem }
    let program = Environment.program
    guard !links.isEmpty else {
      throw Failure(
        "no node of yours is running",
        remedy:
          "Start one: \(program) run SCRIPT (without --no-control; a node with a --state-dir of its own is found with the same option)."
      )
    }
    let list = list(fitting.isEmpty ? links : fitting)
    if let name, fitting.isEmpty {
      throw Failure("no running node is called \"\(Printable.line(name))\", and no key begins so", remedy: list)
    }
    throw Failure(
      name == nil ? "several nodes are running" : "several running nodes fit \"\(Printable.line(name ?? ""))\"",
      remedy: list + "\n  Name one: --node NAME, or --node with the first letters of its key.")
  }

  /// Which of the nodes a name means: those of that very name, else those whose key begins so; without a name all.
  static func choose(_ name: String?, among nodes: [ControlLink.Greeting]) -> [Int] {
    guard let name else { return Array(nodes.indices) }
    let named = nodes.indices.filter { nodes[$0].name == name }
    if !named.isEmpty { return named }
    let prefix = name.lowercased()
    return prefix.isEmpty ? [] : nodes.indices.filter { nodes[$0].key.hasPrefix(prefix) }
  }

  private static func list(_ links: [ControlLink]) -> String {
    var table = TextTable(["NODE", "KEY", "PID"], right: [2])
    for link in links { table.add([link.greeting.name, link.greeting.short, "\(link.greeting.pid)"]) }
    return "Running:\n" + table.lines.map { "    \($0)" }.joined(separator: "\n")
  }
}
