extension API {
  static let pipesText = """
    Everything is a pipe: a client, a server, a UDP socket, the encrypted way to another node. All have the same methods.
    A message goes to every subscription that wants it; then to a waiting `recv()`, else to the `msg_cb`s, else into the
    pipe's inbox for a later `recv()`. Callbacks of one pipe run one after another, each to its end.
    """

  static let pipeFunctions: [APIEntry] = [
    fn(
      "p2pd.pipe_open",
      [
        arg("proto", proto, "`p2pd.TCP` or `p2pd.UDP`"),
        opt("options", .options("p2pd.pipe_options"), "{}", "where to, callbacks, settings"),
      ],
      returns: [opt("pipe", pipe, "nil", "the open pipe"), err],
      errors: ["timeout", "refused", "unreachable", "dns", "tls", "in_use", "permission", "bad_address", "limit"],
      waits: true,
      "Opens a pipe. With `dest` it leads there; without, it is a server: a TCP server's callbacks get each client's pipe, a UDP server is one pipe for all senders.",
      example: """
        local pipe <close> = assert(p2pd.pipe_open(p2pd.TCP, { dest = { "192.0.2.1", 7 }, framing = "line" }))
        pipe:send("hello")
        print(pipe:recv(2))
        """)
  ]

  static let pipeMethods: [APIEntry] = [
    method(
      "p2pd.pipe", "send",
      [
        arg("msg", .string, "the bytes"), opt("client_tup", peer, "the pipe's peer", "to whom, on a UDP server's pipe"),
      ],
      returns: [opt("ok", .boolean, "nil", "true"), err],
      errors: ["closed", "reset", "limit", "too_long", "bad_address", "unreachable"], waits: true,
      "Sends a message. Waits while the peer is slower than the script; where a script cannot wait it returns at once, and fails with `limit` when too much is unsent."
    ),
    method(
      "p2pd.pipe", "recv",
      [
        opt("sub", .object("p2pd.subscription"), "the inbox", "a subscription of this pipe"),
        opt("timeout", .number, "conf's recv_timeout, else none", "seconds; 0 takes only what is there"),
      ],
      returns: [
        opt("msg", .string, "nil", "the message"),
        opt("client_tup", .object("p2pd.client_tup"), "nil", "its sender, or err after nil"),
      ],
      errors: ["timeout", "closed", "reset", "cancelled"], waits: true,
      "Takes the next message, waiting for one if need be: `msg, client_tup`, or `nil, err`.",
      example: """
        local msg, tup = pipe:recv(5)
        if not msg then print("no answer: " .. tostring(tup)) end
        """),
    method(
      "p2pd.pipe", "messages", [opt("sub", .object("p2pd.subscription"), "the inbox", "a subscription of this pipe")],
      returns: [arg("iterator", .function("fun(): string, p2pd.client_tup"), "for a `for` loop")], waits: true,
      "Iterates over messages until the pipe ends.",
      example: "for msg, client_tup in pipe:messages() do pipe:send(msg, client_tup) end"),
    method(
      "p2pd.pipe", "accept", [opt("timeout", .number, "none", "seconds")],
      returns: [opt("client", pipe, "nil", "the next client's pipe"), err],
      errors: ["timeout", "closed", "unsupported"], waits: true,
      "On a TCP server without callbacks: the next client's pipe."),
    method(
      "p2pd.pipe", "subscribe",
      [
        opt("pattern", .string, "nil: every message", "a Lua pattern the message must contain"),
        opt("client_tup", peer, "nil: any sender", "the sender it must come from; port 0 stands for any port"),
      ],
      returns: [arg("sub", .object("p2pd.subscription"), "for `recv`")],
      "Opens a queue of the messages that match. A message goes to every subscription it matches, and to the inbox or callbacks as well.",
      example: """
        local pongs = pipe:subscribe("^PONG")
        pipe:send("PING")
        local pong = pipe:recv(pongs, 2)
        """),
    method(
      "p2pd.pipe", "unsubscribe", [arg("sub", .object("p2pd.subscription"), "what `subscribe` gave")],
      "Closes the queue; what is in it is dropped."),
    method(
      "p2pd.pipe", "add_msg_cb", [arg("f", .function(messageCallback), "gets each message")],
      "Adds a message callback. On a server's pipe it serves every client."),
    method(
      "p2pd.pipe", "del_msg_cb", [arg("f", .function(messageCallback), "a function added before")],
      "Takes a message callback away."),
    method(
      "p2pd.pipe", "add_up_cb", [arg("f", .function(pipeCallback), "called when a pipe opens")],
      "Adds an open callback; on a pipe that is open it is called at once."),
    method(
      "p2pd.pipe", "del_up_cb", [arg("f", .function(pipeCallback), "a function added before")],
      "Takes an open callback away."),
    method(
      "p2pd.pipe", "add_path_cb", [arg("f", .function(pipeCallback), "called when the pipe moved to another path")],
      "Adds a path callback: a pipe that began on a relay moves when a direct way is proven, and `pipe.strategy` and `pipe.path` say where it is now.",
      example: """
        pipe:add_path_cb(function(pipe) p2pd.log.info("now by " .. pipe.strategy) end)
        """),
    method(
      "p2pd.pipe", "del_path_cb", [arg("f", .function(pipeCallback), "a function added before")],
      "Takes a path callback away."),
    method(
      "p2pd.pipe", "add_end_cb", [arg("f", .function(endCallback), "called when the pipe ends")],
      "Adds an end callback; on a pipe that has ended it is called at once."),
    method(
      "p2pd.pipe", "del_end_cb", [arg("f", .function(endCallback), "a function added before")],
      "Takes an end callback away."),
    method(
      "p2pd.pipe", "add_pipe", [arg("other", pipe, "where the messages go")],
      returns: [opt("ok", .boolean, "nil", "true"), err], errors: ["closed", "unsupported"],
      "Relays: what arrives on this pipe leaves on the other, with backpressure and without passing through Lua. Both ways make a tunnel.",
      example: """
        a:add_pipe(b)
        b:add_pipe(a)
        """),
    method("p2pd.pipe", "del_pipe", [arg("other", pipe, "a pipe added before")], "Ends the relay."),
    method(
      "p2pd.pipe", "close", [opt("options", .options("p2pd.close_options"), "{}", "how long to flush")],
      returns: [opt("ok", .boolean, "nil", "true"), err], errors: ["timeout", "reset"], waits: true,
      "Closes the pipe after its queued data went out; gives `nil, err` when some could not be sent. Where a script cannot wait it returns at once and the flush goes on. Closing twice is harmless.",
      example: "pipe:close { flush = 0 }   -- at once, unsent data is dropped"),
    method(
      "p2pd.pipe", "close_output", [], returns: [opt("ok", .boolean, "nil", "true"), err],
      errors: ["closed", "unsupported"],
      "Half-close: the peer sees the end of the data, and this side can still receive."),
    method(
      "p2pd.pipe", "getsockname",
      returns: [opt("client_tup", .object("p2pd.client_tup"), "nil", "the local address"), err], errors: ["closed"],
      "The local address."),
    method(
      "p2pd.pipe", "getpeername",
      returns: [opt("client_tup", .object("p2pd.client_tup"), "nil", "the peer's address"), err],
      errors: ["closed", "unsupported"], "The peer's address; a server has none."),
    method(
      "p2pd.pipe", "stats", returns: [arg("stats", .options("p2pd.pipe_stats"), "a new table")],
      "Counters since the pipe opened."),
  ]

