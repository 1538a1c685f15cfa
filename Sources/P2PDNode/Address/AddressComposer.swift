import Glibc
import NIOCore
import P2PDNet

/// One interface as the node needs it.
struct NodeInterface: Hashable, Sendable {
  var name: String
  var index: UInt32
  var addresses: [LocalAddress]
}

/// Where the node learns of its machine's interfaces; tests put their own in its place.
protocol InterfaceSource: AnyObject, Sendable {
  /// Those that are up, by index.
  func list() -> [NodeInterface]
  /// `changed` is called on the loop after each change, until `stop`.
  func start(on loop: any EventLoop, changed: @escaping @Sendable () -> Void)
  func stop()
}

extension LocalAddress {
  static func all(of interfaces: [NodeInterface]) -> [LocalAddress] { interfaces.flatMap(\.addresses) }
}

/// Chooses the routes of a node's address. Pure.
enum AddressComposer {
  /// - Parameter listening: what the node's sockets are bound to.
  /// - Throws: ``NetError`` `badAddress` for an interface asked for that is not there.
  static func routes(
    _ configuration: NodeConfiguration, port: UInt16, listening: [Endpoint], on all: [NodeInterface]
  ) throws -> [NodeRoute] {
    if let missing = configuration.interfaces?.first(where: { name in !all.contains { $0.name == name } }) {
      let names = all.map(\.name).joined(separator: ", ")
      throw NetError(.badAddress, "use the interface \(missing)", cause: "there is none of that name; there are \(names)")
    }
    let interfaces = all.filter { configuration.interfaces?.contains($0.name) ?? true }
    var routes: [NodeRoute] = []
    for (position, interface) in interfaces.enumerated() {
      let best = interface.addresses.filter { address in
        address.ip.isUsableHost
          && listening.contains { $0.ip == address.ip || ($0.ip.isWildcard && $0.ip.family == address.ip.family) }
      }.sorted { rank($0.ip) < rank($1.ip) }
      for address in best.prefix(perInterface) {
        routes.append(NodeRoute(interface: UInt8(min(position, 15)), nic: address.ip, port: port))
      }
    }
    // Loopback leads somewhere only from this machine, and there every other address does too.
    let outward = routes.filter { !$0.nic.isLoopback }
    if !outward.isEmpty { routes = outward }
    return Array(routes.prefix(NodeAddress.maximumRoutes))
  }

  /// Public before private before link-local; IPv4 before IPv6, whose private addresses are seldom of use.
  private static func rank(_ ip: IPAddress) -> Int {
    if ip.isLoopback { return 4 }
    if ip.isLinkLocal { return 3 }
    return (ip.isPrivate ? 1 : 0) + (ip.family == .v6 && ip.isPrivate ? 1 : 0)
  }

  /// An IPv6 interface may have a dozen temporary addresses (RFC 8981); an address is to stay short enough to paste.
  private static let perInterface = 4
}

extension Node {
  /// The machine's clock, in seconds since 1970.
  static func wallClock() -> UInt32 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt32(clamping: now.tv_sec)
  }

  /// Makes a new address if the interfaces now give other routes.
  func interfacesChanged() {
    guard closing == nil else { return }
    var configuration = configuration
    let interfaces = interfaces.list()
    // An interface asked for may be gone for a while.
    configuration.interfaces = configuration.interfaces?.filter { name in interfaces.contains { $0.name == name } }
    do {
      let routes = try AddressComposer.routes(configuration, port: port, listening: acceptors.map(\.endpoint), on: interfaces)
      guard routes != address.routes else { return }
      address = try NodeAddress.make(by: identity, issued: Self.wallClock(), routes: routes)
      logger.info("the interfaces changed: the node has a new address", metadata: ["address": "\(address)"])
    } catch {
      logger.warning("no new address after the interfaces changed", metadata: ["error": "\(error)"])
    }
  }
}
