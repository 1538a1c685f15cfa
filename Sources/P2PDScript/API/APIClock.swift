extension API {
  static let clockText = """
    P2PD keeps a clock of its own, `SysClock`, and `:time()` reads it; here `p2pd.ntp` measures once how far this host's clock is off, and
    `os.time() + clock.offset` is right from then on. Nothing sets the host's clock. A node does not need this: it measures the way of its
    signals instead.
    """

  static let clockEntries: [APIEntry] = [
    fn(
      "p2pd.ntp",
      [
        opt(
          "servers", .either([.string, .table("string[]")]), "the configured ones",
          "`\"host\"` or `\"host:port\"`, port 123 by default; with three, one that is wrong is outvoted")
      ],
      returns: [opt("clock", .options("p2pd.clock"), "nil", "what time it is"), err],
      errors: ["timeout", "bad_address", "io"], waits: true,
      "Asks time servers (SNTP, RFC 4330) what time it is. Takes one round trip where they answer and agree, 5 seconds at most. `io`: they contradict each other.",
      example: """
        local clock = assert(p2pd.ntp())
        print(("this clock is off by %.3f s, give or take %.3f s"):format(-clock.offset, clock.error))
        """)
  ]

  static let clockTable = APIOptions(
    name: "p2pd.clock", text: "What `p2pd.ntp` gives. Times are seconds, with fractions.",
    fields: [
      arg("time", .number, "the time now, since 1970 (UTC)"),
      arg("offset", .number, "what has to be added to this host's clock: above zero where it is slow"),
      arg("error", .number, "how far that may be off, either way"),
      arg("round_trip", .number, "to the server it was taken from, and back"),
      arg("servers", .table("p2pd.clock_server[]"), "what each server said, in the order they were named"),
    ], includes: [])

  static let clockServer = APIOptions(
    name: "p2pd.clock_server", text: "One server's part in `p2pd.clock`.",
    fields: [
      arg("server", .string, "as it was named"),
      opt("stratum", .integer, "nil", "how far it is from a reference clock, 1 to 15"),
      opt("offset", .number, "nil", "by it alone; nil where it gave none"),
      opt("round_trip", .number, "nil", "there and back"),
      opt("problem", .string, "nil", "why it gave nothing, or is not believed"),
    ], includes: [])
}
