extension API {
  static let stunText = """
    How the Internet sees this host. Several servers are asked at once and what most of them say counts, so one that is wrong or gone
    changes nothing. Without `servers` those of the command line are asked, or well-known public ones.
    """

  static let stunEntries: [APIEntry] = [
    fn(
      "p2pd.stun_client", [opt("options", .options("p2pd.stun_options"), "{}", "whom to ask, and from where")],
      returns: [arg("client", .object("p2pd.stun_client"), "asks when its methods are called")],
      "A client of STUN servers (RFC 8489). Nothing is sent yet.",
      example: "print(p2pd.stun_client():get_wan_ip())"),
    method(
      "p2pd.stun_client", "get_wan_ip", returns: [opt("ip", .string, "nil", "the outside address"), err],
      errors: stunErrors, waits: true, "The address that others see; over TCP where UDP is blocked."),
    method(
      "p2pd.stun_client", "get_mapping", [opt("proto", proto, "\"udp\"", "`p2pd.UDP` or `p2pd.TCP`")],
      returns: [opt("mapping", .options("p2pd.stun_mapping"), "nil", "inside and outside address and port"), err],
      errors: stunErrors, waits: true, "How a fresh port of this host is seen from outside."),
    method(
      "p2pd.stun_client", "get_nat",
      returns: [opt("nat", .options("p2pd.nat"), "nil", "what is known of the router"), err],
      errors: stunErrors, waits: true,
      "Measures how the router before this host maps and filters. Takes some seconds.",
      example: """
        local nat = assert(p2pd.stun_client():get_nat())
        print(nat.type, nat.udp.mapping or "unknown")
        """),
  ]

  /// `bad_address`: no server is configured; `unsupported`: the interface has no address of the family.
  private static let stunErrors = ["timeout", "dns", "unreachable", "unsupported", "bad_address"]

  static let stunOptions = APIOptions(
    name: "p2pd.stun_options", text: "What `p2pd.stun_client` takes.",
    fields: [
      opt(
        "servers", .table("string[]"), "the configured ones",
        "`\"host\"` or `\"host:port\"`, port 3478 by default, asked over UDP and TCP; `\"stuns:host\"` over TLS"),
      opt("interface", .either([.string, .object("p2pd.interface")]), "the default one", "where to ask from"),
      opt("af", .integer, "`p2pd.IP4`", "`p2pd.IP4` or `p2pd.IP6`"),
    ], includes: [])

  static let stunMapping = APIOptions(
    name: "p2pd.stun_mapping", text: "What `get_mapping` gives.",
    fields: [
      arg("ip", .string, "the outside address"), arg("port", .integer, "the outside port"),
      arg("local_ip", .string, "the inside address"), arg("local_port", .integer, "the inside port"),
    ], includes: [])

  static let natTable = APIOptions(
    name: "p2pd.nat",
    text: "What is known of the router before a path. A field that is nil is unknown, which is not no.",
    fields: [
      arg(
        "type", .integer,
        "P2PD's NAT type: 0 unknown, 1 open, 2 firewall, 3 full cone, 4 restricted, 5 port restricted, 6 symmetric, 7 UDP blocked"
      ),
      arg(
        "delta_type", .integer, "P2PD's delta type: 0 unknown, 1 none, 2 equal, 3 preserved, 4 independent, 6 random"),
      arg("delta_value", .integer, "what the delta counts, in ports"),
      arg("udp", .options("p2pd.nat_behaviour"), "how UDP is treated"),
      arg("tcp", .options("p2pd.nat_behaviour"), "how TCP is treated"),
      opt("hairpin", .words(["no", "external", "internal"]), "nil", "whether the outside address works from inside"),
      opt("carrier_nat", .boolean, "nil", "whether the provider translates too"),
      opt("round_trip", .number, "nil", "seconds to the nearest server and back"),
      arg("external", .table("string[]"), "the outside addresses"),
      arg("words", .table("string[]"), "the same in sentences"),
    ], includes: [])

  static let natBehaviour = APIOptions(
    name: "p2pd.nat_behaviour", text: "How one transport is treated.",
    fields: [
      opt("reach", .words(["answered", "blocked", "silent"]), "nil", "whether servers answered"),
      opt(
        "mapping",
        .words([
          "none", "endpoint_independent", "address_dependent", "address_and_port_dependent", "endpoint_dependent",
        ]), "nil", "which outside port a peer sees"),
      opt(
        "filtering", .words(["none", "endpoint_independent", "address_dependent", "address_and_port_dependent"]), "nil",
        "who may send in"),
      opt(
        "allocation", .string, "nil",
        "how outside ports are chosen: `preserve`, `offset+7000`, `seq+1`, `random`"),
      opt(
        "range", .table("integer[]"), "nil",
        "the lowest and the highest outside port seen, where they are sequential or random"),
      arg("mapped", .table("string[]"), "the outside addresses and ports seen"),
    ], includes: [])
}
