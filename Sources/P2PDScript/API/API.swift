/// Everything a script can see, in one table. The reference, the editor types, luacheck's list and the engine's own
/// checks of options and names are made from it; a test fails when the engine and the table differ.
public enum API {
  public static let firstVersion = "0.1"

  /// Every function, method, field and constant, by section.
  public static let sections: [(title: String, text: String, entries: [APIEntry])] = [
    ("Pipes", pipesText, pipeFunctions + pipeMethods + pipeFields),
    ("Who a message is from", clientTupText, clientTup),
    ("Errors", errorsText, errorObject),
    ("Nodes", nodesText, nodeEntries),
    ("Names of nodes", namesText, nameEntries),
    ("Servers on several addresses: the daemon", daemonText, daemonEntries),
    ("Interfaces and routes", interfacesText, interfaceEntries),
    ("How the Internet sees this host: STUN", stunText, stunEntries),
    ("Datagrams through a relay: TURN", turnText, turnEntries),
    ("What time it is: NTP", clockText, clockEntries),
    ("Time and tasks", tasksText, taskEntries),
    ("State, log, JSON", plainText, plainEntries),
    ("Hot reload", reloadText, reloadEntries),
    ("Constants", constantsText, constants),
  ]

  public static let entries: [APIEntry] = sections.flatMap(\.entries)

  /// What a handler file may return.
  public static let callbacks: [APIValue] = [
    opt(
      "msg_cb", .function(messageCallback), "nil",
      "A message arrived on a pipe of the protocol. On a TCP server's pipe it is the client's pipe."),
    opt("up_cb", .function(pipeCallback), "nil", "A pipe of the protocol opened."),
    opt(
      "path_cb", .function(pipeCallback), "nil",
      "A pipe of the protocol moved to another path, from a relay to a direct one say: `pipe.strategy`, `pipe.path` and the addresses are the new one's. No message is lost by it or comes twice, and the order stays."
    ),
    opt(
      "end_cb", .function(endCallback), "nil",
      "A pipe closed; called exactly once for each. `reason` is `closed`, `reset`, `timeout`, `error` or `local`; with `error` the third argument says which."
    ),
    opt(
      "error_cb", .function("fun(err: any, pipe?: p2pd.pipe)"), "nil",
      "A callback or task of the script failed. It was logged already; the pipe stays open unless this closes it."),
    opt(
      "session", .function("fun(pipe: p2pd.pipe, data: table)"), "nil",
      "In place of `msg_cb`: a task for each pipe, in straight lines: `for msg in pipe:messages() do ... end`. `data` is `pipe.data`, an empty table at first. The pipe is closed when it returns. At a reload a session that waits in `recv` on its pipe is unwound (`<close>` variables are closed) and begins anew on the new code with the same `data`; no message is lost."
    ),
    opt(
      "start", .function("fun()"), "nil",
      "The protocol is live: the place for what waits for the network (`pipe_open`, `connect`, loops). At a reload it is called after the swap, when the old generation's `stop` has ended."
    ),
    opt(
      "stop", .function("fun()"), "nil",
      "The protocol ends, or another generation serves from now on. At a reload it runs first, then the new generation's `start`; it has 2 seconds. After a rollback `start` is called again."
    ),
    opt(
      "check", .function("fun(): boolean?, string?"), "nil",
      "Called before the generation serves, without waiting and without `p2pd.state`; `false`, `nil, message` or an error refuses it."
    ),
    opt(
      "accept_cb", .function(acceptCallback), "nil: everybody may",
      "Asked before this node dials anything because a stranger who wants a pipe of the protocol asks it to (strategies `reverse`, `punch` and `relay`). `true` allows it; `false`, `nil` and an error refuse. May wait. Pipes that come in are not its business: `up_cb` sees them."
    ),
    opt("version", .integer, "1", "The version of what the script keeps in `p2pd.state`."),
    opt(
      "migrate", .function("fun(state: table, old_version: integer): table"), "nil",
      "Called when `version` differs from that of the generation in service: gets a copy of its state, returns the new state. It cannot wait. The old state stays as it is, for handlers in flight and for a rollback."
    ),
    opt(
      "adopt", .function("fun(pipe: p2pd.pipe, old_version: integer)"), "nil",
      "Called before this code hears anything of a pipe that another generation served."),
    opt(
      "drain", .boolean, "false",
      "true: pipes that are open when this generation comes finish on the one they have; new ones get this one."),
    opt("protocol", .string, "the file's name without `.lua`", "The name peers choose the protocol by."),
  ]

  static let messageCallback = "fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)"
  static let pipeCallback = "fun(pipe: p2pd.pipe)"
  static let acceptCallback = "fun(peer_id: string, info: p2pd.accept_info): boolean?"
  static let endCallback = "fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)"

  /// The names a script may use after `p2pd.`: functions, constants and the tables `log`, `json`, `state`.
  public static let moduleNames: Set<String> = {
    var names: Set<String> = ["state"]
    for entry in entries where entry.owner.hasPrefix("p2pd") && !classNames.contains(entry.owner) {
      let path = entry.owner.split(separator: ".")
      names.insert(path.count > 1 ? String(path[1]) : entry.name)
    }
    return names
  }()

  static let classNames = Set(classes.map(\.name))

  /// The entry of a function by the name a script writes.
  static let byName: [String: APIEntry] = Dictionary(
    entries.map { ($0.fullName, $0) }, uniquingKeysWith: { first, _ in first })

  /// The methods and fields of one class.
  static func members(of owner: String) -> [APIEntry] { entries.filter { $0.owner == owner } }

  static func options(named name: String) -> APIOptions? { options.first { $0.name == name } }
}
