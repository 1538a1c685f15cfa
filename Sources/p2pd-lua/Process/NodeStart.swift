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

  /// The address of this machine's node: what it would print if it were started now.
  static func address(_ configuration: NodeConfiguration, _ logger: Logger) async throws -> NodeAddress {
    let node = try await start(configuration, on: Engine.loop, logger: logger)
    defer { Task { await node.close(flush: .zero) } }
    return node.address
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
