import Logging
import NIOCore
import P2PDNet
import P2PDNode

/// Starting a node, with failures that name a remedy.
enum NodeStart {
  static func start(_ configuration: NodeConfiguration, on loop: any EventLoop, logger: Logger) async throws -> Node {
    do {
      return try await Node.start(configuration, on: loop, logger: logger)
    } catch let error as NetError {
      throw Failure("the node cannot start: \(error)", remedy: remedy(error, configuration))
    }
  }

  /// What the node that runs with this key says of itself; nil where none does.
  static func runningAddress(_ configuration: NodeConfiguration) -> NodeAddress? {
    guard !configuration.ephemeral, let folder = configuration.stateDirectory ?? StateFolder.defaultPath,
      Files.exists(folder), let key = try? Identity.load(from: StateFolder(folder)).key
    else { return nil }
    let link = NodeFinder.all(stateFolder: folder).first { $0.greeting.key == key.description }
    return (try? link?.call("status"))?["address"]?.string.flatMap { try? NodeAddress($0) }
  }

  /// The address this machine's node would have if it started now.
  static func address(_ configuration: NodeConfiguration, _ logger: Logger) async throws -> NodeAddress {
    // A running node has its port, so another one is opened for the moment and the kept one is put in its place.
    let kept = configuration.port ?? keptPort(configuration)
    var configuration = configuration
    if kept != nil { configuration.port = 0 }
    // A mapping of this moment's port says nothing of the one that the node will have.
    configuration.portMapping = false
    let node = try await start(configuration, on: Engine.loop, logger: logger)
    try await Engine.loop.flatSubmit { node.settled() }.get()
    let address = try await Engine.loop.submit { node.address }.get()
    await node.close(flush: .zero)
    guard let kept, kept != 0 else { return address }
    let routes = address.routes.map { route in
      var external = route.external
      if case .at(let seen) = external, seen.port == node.port { external = .at(Endpoint(ip: seen.ip, port: kept)) }
      return NodeRoute(interface: route.interface, nic: route.nic, port: kept, external: external, nat: route.nat)
    }
    return try NodeAddress.make(
      by: node.identity, issued: address.issued, routes: routes, signalling: address.signalling)
  }

  /// The port of the node's last start, which the next one takes too.
  private static func keptPort(_ configuration: NodeConfiguration) -> UInt16? {
    guard !configuration.ephemeral, let folder = configuration.stateDirectory ?? StateFolder.defaultPath,
      let text = Files.read(folder + "/port", atMost: 64)
    else { return nil }
    return UInt16(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })
  }

  static func remedy(_ error: NetError, _ configuration: NodeConfiguration) -> String? {
    switch error.code {
    case .inUse:
      let port = configuration.port.map { "port \($0)" } ?? "the port"
      return
        "Another program has \(port), perhaps a node that is running already. Give another with --port, or 0 for any free one."
    case .permission where (configuration.port ?? 1024) < 1024 && configuration.port != 0:
      return "Ports below 1024 are for root; give another with --port."
    case .badAddress where configuration.listen != nil:
      return "The address after --listen must be one of this machine's; `\(Environment.program) ifs` lists them."
    case .badAddress where configuration.interfaces != nil:
      return "`\(Environment.program) ifs` lists the interfaces."
    default:
      return nil
    }
  }
}
