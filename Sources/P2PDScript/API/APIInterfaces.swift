extension API {
  static let interfacesText = """
    Which networks this host is on. A link-local address always carries its scope (`fe80::1%eth0`), so it can be used as it stands.
    """

  static let interfaceEntries: [APIEntry] = [
    fn(
      "p2pd.list_interfaces", returns: [arg("nics", .table("p2pd.interface[]"), "a new table")], errors: [],
      "The interfaces of this host, as they are now.",
      example: "for _, nic in ipairs(p2pd.list_interfaces()) do print(nic.name, nic.mac) end"),
    fn(
      "p2pd.interface", [opt("name", .string, "nil: the default interface", "the interface's name")],
      returns: [opt("nic", .object("p2pd.interface"), "nil", "the interface"), err],
      errors: ["bad_address", "unreachable"],
      "One interface: the named one, or the one the default route leads through."),
    fn(
      "p2pd.resolve",
      [
        arg("host", .string, "a name or an address"),
        opt("options", .options("p2pd.resolve_options"), "{}", "family and timeout"),
      ],
      returns: [opt("addresses", .table("string[]"), "nil", "in the order to try them"), err],
      errors: ["dns", "timeout"], waits: true, "The addresses of a name."),
    field("p2pd.interface", "name", .string, "Its name: `eth0`."),
    field("p2pd.interface", "index", .integer, "The kernel's number of it."),
    field("p2pd.interface", "mac", .either([.string, .nil]), "Its hardware address; nil where it has none."),
    field("p2pd.interface", "mtu", .integer, "Bytes of the largest packet."),
    field("p2pd.interface", "is_up", .boolean, "Whether it can carry packets."),
    field("p2pd.interface", "is_loopback", .boolean, "Whether it leads nowhere but here."),
    field("p2pd.interface", "addresses", .table("string[]"), "All its addresses."),
    field("p2pd.interface", "rp", .table("table<integer, p2pd.route[]>"), "Route pools: `nic.rp[p2pd.IP4][1]`."),
    method(
      "p2pd.interface", "supported", returns: [arg("afs", .table("integer[]"), "`p2pd.IP4`, `p2pd.IP6`")],
      "The families it has usable addresses of."),
    method(
      "p2pd.interface", "is_default", [opt("af", .integer, "nil: any", "`p2pd.IP4` or `p2pd.IP6`")],
      returns: [arg("yes", .boolean, "")], "Whether the default route leads through it."),
    method(
      "p2pd.interface", "route", [opt("af", .integer, "the first supported", "`p2pd.IP4` or `p2pd.IP6`")],
      returns: [opt("route", .object("p2pd.route"), "nil", "its first route of that family"), err],
      errors: ["unsupported"], "A route to open pipes on."),
    field(
      "p2pd.interface", "nat", .either([.options("p2pd.nat"), .nil]),
      "What `load_nat` found out about the router before it; nil until then."),
    method(
      "p2pd.interface", "load_nat",
      returns: [opt("nat", .options("p2pd.nat"), "nil", "what is known of the router"), err],
      errors: ["timeout", "dns", "unreachable", "unsupported", "bad_address"], waits: true,
      "Measures how the router before the interface maps and filters, with the STUN servers of the command line or well-known ones. Takes some seconds. From then on `nic.nat` has it, and the interface's routes have their `ext_ips`."
    ),
    field("p2pd.route", "af", .integer, "`p2pd.IP4` or `p2pd.IP6`."),
    field("p2pd.route", "interface", .string, "The interface's name."),
    field("p2pd.route", "nic_ips", .table("string[]"), "The interface's own addresses."),
    field("p2pd.route", "ext_ips", .table("string[]"), "The addresses the world sees, as far as they are known."),
    field("p2pd.route", "link_locals", .table("string[]"), "Link-local addresses, with their scope."),
    field("p2pd.route", "bind_ip", .either([.string, .nil]), "The address a bound route starts from."),
    field("p2pd.route", "bind_port", .either([.integer, .nil]), "The port a bound route starts from."),
    method(
      "p2pd.route", "bind",
      [
        opt("port", .integer, "0: a free one", "the local port"),
        opt("ip", .string, "its first address", "which of its addresses"),
      ],
      returns: [opt("route", .object("p2pd.route"), "nil", "a route bound to that address"), err],
      errors: ["bad_address"],
      "The route with a place to start from. Nothing is opened yet.",
      example: "local pipe = assert(p2pd.pipe_open(p2pd.UDP, { route = nic:route(p2pd.IP4):bind(9000) }))"),
  ]
}
