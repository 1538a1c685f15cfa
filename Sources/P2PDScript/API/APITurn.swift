extension API {
  static let turnText = """
    Datagrams through a server (TURN), for peers that cannot reach each other. Each side opens an allocation, tells the other its two
    tuples by some other way, accepts the other's, and sends. `connect` uses relays by itself; this is for protocols of your own over UDP.
    """

  private static let client = APIType.object("p2pd.turn_client")

  static let turnEntries: [APIEntry] = [
    fn(
      "p2pd.turn_client",
      [opt("options", .options("p2pd.turn_options"), "{}", "the server, who we are to it, and how to speak to it")],
      returns: [opt("client", client, "nil", "an allocation"), err],
      errors: ["timeout", "refused", "unreachable", "permission", "limit", "unsupported", "bad_address", "dns", "tls"],
      waits: true,
      "Opens an allocation at a TURN server (RFC 8656): over UDP, and where that is blocked over TCP. It is kept alive until `close()` or the script's end.",
      example: """
        local turn <close> = assert(p2pd.turn_client { server = "turn.example.net", user = "ann", password = "secret" })
        local mapped, relayed = turn:get_tups()
        """),
    method(
      "p2pd.turn_client", "get_tups",
      returns: [
        opt("mapped", .object("p2pd.client_tup"), "nil", "our own address as the server sees it"),
        arg("relayed", .object("p2pd.client_tup"), "where peers send to"),
      ],
      "The two tuples that the other side needs for its `accept_peer`."),
    method(
      "p2pd.turn_client", "accept_peer",
      [
        arg("peer_tup", peer, "the peer's own address as others see it"),
        opt("peer_relay_tup", peer, "nil: it has no relay", "its relayed address; it sends from there then"),
      ],
      returns: [opt("ok", .boolean, "nil", "true"), err],
      errors: ["permission", "limit", "timeout", "closed", "unsupported"], waits: true,
      "Lets a peer through, in both directions, for as long as the client is open."),
    method(
      "p2pd.turn_client", "send",
      [
        arg("msg", .string, "the bytes"),
        opt("client_tup", peer, "who was accepted last", "an accepted peer: its relayed address, if it has one"),
      ],
      returns: [opt("ok", .boolean, "nil", "true"), err],
      errors: ["permission", "closed", "too_long", "limit", "bad_address"],
      "Sends a datagram. It may be lost or overtaken, as always with UDP."),
    method(
      "p2pd.turn_client", "recv", [opt("timeout", .number, "none", "seconds; 0 takes only what is there")],
      returns: [
        opt("msg", .string, "nil", "the datagram"),
        opt("client_tup", .object("p2pd.client_tup"), "nil", "its sender, or err after nil"),
      ],
      errors: ["timeout", "closed"], waits: true,
      "Takes the next datagram, waiting for one if need be. Over `max_qsize` that wait the newest is dropped."),
    method(
      "p2pd.turn_client", "close", returns: [arg("ok", .boolean, "true")], waits: true,
      "Gives the allocation back."),
  ]

  static let turnOptions = APIOptions(
    name: "p2pd.turn_options", text: "What `p2pd.turn_client` takes.",
    fields: [
      opt(
        "server", .either([.string, .table("string[]")]), "the configured ones",
        "`\"host\"`, `\"host:port\"` or a URL (`turns:user:password@host`); of several the first that works"),
      opt("user", .string, "the URL's", "the user's name"),
      opt("password", .string, "the URL's", "the user's password"),
      opt("secret", .string, "the URL's", "in place of a password: coturn's `static-auth-secret`"),
      opt(
        "transport", .words(["udp", "tcp", "tls"]), "udp, then tcp; tls for `turns:`",
        "what to speak to the server over"),
      opt("interface", .either([.string, .object("p2pd.interface")]), "the kernel's choice", "where to speak from"),
      opt("ca", .string, "the machine's", "PEM file of the roots that the server's certificate is checked against"),
      opt("timeout", .number, "10", "seconds for opening"),
      opt("max_qsize", .integer, "1024", "datagrams that may wait for `recv`"),
    ], includes: [])
}
