extension API {
  static let nodesText = """
    A node is a peer others reach by its address. Pipes between nodes are encrypted, verified against the node's key, and keep message boundaries.
    """

  static let nodeEntries: [APIEntry] = [
    fn(
      "p2pd.node", [opt("options", .options("p2pd.node_options"), "nil", "leave out in a hosted handler")],
      returns: [opt("node", .object("p2pd.node"), "nil", "the running node"), err],
      errors: ["in_use", "permission", "bad_address", "io"], waits: true,
      "Starts a node, without blocking the process. In a handler run by `p2pd-lua run`, called without options, it is the node that hosts the handler.",
      example: """
        local node = assert(p2pd.node())
        print(node:address())
        """),
    method(
      "p2pd.node", "address", [opt("wait", .number, "0", "seconds to wait at most until the address is whole")],
      returns: [arg("address", .string, "a token that begins with `p2pd1`")], waits: true,
      "The address to give to others, as it is now. A node finds out after its start what it looks like from outside and which brokers lead to it, which takes a second or two; `wait` waits for that. The address changes when the host's addresses do.",
      example: "print(node:address(10))"),
    method(
      "p2pd.node", "connect",
      [
        arg(
          "address", .either([.string, .object("p2pd.node")]),
          "an address token, a name such as `example.peer`, or a node of this script"),
        opt("options", .options("p2pd.connect_options"), "{}", "protocol, callbacks, deadline"),
      ],
      returns: [opt("pipe", pipe, "nil", "an encrypted pipe to the node with that key"), err],
      errors: [
        "timeout", "refused", "unreachable", "wrong_key", "not_p2pd", "protocol", "limit", "bad_address", "closed",
        "bad_name", "not_found", "no_quorum", "expired", "key_changed",
      ], waits: true,
      "Connects to a node, by whatever way leads to it first: all are tried at once. `err.attempts` says what each attempt of both nodes met, `err.remedy` what would help; `pipe.strategy` and `pipe.path` which way it was. The pipe has the callbacks given here and no others. A name is looked up first (`p2pd.names.lookup`); the node is asked for its newest address where the stored one may be old, and the key of the name is remembered: another one later is `key_changed`.",
      example: """
        local pipe = assert(node:connect(address, { protocol = "chat", timeout = 10 }))
        """),
    method(
      "p2pd.node", "nickname", [arg("name", .string, "`\"example\"`, or in full: `\"example.peer\"`")],
      returns: [opt("name", .string, "nil", "in full, once a majority of the name servers has it"), err],
      errors: ["bad_name", "taken", "no_quorum", "unreachable", "unsupported", "limit", "too_large", "closed"],
      waits: true,
      "Gives the node a name, by which others connect to it; the first key that takes a name has it. The node keeps it: it renews the name long before its 7 days are over, and tells the servers and the local network when its address changes. Where no name servers are configured the name is one of the local network alone, `example.local`. With `no_quorum` or `unreachable` the node goes on trying.",
      example: "print(assert(node:nickname(\"example\")))   --> example.peer"),
    method(
      "p2pd.node", "host",
      [arg("protocol", .string, "its name"), arg("callbacks", .options("p2pd.node_callbacks"), "its callbacks")],
      "Hosts a protocol under a name that peers choose in `connect`."),
    method(
      "p2pd.node", "add_msg_cb", [arg("f", .function(messageCallback), "gets each message")],
      "Adds a message callback to the default protocol: pipes that peers open."),
    method(
      "p2pd.node", "del_msg_cb", [arg("f", .function(messageCallback), "a function added before")], "Takes it away."),
    method(
      "p2pd.node", "add_up_cb", [arg("f", .function(pipeCallback), "called when a peer's pipe opens")],
      "Adds an open callback to the default protocol."),
    method(
      "p2pd.node", "del_up_cb", [arg("f", .function(pipeCallback), "a function added before")], "Takes it away."),
    method(
      "p2pd.node", "add_path_cb",
      [arg("f", .function(pipeCallback), "called when a peer's pipe moved to another path")],
      "Adds a path callback to the default protocol."),
    method(
      "p2pd.node", "del_path_cb", [arg("f", .function(pipeCallback), "a function added before")], "Takes it away."),
    method(
      "p2pd.node", "add_end_cb", [arg("f", .function(endCallback), "called when a peer's pipe ends")],
      "Adds an end callback to the default protocol."),
    method("p2pd.node", "del_end_cb", [arg("f", .function(endCallback), "a function added before")], "Takes it away."),
    method(
      "p2pd.node", "pipes", returns: [arg("pipes", .table("p2pd.pipe[]"), "a new table")],
      "The node's open pipes that a script has a hand in."),
    method(
      "p2pd.node", "close", [opt("options", .options("p2pd.close_options"), "{}", "how long to flush")],
      returns: [arg("ok", .boolean, "true")], waits: true, "Closes the node and its pipes; flushes first."),
    field("p2pd.node", "id", .string, "The node's id: its public key."),
    field("p2pd.node", "port", .integer, "The port it listens on."),
  ]

