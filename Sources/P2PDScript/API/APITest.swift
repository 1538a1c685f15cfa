extension API {
  /// What `p2pd-lua test` gives to test files beside the rest: busted's words as globals, and `require "p2pd.test"`.
  public static let testSections: [(title: String, text: String, entries: [APIEntry])] = [
    ("Tests: the words", testWordsText, testWords),
    ("Tests: assertions", assertionsText, assertions),
    ("Tests: the laboratory", labText, labEntries),
  ]

  public static let testEntries: [APIEntry] = testSections.flatMap(\.entries)

  private static let body = APIType.function("fun()")

  private static func word(_ name: String, _ arguments: [APIValue], _ text: String, example: String? = nil) -> APIEntry
  {
    APIEntry(
      owner: "", name: name, kind: .function, arguments: arguments, variadic: false, returns: [], errors: [],
      waits: false, text: text, example: example, since: firstVersion)
  }

  static let testWordsText = """
    `p2pd-lua test` runs the files that end in `_test.lua` or `_spec.lua`. Their words are busted's. Every test is a task: it may
    send, receive and wait. Time in it is simulated, and passes only while everything waits: 30 s of a protocol take milliseconds.
    """

  static let testWords: [APIEntry] = [
    word(
      "describe", [arg("name", .string, "of what"), arg("body", body, "describes it")],
      "A group of tests; groups may be nested. `context` is the same.",
      example: """
        local lab = require "p2pd.test"

        describe("echo", function()
          it("answers what it was sent", function()
            local pipe = lab.dial(lab.node("echo.lua"))
            pipe:send("hello")
            assert.equal("hello", pipe:recv(5))
          end)
        end)
        """),
    word("context", [arg("name", .string, "of what"), arg("body", body, "describes it")], "The same as `describe`."),
    word(
      "it", [arg("name", .string, "what it does"), opt("body", body, "nil", "the test; without one it is pending")],
      "One test. It fails when it raises, when a callback or task of anything it made raises, and when its time is up."),
    word("test", [arg("name", .string, "what it does"), opt("body", body, "nil", "the test")], "The same as `it`."),
    word("spec", [arg("name", .string, "what it does"), opt("body", body, "nil", "the test")], "The same as `it`."),
    word(
      "pending", [arg("reason", .string, "or the name"), opt("body", body, "nil", "is not run")],
      "Outside of a test: one that is not run yet. Inside: ends this one as such."),
    word("before_each", [arg("f", body, "called before")], "Runs before each test of the group and of groups in it."),
    word("after_each", [arg("f", body, "called after")], "Runs after each test, however it ended."),
    word("setup", [arg("f", body, "called once")], "Runs once, before the group's first test."),
    word("teardown", [arg("f", body, "called once")], "Runs once, after the group's last test."),
    word("finally", [arg("f", body, "called at the end")], "In a test: runs when it is over, however it ended."),
  ]

  static let assertionsText = """
    luassert's names; what is expected comes first. The words `is are was has have does to be a an the` may stand in front and
    between, and `not` or `no` turns the sense: `assert.is_not_nil(v)`, `assert.are.same(a, b)`, `assert.has_no.errors(f)`. One more
    argument is a message of your own. `assert(value, message)` is Lua's.
    """

  private static let any = arg("actual", .any, "what there is")

  private static func check(_ name: String, _ arguments: [APIValue], _ text: String) -> APIEntry {
    fn("assert." + name, arguments + [opt("message", .string, "nil", "shown when it fails")], text)
  }

  static let assertions: [APIEntry] =
    [
      check("equal", [arg("expected", .any, "what should be"), any], "`==`."),
      check("equals", [arg("expected", .any, "what should be"), any], "`==`."),
      check(
        "same", [arg("expected", .any, "what should be"), any],
        "Equal in depth: tables by what is in them. A failure lists the differences."),
      check(
        "near", [arg("expected", .number, "what should be"), any, arg("tolerance", .number, "how far it may be")],
        "A number close to another."),
      check("matches", [arg("pattern", .string, "a Lua pattern"), any], "A text the pattern is found in."),
      check("contains", [arg("part", .string, "plain text"), any], "A text that has the part in it."),
      check(
        "has_error",
        [arg("f", body, "is called"), opt("expected", .any, "any error", "the error, its position apart")],
        "The function raises; gives the error."),
      check(
        "error_matches", [arg("f", body, "is called"), arg("pattern", .string, "a Lua pattern")],
        "The function raises an error whose text matches; gives the error."),
      check("truthy", [any], "Anything but nil and false."),
      check("falsy", [any], "nil or false."),
    ]
    + ["true", "false", "nil"].map { check("is_\($0)", [any], "The value is `\($0)`.") }
    + [check("is_not_nil", [any], "The value is not `nil`.")]
    + ["string", "number", "table", "boolean", "function", "userdata", "thread"].map {
      check("is_\($0)", [any], "The value is a \($0).")
    }

  static let labText = """
    `local lab = require "p2pd.test"`: hosts that exist in memory, each with an IPv4 and an IPv6 address, and the network between
    them. Everything above the sockets is the real engine: encryption, framing, limits, the handler's own VM. Every test begins
    with an empty network; what it made is closed at its end, and what it left running is reported.
    """

  private static let node = arg("node", .object("p2pd.node"), "made by `lab.node`")
  private static let links = [
    opt("a", .object("p2pd.node"), "every node", "one end"),
    opt("b", .object("p2pd.node"), "every other node", "the other end"),
  ]

  static let labEntries: [APIEntry] = [
    fn(
      "lab.node",
      [
        opt(
          "what", .either([.string, .table("p2pd.handler")]), "nil: it hosts nothing",
          "a handler's path, told from the test's folder, or its table"),
        opt("options", .options("p2pd.test.node_options"), "{}", "its host's name, its port"),
      ], returns: [arg("node", .object("p2pd.node"), "the running node")], waits: true,
      "Starts a node on a host of its own. A path is run as `p2pd-lua run` does, in a VM of its own; the callbacks of a table run in the test's. What cannot be loaded raises.",
      example: """
        local server = lab.node("chat.lua")
        local pipe = assert(lab.node():connect(server, { protocol = "chat" }))
        """),
    fn(
      "lab.dial",
      [node, opt("options", .options("p2pd.connect_options"), "{}", "protocol, callbacks, deadline")],
      returns: [arg("pipe", .object("p2pd.pipe"), "an open pipe to the node")], waits: true,
      "Opens a pipe to a node, from a node that all calls of a test share. Failing raises."),
    fn(
      "lab.latency", links + [arg("seconds", .number, "one way"), opt("jitter", .number, "0", "up to so much more")],
      "How long packets take between two nodes; with numbers alone, between all.",
      example: "lab.latency(a, b, 0.05)   lab.latency(0.02, 0.01)"),
    fn(
      "lab.loss", links + [arg("part", .number, "0 to 1")],
      "How many packets are lost. A lost datagram never comes; on a stream it comes later."),
    fn(
      "lab.bandwidth", links + [arg("bytes", .number, "a second, each way; 0: any number")],
      "How many bytes get through."),
    fn(
      "lab.partition", links,
      "Nothing gets through any more, and nobody is told: between two nodes, between one and all others, or between all."
    ),
    fn("lab.heal", links, "Takes `partition` and `vanish` back; streams go on where they were."),
    fn(
      "lab.vanish", [node],
      "The node's host is gone without a word: nothing from it arrives any more. Peers find out by their timeouts."),
    fn(
      "lab.stop", [node], waits: true,
      "Ends a node as a signal ends `p2pd-lua run`: its script's `stop` runs, its pipes are flushed and closed."),
    fn(
      "lab.reload",
      [node, opt("source", .string, "nil: the files as they are now", "written into the handler's file first")],
      returns: [
        arg(
          "report",
          .table("{result: string, error?: string, from?: integer, to?: integer, pipes: integer, in_flight: integer}"),
          "`result` is `active`, `unchanged` or `rejected`")
      ], waits: true,
      "Reloads the handler of a node, as saving its file does. With a source the handler must be one of `lab.write`.",
      example: """
        local path = lab.write("greet.lua", "return { msg_cb = function(_, _, pipe) pipe:send('one') end }")
        local server = lab.node(path)
        local pipe = lab.dial(server)
        assert.equal("active", lab.reload(server, "return { msg_cb = function(_, _, pipe) pipe:send('two') end }").result)
        pipe:send("?")
        assert.equal("two", pipe:recv(5))
        """),
    fn("lab.reset", links, "Cuts the streams between nodes: both ends hear of a reset."),
    fn("lab.now", returns: [arg("seconds", .number, "since the test began, on its own clock")], "The test's clock."),
    fn("lab.sleep", [arg("seconds", .number, "on the test's clock")], waits: true, "The same as `p2pd.sleep`."),
    fn(
      "lab.wait_until",
      [
        arg("what", .string, "for the failure"), arg("condition", .function("fun(): any"), "asked every 5 ms"),
        opt("seconds", .number, "5", "how long"),
      ], waits: true, "Waits for an effect that no message announces; in vain, it raises."),
    fn(
      "lab.write", [arg("name", .string, "inside the test's folder"), arg("text", .string, "what is in it")],
      returns: [arg("path", .string, "for `lab.node`")],
      "Writes a file into a folder that goes with the test. A small handler of a test's own, for instance.",
      example: """
        local small = lab.write("small.lua", "local M = require 'chat'; M.limits.rooms = 2; return M")
        local server = lab.node(small)
        """),
    fn(
      "lab.read", [arg("name", .string, "inside the test's folder")],
      returns: [opt("text", .string, "nil", "nil: there is no such file")], "Reads a file of the test's folder."),
    fn(
      "lab.errors", returns: [arg("errors", .table("{node: string, place: string, message: string}[]"), "a new table")],
      "The errors so far in callbacks, timers and tasks of all nodes. Taken, they do not fail the test."),
    fn("lab.log", returns: [arg("lines", .table("string[]"), "a new table")], "What nodes and scripts logged so far."),
    fn(
      "lab.pipes", [node], returns: [arg("count", .integer, "open pipes")],
      "How many pipes the handlers of a node have open."),
    fn(
      "lab.state", [node], returns: [arg("state", .table("table"), "a copy, plain data")],
      "`p2pd.state` of the handler file that a node hosts."),
    constant("lab.seed", .integer, "The seed of this run: the network's luck and `math.random` come from it."),
  ]

  static let labNodeOptions = APIOptions(
    name: "p2pd.test.node_options", text: "What `lab.node` takes.",
    fields: [
      opt("name", .string, "the handler's name, or `node`", "the host's name, for logs and `p2pd.resolve`"),
      opt("port", .integer, "a free one", "the port it listens on"),
      opt("protocol", .string, "the table's `protocol`", "with a handler's table: the name it is hosted under"),
    ], includes: [])
}
