extension API {
  public static let classes: [APIClass] = [
    APIClass(
      name: "p2pd.pipe", variable: "pipe",
      text: "A connection, a server or a UDP socket. `local pipe <close> = ...` closes it at the end of the block.",
      annotations: []),
    APIClass(
      name: "p2pd.subscription", variable: "sub", text: "A queue of some of a pipe's messages, for `pipe:recv(sub)`.",
      annotations: []),
    APIClass(
      name: "p2pd.client_tup", variable: "client_tup",
      text: "Who a message is from: `{ip, port}`. Prints as `ip:port`.",
      annotations: ["---@field [1] string the address", "---@field [2] integer the port", "---@operator len: integer"]),
    APIClass(
      name: "p2pd.error", variable: "err", text: "Why something did not work. Prints as a sentence.", annotations: []),
    APIClass(
      name: "p2pd.node", variable: "node", text: "A node: an identity, an address, and the pipes of its peers.",
      annotations: []),
    APIClass(
      name: "p2pd.daemon", variable: "daemon", text: "Several servers with one set of callbacks.", annotations: []),
    APIClass(name: "p2pd.interface", variable: "nic", text: "A network interface of this host.", annotations: []),
    APIClass(
      name: "p2pd.route", variable: "route",
      text: "The addresses one family has on an interface: where a pipe may start from.", annotations: []),
    APIClass(
      name: "p2pd.stun_client", variable: "client", text: "Asks STUN servers: `p2pd.stun_client`.", annotations: []),
    APIClass(
      name: "p2pd.turn_client", variable: "turn",
      text:
        "An allocation at a TURN server: `p2pd.turn_client`. `local turn <close> = ...` gives it back at the end of the block.",
      annotations: []),
    APIClass(
      name: "p2pd.task", variable: "task", text: "A function that runs on its own: `p2pd.spawn`.", annotations: []),
    APIClass(name: "p2pd.timer", variable: "timer", text: "A timer: `p2pd.after`, `p2pd.every`.", annotations: []),
    APIClass(
      name: "p2pd.queue", variable: "queue",
      text: "Values handed from one task to another: `p2pd.queue`. `#queue` counts what waits in it.",
      annotations: ["---@operator len: integer"]),
  ]

  static let pipe = APIType.object("p2pd.pipe")
  static let peer = APIType.either([.object("p2pd.client_tup"), .table("{[1]: string, [2]: integer}")])
  static let proto = APIType.words(["tcp", "udp"])
  static let err = opt("err", .object("p2pd.error"), "nil", "why it is nil")
}
