import LuaVM
import NIOCore
import P2PDNet

/// The object behind `nic`: what the interface was when the script asked.
final class InterfaceObject {
  let interface: NetworkInterface
  unowned let host: ScriptHost

  init(_ interface: NetworkInterface, host: ScriptHost) {
    self.interface = interface
    self.host = host
  }

  static var methods: [(String, HostFunction)] {
    [
      (
        "supported",
        bound { call in
          let nic = try object(call, "supported")
          return .values([.list(nic.interface.supported.map { .int(Int64($0.rawValue)) })])
        }
      ),
      (
        "is_default",
        bound { call in
          let nic = try object(call, "is_default").interface
          let families = try call.family(1, 1, "is_default").map { [$0] } ?? AddressFamily.allCases
          return .one(.bool(families.contains { (try? NetworkInterface.defaultInterface($0).index) == nic.index }))
        }
      ),
      (
        "route",
        bound { call in
          let nic = try object(call, "route")
          let wanted = try call.family(1, 1, "route")
          guard let family = wanted ?? nic.interface.supported.first, let route = nic.interface.route(family) else {
            return nic.host.failure(
              .unsupported, "route", cause: "\(nic.interface.name) has no \(wanted?.description ?? "usable") address")
          }
          return .object(RouteObject(nic.host.completed(route), host: nic.host))
        }
      ),
      (
        "load_nat",
        bound { call in
          let nic = try object(call, "load_nat")
          return try nic.host.loadNAT(call, nic)
        }
      ),
    ]
  }

  private static func object(_ call: borrowing LuaCall, _ function: String) throws -> InterfaceObject {
    guard let nic = call.object(0, as: InterfaceObject.self) else {
      throw Misuse("bad self of '\(function)' (p2pd.interface expected, got \(call.kindName(0)))")
    }
    return nic
  }

  func field(_ name: String) throws -> LuaReturn? {
    switch name {
    case "name": return .string(interface.name)
    case "index": return .one(.int(Int64(interface.index)))
    case "mac": return interface.mac.map { .string($0) } ?? .one(.nil)
    case "mtu": return .one(.int(Int64(interface.mtu)))
    case "is_up": return .one(.bool(interface.isUp))
    case "is_loopback": return .one(.bool(interface.isLoopback))
    case "addresses": return .values([.list(interface.addresses.map { .string($0.ip.description) })])
    case "rp":
      let pools = AddressFamily.allCases.map { family -> (key: LuaValue, value: LuaValue) in
        let routes = interface.rp[family].map { LuaValue.object(RouteObject(host.completed($0), host: host)) }
        return (.int(Int64(family.rawValue)), .list(routes))
      }
      return .values([.table(pools)])
    case "nat": return .values([host.nat(of: interface)?.lua ?? .nil])
    default: return nil
    }
  }
}

/// The object behind `route`, bound or not.
final class RouteObject {
  let route: Route
  let bound: Endpoint?
  unowned let host: ScriptHost

  init(_ route: Route, bound: Endpoint? = nil, host: ScriptHost) {
    self.route = route
    self.bound = bound
    self.host = host
  }

  /// Where a pipe on this route starts.
  func start() throws -> Endpoint? {
    if let bound { return bound }
    return try? route.bind().endpoint
  }

  static var methods: [(String, HostFunction)] {
    [
      (
        "bind",
        P2PDScript.bound { call in
          guard let object = call.object(0, as: RouteObject.self) else {
            throw Misuse("bad self of 'bind' (p2pd.route expected, got \(call.kindName(0)))")
          }
          let port = try call.port(1, 1, "bind")
          var ip: IPAddress?
          if !call.isNone(2) {
            let text = try call.string(2, 2, "bind")
            guard let address = IPAddress(text) else {
              return object.host.failure(.badAddress, "bind", cause: "\"\(text.prefix(60))\" is no address")
            }
            ip = address
          }
          do throws(NetError) {
            let bound = try object.route.bind(port: port, ip: ip)
            return .object(RouteObject(bound.route, bound: bound.endpoint, host: object.host))
          } catch {
            return object.host.failure(error)
          }
        }
      )
    ]
  }

  func field(_ name: String) throws -> LuaReturn? {
    switch name {
    case "af": return .one(.int(Int64(route.family.rawValue)))
    case "interface": return .string(route.interface?.name ?? "")
    case "nic_ips": return .values([.list(route.nicIPs.map { .string($0.description) })])
    case "ext_ips": return .values([.list(route.extIPs.map { .string($0.description) })])
    case "link_locals": return .values([.list(route.linkLocals.map { .string($0.description) })])
    case "bind_ip": return bound.map { .string($0.ip.description) } ?? .one(.nil)
    case "bind_port": return .one(bound.map { .int(Int64($0.port)) } ?? .nil)
    default: return nil
    }
  }
}

extension ScriptHost {
  func listInterfaces(_ call: borrowing LuaCall) throws -> LuaReturn {
    do throws(NetError) {
      let found =
        if let simulated = try simulatedInterfaces() { simulated.interfaces } else { try NetworkInterface.list() }
      return .values([.list(found.map { .object(InterfaceObject($0, host: self)) })])
    } catch {
      return failure(error)
    }
  }

  /// What a simulated host has; nil on a real one.
  private func simulatedInterfaces() throws(NetError) -> NetworkSnapshot? {
    try (loop as? VirtualLoop)?.network.interfaces()
  }

  /// - Parameter name: nil for the one that leads outside.
  func findInterface(_ name: String?) throws(NetError) -> NetworkInterface {
    if let simulated = try simulatedInterfaces() {
      return if let name { try simulated.interface(named: name) } else { try simulated.preferredInterface() }
    }
    return if let name { try NetworkInterface.named(name) } else { try NetworkInterface.preferred() }
  }

  func interface(_ call: borrowing LuaCall) throws -> LuaReturn {
    let name = call.isNone(0) ? nil : try call.string(0, 1, "interface")
    do throws(NetError) {
      return .object(InterfaceObject(try findInterface(name), host: self))
    } catch {
      return failure(error)
    }
  }

  func resolve(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("resolve", call)
    let name = try call.string(0, 1, "resolve")
    let options = try call.options(1, 2, "resolve", API.resolveOptions)
    let timeout = try options.seconds("timeout") ?? .seconds(5)
    var families: [AddressFamily] = [.v6, .v4]
    if let number = try options.integer("af", in: 4...6) {
      guard let family = AddressFamily(rawValue: UInt8(number)) else {
        throw Misuse("bad option 'af' of 'resolve' (p2pd.IP4 or p2pd.IP6 expected, got \(number))")
      }
      families = [family]
    }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    let asked =
      (loop as? any NetworkLoop)?.network.resolve(name, families: families, timeout: timeout)
      ?? Resolver.resolve(name, families: families, timeout: timeout, on: loop)
    asked.assumeIsolated().whenComplete { result in
      switch result {
      case .success(let addresses): waiter.finish([.list(addresses.map { .string($0.description) })])
      case .failure(let error): self.finish(waiter, failing: NetError(error, "resolve \(name)"))
      }
    }
    return .wait
  }
}
