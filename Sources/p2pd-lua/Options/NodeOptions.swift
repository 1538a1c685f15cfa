import ArgumentParser
import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript

/// Where and for whom the node listens.
struct NodeOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Port to listen on.",
      discussion: "Default: chosen at random at the first start and kept (P2PD_PORT)", valueName: "port"))
  var port: UInt16?

  @Option(
    help: ArgumentHelp(
      "Listen on this address only; may be given several times.",
      discussion: "Default: every interface, IPv4 and IPv6 (P2PD_LISTEN, addresses separated by commas)",
      valueName: "ip"))
  var listen: [String] = []

  @Option(
    name: .customLong("if"),
    help: ArgumentHelp(
      "Put this interface's addresses into the node's address; may be given several times.",
      discussion: "Default: every interface that is up", valueName: "name"))
  var interfaces: [String] = []

  @Option(
    help: ArgumentHelp(
      "Most pipes of others open at once.", discussion: "Default: \(AcceptLimits().pipes)", valueName: "count"))
  var maxPipes: Int?

  @Option(
    help: ArgumentHelp(
      "Most pipes of one peer key.", discussion: "Default: \(AcceptLimits().perKey)", valueName: "count"))
  var maxPipesPerPeer: Int?

  @Option(
    help: ArgumentHelp(
      "Most pipes from one source address (IPv6: one /64 network).",
      discussion: "Default: \(AcceptLimits().perSource)", valueName: "count"))
  var maxPipesPerAddress: Int?

  @Option(
    help: ArgumentHelp(
      "Most unfinished handshakes at once.", discussion: "Default: \(AcceptLimits().handshakes)", valueName: "count"))
  var maxHandshakes: Int?

  @Option(
    help: ArgumentHelp(
      "Longest a handshake may take.",
      discussion: "Default: \(AcceptLimits().handshakeTime.nanoseconds / 1_000_000_000)", valueName: "seconds"))
  var handshakeTime: Double?

  func validate() throws {
    _ = try addresses()
    _ = try Environment.value("P2PD_PORT", as: UInt16.self)
    for count in [maxPipes, maxPipesPerPeer, maxPipesPerAddress, maxHandshakes] {
      if let count, count < 1 { throw ValidationError("A limit of \(count) would let nobody in; give 1 or more.") }
    }
    if let handshakeTime, !(0.1...3600).contains(handshakeTime) {
      throw ValidationError("--handshake-time is given in seconds, from 0.1 to 3600; \(handshakeTime) is not.")
    }
  }

  private func addresses() throws -> [IPAddress]? {
    var texts = listen
    if texts.isEmpty { texts = (Environment.value("P2PD_LISTEN") ?? "").split(separator: ",").map(String.init) }
    guard !texts.isEmpty else { return nil }
    return try texts.map { text in
      guard let ip = IPAddress(text) else {
        throw ValidationError("\"\(text)\" is no IP address to listen on, such as 127.0.0.1, :: or fe80::1%eth0.")
      }
      return ip
    }
  }

  /// The configuration of a node of this machine: what the file says, changed by the environment, changed by options.
  func configuration(_ state: StateOptions, _ servers: ServerOptions, _ config: ConfigFile) throws -> NodeConfiguration
  {
    var node = NodeConfiguration()
    node.stateDirectory = state.given
    node.ephemeral = state.ephemeral
    node.port = try port ?? Environment.value("P2PD_PORT", as: UInt16.self) ?? config.port
    node.listen = try addresses() ?? config.listen
    node.interfaces = interfaces.isEmpty ? config.interfaces : interfaces
    try servers.apply(to: &node, config)
    node.names = try servers.naming(state, config)
    if let maxPipes = maxPipes ?? config.maxPipes { node.limits.pipes = maxPipes }
    if let maxPipesPerPeer { node.limits.perKey = maxPipesPerPeer }
    if let maxPipesPerAddress { node.limits.perSource = maxPipesPerAddress }
    if let maxHandshakes {
      node.limits.handshakes = maxHandshakes
      node.limits.handshakesPerSource = min(node.limits.handshakesPerSource, maxHandshakes)
    }
    if let handshakeTime { node.limits.handshakeTime = .milliseconds(Int64(handshakeTime * 1000)) }
    return node
  }
}
