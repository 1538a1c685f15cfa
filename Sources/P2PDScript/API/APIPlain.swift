extension API {
  static let clientTupText =
    "The second argument of a message callback, and the second result of `recv`. The same object for the same peer of a pipe."

  static let clientTup: [APIEntry] = [
    field("p2pd.client_tup", "ip", .string, "The address; also `client_tup[1]`. A link-local address has its scope."),
    field("p2pd.client_tup", "port", .integer, "The port; also `client_tup[2]`."),
  ]

  static let errorsText = """
    What fails in normal life returns `nil, err`. Misuse (a wrong type, an unknown option) raises an error at the line of the call.
    """

  static let errorObject: [APIEntry] = [
    field(
      "p2pd.error", "code", .string,
      "For programs: `timeout`, `closed`, `reset`, `reloaded`, `refused`, `unreachable`, `limit`, `dns`, `tls`, `cancelled`, `unsupported`, `in_use`, `permission`, `bad_address`, `too_long`, `protocol`, `wrong_key`, `not_p2pd`, `bad_name`, `bad_record`, `not_found`, `no_quorum`, `expired`, `key_changed`, `taken`, `too_large`, `invalid`, `io`."
    ),
    field("p2pd.error", "message", .string, "For people: what was tried and what it met. `tostring(err)` is the same."),
    field(
      "p2pd.error", "attempts", .table("p2pd.error[]"), "What each attempt met, where several were made; else empty."),
    field(
      "p2pd.error", "remedy", .string,
      "What would help, in a sentence; `\"\"` where the message says all there is to say."),
    field(
      "p2pd.error", "strategy", .string,
      "Of an attempt of `connect`: `direct`, `reverse`, `punch` or `relay`; `\"\"` elsewhere."),
    field("p2pd.error", "by_peer", .boolean, "Whether the other node made this attempt, and told."),
    field("p2pd.error", "from", .string, "Of an attempt: the endpoint it left from; `\"\"` where it is not known."),
    field("p2pd.error", "to", .string, "Of an attempt: the endpoint it went to; `\"\"` where there was none."),
    fn(
      "p2pd.error", [arg("code", .string, "a word for programs"), arg("message", .string, "a sentence for people")],
      returns: [arg("err", .object("p2pd.error"), "")],
      "Makes an error value, for functions of yours that return `nil, err`."),
  ]

  static let tasksText = """
    Every callback runs as a task that may wait: `recv`, `send`, `connect`, `sleep`. Others run meanwhile. A script that loops without
    waiting is stopped by the time limit. Tasks and timers belong to the script and end with it.
    """

  private static let body = APIType.function("fun(...): ...")

  static let taskEntries: [APIEntry] = [
    fn(
      "p2pd.spawn", [arg("f", body, "the function")], variadic: true, returns: [arg("task", .object("p2pd.task"), "")],
      "Runs `f(...)` as a task of its own. It starts when the caller next waits or ends."),
    fn(
      "p2pd.join",
      [arg("task", .object("p2pd.task"), "what `spawn` gave"), opt("timeout", .number, "none", "seconds")],
      returns: [opt("...", .any, "nil", "what the task's function returned, or `nil, err`")], errors: ["timeout"],
      waits: true,
      "Waits for a task. An error in the task is raised here too."),
    fn(
      "p2pd.sleep", [arg("seconds", .number, "`math.huge` waits for ever")], waits: true, "Waits.",
      example: "p2pd.sleep(0.5)"),
    fn(
      "p2pd.after", [arg("seconds", .number, "from now"), arg("f", .function("fun()"), "called once")],
      returns: [arg("timer", .object("p2pd.timer"), "")],
      "Calls a function later."),
    fn(
      "p2pd.every",
      [arg("seconds", .number, "between two calls, at least 0.001"), arg("f", .function("fun()"), "called each time")],
      returns: [arg("timer", .object("p2pd.timer"), "")],
      "Calls a function again and again. A call that is due while the last one still waits is left out."),
    fn(
      "p2pd.now", returns: [arg("seconds", .number, "with fractions")],
      "A clock that never goes back, for measuring; `os.time()` tells the time of day."),
    fn(
      "p2pd.with_timeout", [arg("seconds", .number, "the limit"), arg("f", body, "the function")], variadic: true,
      returns: [opt("...", .any, "nil", "what `f(...)` returned, or `nil, err`")], errors: ["timeout"], waits: true,
      "Runs `f(...)`, but not for longer: at the limit its wait fails, its `<close>` variables are closed, and `nil, err` comes back."
    ),
    fn(
      "p2pd.gather", [arg("f", .either([body, .object("p2pd.task")]), "a function or a task")], variadic: true,
      returns: [opt("...", .any, "nil", "the first result of each")], waits: true,
      "Runs functions at the same time and waits for all. The first failure cancels the others and is raised.",
      example: "local a, b = p2pd.gather(function() return p1:recv(2) end, function() return p2:recv(2) end)"),
    fn(
      "p2pd.queue", [opt("size", .integer, "no limit", "values it holds")],
      returns: [arg("queue", .object("p2pd.queue"), "")],
      "A queue between tasks."),
    method(
      "p2pd.task", "join", [opt("timeout", .number, "none", "seconds")],
      returns: [opt("...", .any, "nil", "as `p2pd.join`")], errors: ["timeout"], waits: true,
      "`p2pd.join(task, timeout)`."),
    method(
      "p2pd.task", "cancel", [opt("reason", .string, "\"cancelled\"", "for the error")],
      "Ends the task: its current or next wait raises an error that begins with `cancelled`."),
    method("p2pd.task", "done", returns: [arg("yes", .boolean, "")], "Whether it has ended."),
    method("p2pd.timer", "cancel", [], "Stops the timer."),
    method(
      "p2pd.queue", "put", [arg("value", .any, "anything but nil"), opt("timeout", .number, "none", "seconds")],
      returns: [opt("ok", .boolean, "nil", "true"), err], errors: ["timeout", "closed"], waits: true,
      "Adds a value; waits while the queue is full."),
    method(
      "p2pd.queue", "get", [opt("timeout", .number, "none", "seconds; 0 takes only what is there")],
      returns: [opt("value", .any, "nil", "the oldest value"), err],
      errors: ["timeout", "closed"], waits: true, "Takes a value; waits while the queue is empty."),
    method(
      "p2pd.queue", "close", [], "No more values: who waits gets what is left, then `nil, err` with code `closed`."),
  ]

  static let plainText = "Small things every protocol needs."

  static let plainEntries: [APIEntry] = [
    APIEntry(
      owner: "p2pd", name: "state", kind: .field, arguments: [], variadic: false,
      returns: [arg("state", .table("table"), "")], errors: [], waits: false,
      text:
        "A table of the protocol's own, for plain data: no functions, coroutines or metatables; cycles and pipes are allowed. It lives through reloads, with another `version` as `migrate` says. Not available at the top level of a handler file.",
      example: nil, since: firstVersion),
    fn("p2pd.log.debug", variadic: true, "Logs its arguments, as `print` would write them."),
    fn("p2pd.log.info", variadic: true, "The same, level info."),
    fn("p2pd.log.warn", variadic: true, "The same, level warning."),
    fn("p2pd.log.error", variadic: true, "The same, level error."),
    fn(
      "p2pd.json.encode", [arg("value", .any, "plain data")], returns: [opt("text", .string, "nil", "JSON"), err],
      errors: ["invalid"],
      "A value as JSON. Data JSON cannot carry (bytes that are no UTF-8, NaN, more than 100 levels) gives `nil, err`; functions and cycles raise. An empty table is `{}`, `json.empty_array` is `[]`.",
      example: "pipe:send(p2pd.json.encode { kind = \"hello\", n = 1 })"),
    fn(
      "p2pd.json.decode", [arg("text", .string, "JSON")],
      returns: [opt("value", .any, "nil", "`json.null` for null"), err], errors: ["invalid"],
      "JSON as a value. Integers stay integers. What is no JSON, has bytes that are no UTF-8, or more than 100 levels, gives `nil, err` with the position."
    ),
    constant("p2pd.json.null", .any, "Stands for JSON's null, which a Lua table cannot hold."),
    constant("p2pd.json.empty_array", .any, "Encodes as `[]`."),
  ]

  static let constantsText = "Words with a name, so that a typing error is found."

  static let constants: [APIEntry] = [
    constant("p2pd.TCP", .string, "`\"tcp\"`"), constant("p2pd.UDP", .string, "`\"udp\"`"),
    constant("p2pd.IP4", .integer, "`4`"), constant("p2pd.IP6", .integer, "`6`"),
    constant("p2pd.DIRECT", .string, "`\"direct\"`: connect to the peer's addresses."),
    constant("p2pd.REVERSE", .string, "`\"reverse\"`: the peer connects back."),
    constant("p2pd.PUNCH", .string, "`\"punch\"`: both open the way at the same time."),
    constant("p2pd.RELAY", .string, "`\"relay\"`: through a third host."),
  ]
}