  static let daemonText =
    "A daemon keeps servers on several addresses, families and protocols with one set of callbacks."

  private static let listenReturn = [opt("pipe", pipe, "nil", "the server's pipe"), err]
  private static let listenAllReturn = [opt("pipes", .table("p2pd.pipe[]"), "nil", "one server for each address"), err]
  private static let listenErrors = ["in_use", "permission", "bad_address"]

  static let daemonEntries: [APIEntry] = [
    fn(
      "p2pd.daemon", [opt("options", .options("p2pd.daemon_options"), "{}", "callbacks and settings of its servers")],
      returns: [arg("daemon", .object("p2pd.daemon"), "without servers yet")], "Makes a daemon.",
      example: """
        local d = p2pd.daemon { msg_cb = function(msg, client_tup, pipe) pipe:send(msg, client_tup) end }
        assert(d:listen_loopback(p2pd.UDP, 0))
        """),
    method(
      "p2pd.daemon", "add_listener",
      [
        arg("proto", proto, "`p2pd.TCP` or `p2pd.UDP`"),
        arg("where", .either([.object("p2pd.route"), place]), "a bound route, a port, `{ip, port}` or `\"ip:port\"`"),
      ],
      returns: listenReturn, errors: listenErrors, waits: true, "Adds a server on one address."),
    method(
      "p2pd.daemon", "listen_all",
      [arg("proto", proto, "the protocol"), opt("port", .integer, "0: a free one", "the same for every address")],
      returns: listenAllReturn, errors: listenErrors, waits: true,
      "Adds servers for every address of both families. All or none: when one fails, those already open are closed."),
    method(
      "p2pd.daemon", "listen_loopback",
      [arg("proto", proto, "the protocol"), opt("port", .integer, "0: a free one", "the same for both")],
      returns: listenAllReturn, errors: listenErrors, waits: true,
      "Adds servers on `127.0.0.1` and `::1`: only this host reaches them."),
    method(
      "p2pd.daemon", "listen_local",
      [
        arg("proto", proto, "the protocol"), opt("port", .integer, "0: a free one", "the same for every address"),
        opt("nic", .object("p2pd.interface"), "every interface", "only this interface"),
      ],
      returns: listenAllReturn, errors: listenErrors + ["unsupported"], waits: true,
      "Adds servers on private, unique local and link-local addresses: the local network reaches them."),
    method(
      "p2pd.daemon", "add_msg_cb", [arg("f", .function(messageCallback), "gets each message")],
      "Adds a message callback for all its servers."),
    method(
      "p2pd.daemon", "del_msg_cb", [arg("f", .function(messageCallback), "a function added before")], "Takes it away."),
    method("p2pd.daemon", "servers", returns: [arg("pipes", .table("p2pd.pipe[]"), "a new table")], "Its servers."),
    method(
      "p2pd.daemon", "close", returns: [arg("ok", .boolean, "true")], "Closes its servers and their clients' pipes."),
  ]

  private static let place = APIType.either([
    .string, .integer, .object("p2pd.client_tup"), .table("{[1]: string, [2]: integer}"),
  ])
}
