extension API {
  static let namesText = """
    `node:nickname` gives a node a name, `node:connect` takes one. Asked are, in this order, your own names file (`~/.config/p2pd/names`),
    the local network, the name servers and the DNS; the first that knows the name decides.
    """

  static let nameEntries: [APIEntry] = [
    fn(
      "p2pd.names.lookup", [arg("name", .string, "`example.peer`; without an ending it is one of the local network")],
      returns: [opt("report", .options("p2pd.name_report"), "nil", "what it stands for, and who said so"), err],
      errors: ["bad_name", "not_found", "no_quorum", "unreachable", "expired", "key_changed", "timeout"], waits: true,
      "Looks a name up as `node:connect` does, but waits for what every source says. Nothing is remembered. `err.attempts` says what each source met.",
      example: """
        local found = assert(p2pd.names.lookup("example.peer"))
        print(found.id, found.address, found.source)
        """),
    fn(
      "p2pd.names.delete",
      [
        arg("name", .string, "one that a node of this script has"),
        opt("node", .object("p2pd.node"), "the one that hosts the script, or its only node", "whose key has the name"),
      ],
      returns: [opt("ok", .boolean, "nil", "true"), err],
      errors: ["bad_name", "not_found", "taken", "no_quorum", "unreachable", "unsupported"], waits: true,
      "Gives a name up before its time is over. Only the key that has it can; what nobody has is `not_found`."),
  ]

  static let nameReport = APIOptions(
    name: "p2pd.name_report", text: "What `p2pd.names.lookup` gives.",
    fields: [
      arg("name", .string, "in full"), arg("id", .string, "the node's id: its public key"),
      arg("address", .string, "the node's address, as it was told"),
      arg("source", sources, "who decided"), arg("seconds", .number, "what the lookup took"),
      arg("answers", .table("p2pd.name_finding[]"), "what each source said, in the order in which they decide"),
    ], includes: [])

  static let nameFinding = APIOptions(
    name: "p2pd.name_finding", text: "What one source said of a name.",
    fields: [
      arg("source", sources, "which"),
      arg("outcome", .words(["found", "absent", "failed", "not_asked"]), "whether it knows the name"),
      opt("id", .string, "nil", "the key it told"), opt("address", .string, "nil", "the address it told"),
      arg("from", .string, "who told: a file and line, a host, how many servers"),
      opt("why", .string, "nil", "why it failed or was not asked"),
      arg("seconds", .number, "what it took"),
      arg(
        "parts", .table("{from: string, words: string, seconds: number?}[]"),
        "what each of several that were asked said"),
    ], includes: [])

  private static let sources = APIType.words(["file", "lan", "servers", "dns"])
}