  static let pipeFields: [APIEntry] = [
    field("p2pd.pipe", "id", .integer, "A number no other pipe of the process has."),
    field("p2pd.pipe", "proto", .words(["tcp", "udp"]), "The transport."),
    field("p2pd.pipe", "af", .integer, "`p2pd.IP4`, `p2pd.IP6`, or nil for a Unix-domain socket."),
    field("p2pd.pipe", "is_server", .boolean, "Whether it takes clients: a TCP server, or a UDP pipe without `dest`."),
    field("p2pd.pipe", "is_open", .boolean, "Whether it can still be used."),
    field(
      "p2pd.pipe", "peer", .either([.object("p2pd.client_tup"), .nil]), "The other side's address; nil for a server."),
    field(
      "p2pd.pipe", "route", .either([.object("p2pd.route"), .nil]), "The route it was opened on, where one was given."),
    field(
      "p2pd.pipe", "strategy", .string,
      "How a pipe between nodes came to be: `direct`, `reverse`, `punch` or `relay`; empty for other pipes."),
    field(
      "p2pd.pipe", "held_by", .string,
      "How it is held to the `interface` asked for: `device` (SO_BINDTODEVICE) or `source` (bound to its address); nil where it is not."
    ),
    field(
      "p2pd.pipe", "path", .string,
      "Which way it takes: `same machine`, `lan`, `link-local`, `ipv6`, `ipv4` or `relay`; empty for other pipes."),
    field(
      "p2pd.pipe", "why_relayed", .object("p2pd.error"),
      "Of a pipe that this node opened over a relay, once nothing better was found, some seconds after `connect`: an error whose `attempts` say what each attempt of both nodes at another way has met, and whose `remedy` what would help. nil before that and for other pipes."
    ),
    field(
      "p2pd.pipe", "protocol", .string,
      "The protocol chosen by the peer; empty for the default protocol and plain pipes."),
    field(
      "p2pd.pipe", "peer_id", .either([.string, .nil]), "The verified node id of the other side; nil for plain pipes."),
    field("p2pd.pipe", "data", .any, "Yours: anything you want to keep with the pipe."),
  ]
}
