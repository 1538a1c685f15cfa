extension API {
  static let reloadText = """
    Save the file and the running node speaks the new code: pipes stay open and take it with their next message, `p2pd.state` and `pipe.data`
    stay as they are. A reload goes in this order. The file's top level is run apart from everything: timers, tasks and `daemon` servers
    are only recorded, nothing can wait, `p2pd.state` is not there. What it returned is looked at, servers are opened, `check` is called.
    With another `version`, `migrate` makes the new state. Then the new generation serves: its timers run, the old one's `stop` is called,
    then its `start`. Whatever fails before that leaves the old generation in service, and is told with file and line.

    What runs on old code ends on it. What `start` and the top level spawned ends at once: its wait raises an error with the code
    `reloaded`, which closes `<close>` variables. Handlers have 10 seconds before their waits do, and 1 second after that.
    Servers that the new code asks for again, at the top level or in `start`, with the same place and options, are taken over with their clients;
    the others are closed when `start` has ended. Names of `node:host` likewise. Pipes the script opened itself are closed with the old
    generation, but for those that `p2pd.state` holds and those the new code has added callbacks to: their old callbacks end, and they are its own.

    For 30 seconds the old generation stands by. When of at least 20 messages more than 5 % fail, and more than three times as many as before,
    when three tasks are stopped by the time limit, or when `start` fails, it serves again, with its timers, servers and state, and the
    file's content is not tried again until it changes.
    """

  static let reloadEntries: [APIEntry] = [
    fn(
      "p2pd.reload", [opt("name", .string, "the script's own", "the protocol")],
      returns: [opt("report", .table("table"), "nil", "what became of it"), err], errors: ["invalid", "unsupported"],
      waits: true,
      "Reads a protocol's files again and waits for the outcome. `report.result` is `active`, `unchanged` or `rejected`; `report.error` says why, `report.text` all of it. Where a script cannot wait it returns true at once.",
      example: """
        local report = p2pd.reload()
        if report.result == "rejected" then p2pd.log.warn(report.error) end
        """),
    fn(
      "p2pd.watch", [arg("path", .string, "a data file; relative paths begin at the script's folder")],
      returns: [arg("path", .string, "its absolute path")],
      "Makes a file a part of the script: when its content changes the script is reloaded. Lua files that are required are parts already.",
      example: "local words = io.open(p2pd.watch(\"words.txt\")):read(\"a\")"),
    fn(
      "p2pd.pipes", returns: [arg("pipes", .table("p2pd.pipe[]"), "a new table, oldest first")],
      "The open pipes that this generation of the protocol serves, or will with their next message. In an `exec` script: the pipes it opened.",
      example: "for _, pipe in ipairs(p2pd.pipes()) do pipe:send(\"the code is new\") end"),
    APIEntry(
      owner: "p2pd", name: "generation", kind: .field, arguments: [], variadic: false,
      returns: [arg("generation", .integer, "")], errors: [], waits: false,
      text: "The number of this loading of the script: another one after each reload.", example: nil,
      since: firstVersion),
  ]
}
