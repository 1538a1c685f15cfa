extension API {
  /// Every options table, and the tables some functions return.
  public static let options: [APIOptions] = [
    pipeOptions, conf, tlsOptions, closeOptions, pipeStats, nodeOptions, connectOptions, nodeCallbacks, daemonOptions,
    resolveOptions, servers, acceptInfo, configFile, stunOptions, turnOptions, stunMapping, natTable, natBehaviour,
    clockTable, clockServer, nameReport, nameFinding, labNodeOptions,
  ]

  private static let callbackFields: [APIValue] = [
    opt("msg_cb", .function(messageCallback), "nil", "gets each message"),
    opt("up_cb", .function(pipeCallback), "nil", "called when the pipe, or a server's client, opens"),
    opt("path_cb", .function(pipeCallback), "nil", "called when the pipe moved to another path"),
    opt("end_cb", .function(endCallback), "nil", "called when the pipe, or a server's client, ends"),
  ]

  private static let place = APIType.either([
    .string, .integer, .object("p2pd.client_tup"), .table("{[1]: string, [2]: integer}"),
  ])

  static let pipeOptions = APIOptions(
    name: "p2pd.pipe_options", text: "What `p2pd.pipe_open` takes.",
    fields: [
      opt(
        "dest", place, "nil: a server",
        "`{host, port}`, a `client_tup`, `\"host:port\"` or `\"unix:/path\"`; a name is resolved, both families raced"),
      opt(
        "route", .either([.object("p2pd.route"), .object("p2pd.interface")]), "nil: the kernel chooses",
        "where the pipe starts from"),
      opt("bind", place, "nil: any address, a free port", "the local address: a port, `{ip, port}` or `\"ip:port\"`"),
    ] + callbackFields, includes: ["p2pd.conf"])

  static let conf = APIOptions(
    name: "p2pd.conf", text: "Settings of a pipe, under P2PD's names. Times are seconds, fractions allowed.",
    fields: [
      opt(
        "framing", .words(["raw", "line", "u16", "u32", "message"]), "\"raw\"; \"message\" between nodes",
        "how messages keep their boundaries on a stream"),
      opt("max_message", .integer, "16777216", "bytes of the largest message; a peer that sends more is cut off"),
      opt("con_timeout", .number, "10", "how long opening may take, TLS included"),
      opt("recv_timeout", .number, "nil: no limit", "how long a `recv` without a timeout of its own waits"),
      opt("dns_timeout", .number, "5", "how long a name may take to resolve"),
      opt("flush_timeout", .number, "5", "how long `close` tries to get queued data out"),
      opt(
        "max_qsize", .integer, "1024",
        "messages a queue holds; over it a TCP pipe stops reading, a UDP pipe drops the newest"),
      opt("max_qbytes", .integer, "1048576", "bytes a pipe's queues hold before the same happens"),
      opt("enable_msg_ids", .boolean, "false", "drop messages that equal one of the last from the same sender"),
      opt("max_msg_ids", .integer, "1000", "how many are remembered for that"),
      opt("reuse_addr", .boolean, "false", "SO_REUSEADDR and SO_REUSEPORT"),
      opt("broadcast", .boolean, "false", "SO_BROADCAST: allow UDP broadcast"),
      opt("linger", .integer, "nil", "SO_LINGER in seconds"),
      opt("no_delay", .boolean, "true", "TCP_NODELAY"),
      opt("allow_half_open", .boolean, "false", "keep the pipe open for sending after the peer ended its side"),
      opt("multicast", .table("string[]"), "{}", "multicast groups a UDP pipe joins"),
      opt("multicast_ttl", .integer, "nil: 1", "hops a multicast datagram may take"),
      opt("multicast_loop", .boolean, "nil: true", "whether this host gets its own multicast datagrams"),
      opt("dual_stack", .boolean, "false", "an IPv6 server that also takes IPv4"),
      opt("backlog", .integer, "1024", "connections the kernel holds for a server"),
      opt(
        "tls", .either([.boolean, .options("p2pd.tls_options")]), "false",
        "encrypt; `true` verifies the server against the system's authorities"),
      opt("interface", .string, "nil", "the name of the interface the pipe is held to"),
    ], includes: [])

  static let tlsOptions = APIOptions(
    name: "p2pd.tls_options", text: "TLS of a plain pipe. A server needs `certificate` and `key`.",
    fields: [
      opt("certificate", .string, "nil", "path of the PEM file with the certificate chain"),
      opt("key", .string, "nil", "path of the PEM file with the private key"),
      opt("ca", .string, "nil: the system's", "path of a PEM file with the authorities to trust"),
      opt("server_name", .string, "nil: the host in `dest`", "the name the server's certificate must carry"),
      opt("verify", .boolean, "true", "verify the server's certificate"),
      opt("alpn", .table("string[]"), "{}", "application protocols to offer"),
    ], includes: [])

  static let closeOptions = APIOptions(
    name: "p2pd.close_options", text: "What `pipe:close` takes.",
    fields: [opt("flush", .number, "conf's flush_timeout", "seconds to get queued data out; 0 closes at once")],
    includes: [])

  static let pipeStats = APIOptions(
    name: "p2pd.pipe_stats", text: "What `pipe:stats` gives.",
    fields: [
      arg("bytes_in", .integer, "bytes received"), arg("bytes_out", .integer, "bytes sent"),
      arg("messages_in", .integer, "messages received"), arg("messages_out", .integer, "messages sent"),
      arg("dropped", .integer, "messages dropped: a full queue (UDP), or duplicates"),
      arg("queued", .integer, "messages nobody has taken yet"), arg("queued_bytes", .integer, "their bytes"),
      arg("unsent", .integer, "bytes not yet given to the kernel"),
      opt("rtt", .number, "nil", "the last round trip, seconds"),
      arg("age", .number, "seconds since the pipe opened"),
    ], includes: [])

  static let daemonOptions = APIOptions(
    name: "p2pd.daemon_options", text: "What `p2pd.daemon` takes; the settings are those of its servers.",
    fields: callbackFields, includes: ["p2pd.conf"])

  static let resolveOptions = APIOptions(
    name: "p2pd.resolve_options", text: "What `p2pd.resolve` takes.",
    fields: [
      opt("af", .integer, "nil: both", "`p2pd.IP4` or `p2pd.IP6`"), opt("timeout", .number, "5", "seconds"),
    ], includes: [])

  static let nodeCallbacks = APIOptions(
    name: "p2pd.node_callbacks", text: "The callbacks of one protocol of a node, or of one pipe between nodes.",
    fields: callbackFields, includes: [])

  static let nodeOptions = APIOptions(
    name: "p2pd.node_options", text: "What `p2pd.node` takes.",
    fields: [
      opt("port", .integer, "a free one", "the port to listen on"),
      opt("ifs", .table("string[]|p2pd.interface[]"), "every interface", "the interfaces to listen on"),
      opt("listen", .table("string[]"), "every address of the interfaces", "the addresses to listen on"),
      opt("ephemeral", .boolean, "true unless `state_dir` is given", "a fresh identity that is forgotten at the end"),
      opt("state_dir", .string, "nil", "the folder that keeps identity and port"),
      opt("offline", .boolean, "as the command line says", "contact no server"),
      opt(
        "port_mapping", .boolean, "where it asks servers", "have the router open the node's port (PCP, NAT-PMP, UPnP)"),
      opt(
        "servers", .table("string[]|p2pd.servers"), "those of the command line",
        "whom it asks, and at which brokers it is reached"),
      opt(
        "ca", .string, "the machine's roots", "PEM file of the roots that the servers' certificates are checked against"
      ),
      acceptField,
    ] + callbackFields, includes: [])

  private static let acceptField = opt(
    "accept_cb", .function(acceptCallback), "nil: everybody may",
    "asked before the node dials anything because a stranger asks it to: `true` allows it; `false`, `nil` and an error refuse; it may wait"
  )

  static let acceptInfo = APIOptions(
    name: "p2pd.accept_info", text: "What `accept_cb` is told of a stranger's wish.",
    fields: [
      arg("protocol", .string, "the protocol the pipe is to speak; `\"\"` is the default one"),
      arg(
        "strategies", .table("string[]"),
        "in which ways this node is to help: `p2pd.REVERSE`, `p2pd.PUNCH`, `p2pd.RELAY`"),
      arg(
        "addresses", .table("string[]"), "what this node would dial, `\"ip:port\"`; a relay's address is not known yet"),
    ], includes: [])

  private static let urls = APIType.table("string[]")

  static let servers = APIOptions(
    name: "p2pd.servers",
    text: """
      The servers a node may contact, as URLs: `stun:HOST`, `turn:USER:PASSWORD@HOST?transport=tcp`, `turns:...`, `mqtt://HOST`, \
      `mqtts://HOST`, `ntp:HOST`, `https://HOST` (name servers). A list replaces all of them, `{}` leaves none; a named group replaces those of its kind.
      """,
    fields: [
      opt("stun", urls, "as before", "they tell how the node looks from outside; `\"HOST:PORT\"` will do"),
      opt("turn", urls, "as before", "relays, for peers that no other way leads to"),
      opt("brokers", urls, "as before", "MQTT brokers: nodes that have no pipe to it yet reach it there"),
      opt("ntp", urls, "as before", "clocks"),
      opt(
        "names", urls, "as before", "name servers; those of another ending than `.peer` say it: `https://HOST?tld=home`"
      ),
    ], includes: [])

  static let configFile = APIOptions(
    name: "p2pd.conf_file",
    text: """
      What `p2pd.conf.lua` returns: settings for `p2pd-lua`, in place of options typed each time. It is looked for beside the script, \
      then in `$XDG_CONFIG_HOME/p2pd-lua` (`~/.config/p2pd-lua`); the first one found counts. The environment and options win over it. \
      It is run without files, processes or a network, for a second at most.
      """,
    fields: [
      opt(
        "servers", .table("string[]|p2pd.servers"), "public ones", "the servers that nodes may contact (`--servers`)"),
      opt("offline", .boolean, "false", "contact none of them (`--offline`)"),
      opt(
        "port_mapping", .boolean, "where servers are asked",
        "have the router open the node's port (`--no-port-mapping`: `false`)"),
      opt(
        "ca", .string, "the machine's roots", "PEM file of the roots for their certificates (`--ca`), beside this file"),
      opt("nickname", .string, "nil", "the name to register for the node (`--nickname`)"),
      opt("mdns", .boolean, "true", "ask and tell the local network (`--no-mdns`: `false`)"),
      opt("name", .string, "the first protocol's", "what `status` and the like call the node (`--name`)"),
      opt("port", .integer, "kept from the last start", "the port to listen on (`--port`)"),
      opt("listen", .table("string[]"), "every address", "the addresses to listen on (`--listen`)"),
      opt(
        "interfaces", .table("string[]"), "all that are up", "those whose addresses the node's address tells (`--if`)"),
      opt("max_pipes", .integer, "as without the file", "pipes of others open at once (`--max-pipes`)"),
      opt("memory", .integer, "64", "MiB that scripts may hold (`--memory`)"),
      opt("time_limit", .number, "1", "seconds a handler may run without waiting (`--time-limit`)"),
      opt("sandbox", .boolean, "false", "scripts get no files and processes (`--sandbox`)"),
      opt("log_level", .words(logLevels), "the command's", "least level that is logged (`--log-level`)"),
      opt("log_format", .words(["text", "json"]), "\"text\"", "shape of the log (`--log-format`)"),
    ], includes: [])

  private static let logLevels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]

  static let connectOptions = APIOptions(
    name: "p2pd.connect_options", text: "What `node:connect` takes.",
    fields: [
      opt("protocol", .string, "\"\": the default protocol", "the protocol to speak"),
      opt("timeout", .number, "10", "seconds for all attempts together"),
      opt(
        "strategies", .table("string[]"), "all four",
        "which ways to try: `p2pd.DIRECT`, `p2pd.REVERSE`, `p2pd.PUNCH`, `p2pd.RELAY`"),
    ] + callbackFields, includes: [])
}
