import LuaVM
import NIOCore
import P2PDNet
import P2PDTraversal

/// The object behind `p2pd.stun_client`.
final class StunObject {
  let client: STUNClient
  unowned let host: ScriptHost

  init(_ client: STUNClient, host: ScriptHost) {
    self.client = client
    self.host = host
  }

  static var methods: [(String, HostFunction)] {
    [
      (
        "get_wan_ip",
        bound { call in
          try ask(call, "get_wan_ip") { client in client.wanIP().map { .string($0.description) } }
        }
      ),
      (
        "get_mapping",
        bound { call in
          let word = call.isNone(1) ? "udp" : try call.string(1, 1, "get_mapping")
          guard let proto = PipeProto(rawValue: word) else {
            throw Misuse("bad argument #1 to 'get_mapping' (\"udp\" or \"tcp\" expected, got \"\(word.prefix(40))\")")
          }
          return try ask(call, "get_mapping") { client in client.mapping(proto).map(\.lua) }
        }
      ),
      (
        "get_nat",
        bound { call in try ask(call, "get_nat") { client in client.nat().map(\.lua) } }
      ),
    ]
  }

  private static func ask(
    _ call: borrowing LuaCall, _ function: String, _ question: (STUNClient) -> EventLoopFuture<LuaValue>
  ) throws -> LuaReturn {
    guard let object = call.object(0, as: StunObject.self) else {
      throw Misuse(
        "bad self of '\(function)' (p2pd.stun_client expected, got \(call.kindName(0))): call it with a colon, client:\(function)()"
      )
    }
    let host = object.host
    try host.refuseAtTopLevel(function, call)
    guard call.canWait else { return .wait }
    let waiter = host.wait(call.wait)
    question(object.client).assumeIsolated().whenComplete { result in
      switch result {
      case .success(let value): waiter.finish([value])
      case .failure(let error): host.finish(waiter, failing: NetError(error, function))
      }
    }
    return .wait
  }
}

extension ScriptHost {
  /// `p2pd.stun_client { servers =, interface =, af = }`
  func stunClient(_ call: borrowing LuaCall) throws -> LuaReturn {
    let options = try call.options(0, 1, "stun_client", API.stunOptions)
    var family = AddressFamily.v4
    if let number = try options.integer("af", in: 4...6) {
      guard let given = AddressFamily(rawValue: UInt8(number)) else {
        throw Misuse("bad option 'af' of 'stun_client' (p2pd.IP4 or p2pd.IP6 expected, got \(number))")
      }
      family = given
    }
    var interface = options.object("interface", as: InterfaceObject.self)?.interface
    if let name = options.string("interface") {
      do throws(NetError) {
        interface = try findInterface(name)
      } catch {
        return failure(error)
      }
    }
    let servers = try options.strings("servers")?.map { text in
      guard let server = STUNServer(text) else {
        throw Misuse(
          "bad option 'servers' of 'stun_client' (\"\(text.prefix(60))\" is no \"host\" or \"host:port\", nor a URL of stun: or stuns:)"
        )
      }
      return server
    }
    return .object(StunObject(stunClient(servers ?? stunServers, interface, family), host: self))
  }

  private func stunClient(
    _ servers: [STUNServer], _ interface: NetworkInterface?, _ family: AddressFamily
  ) -> STUNClient {
    let tls = ServerTLS(caFile: options.nodeDefaults.caFile, on: loop)
    return STUNClient(servers: servers, interface: interface, family: family, tls: tls, on: loop)
  }

  /// The process's; none where no server may be contacted that the script did not name.
  var servers: ServerList { options.nodeDefaults.offline ? ServerList() : options.nodeDefaults.servers }
  private var stunServers: [STUNServer] { servers.stun.compactMap(STUNServer.init) }

  /// `nic:load_nat()`: measures the interface's paths, the first of each family.
  func loadNAT(_ call: borrowing LuaCall, _ object: InterfaceObject) throws -> LuaReturn {
    try refuseAtTopLevel("load_nat", call)
    guard call.canWait else { return .wait }
    let interface = object.interface
    if let knowledge { return measured(by: knowledge, interface, wait(call.wait)) }
    let families = AddressFamily.allCases.filter { interface.route($0)?.nicIPs.isEmpty == false }
    let waiter = wait(call.wait)
    let asked = families.map { stunClient(stunServers, interface, $0).nat() }
    EventLoopFuture.whenAllComplete(asked, on: loop).assumeIsolated().whenSuccess { results in
      let reports = results.compactMap { try? $0.get() }
      for report in reports { self.natReports[NATKey(interface: report.interface, local: report.local)] = report }
      if let report = self.nat(of: interface) { return waiter.finish([report.lua]) }
      let attempts = results.compactMap { result -> NetError? in
        if case .failure(let error) = result { NetError(error, "measure \(interface.name)") } else { nil }
      }
      self.finish(
        waiter,
        failing: NetError(
          attempts.first?.code ?? .timeout, "load_nat", cause: "no STUN server answered on \(interface.name)",
          attempts: attempts))
    }
    return .wait
  }

  /// What the node measures for itself; nil where no node of the script's runs that asks servers.
  private var knowledge: NetworkKnowledge? {
    let nodes = [node].compactMap { $0 } + generations.values.flatMap { $0.openNodes.map(\.node) }
    return nodes.first { !$0.isClosing && !$0.configuration.offline && !$0.configuration.servers.stun.isEmpty }?
      .knowledge
  }

  private func measured(by knowledge: NetworkKnowledge, _ interface: NetworkInterface, _ waiter: Waiter) -> LuaReturn {
    knowledge.settled().assumeIsolated().whenComplete { _ in
      if let report = self.nat(of: interface), report.hasAnswer { return waiter.finish([report.lua]) }
      let cause = "no STUN server answered on \(interface.name)"
      self.finish(waiter, failing: NetError(.timeout, "load_nat", cause: cause))
    }
    return .wait
  }

  /// What was measured of the interface, IPv4 first.
  func nat(of interface: NetworkInterface) -> NATReport? {
    if let knowledge {
      let reports = AddressFamily.allCases.compactMap { knowledge.report(interface: interface.name, $0) }
      if let report = reports.first(where: \.hasAnswer) { return report }
    }
    let found = natReports.values.filter { $0.interface == interface.name }
      .filter { report in interface.addresses.contains { $0.ip == report.local } }
    return found.min { $0.family.rawValue < $1.family.rawValue }
  }

  /// The route with the outside addresses that were measured.
  func completed(_ route: Route) -> Route {
    guard let interface = route.interface?.name else { return route }
    if let knowledge {
      let known = knowledge.completed(route)
      if !known.extIPs.isEmpty { return known }
    }
    var route = route
    for ip in route.nicIPs {
      if let report = natReports[NATKey(interface: interface, local: ip)] {
        route.extIPs = report.external
        break
      }
    }
    return route
  }
}

/// Which path a report is of.
struct NATKey: Hashable {
  let interface: String
  let local: IPAddress
}

extension LuaValue {
  fileprivate static func word(_ text: String?) -> LuaValue { text.map { .string($0) } ?? .nil }
  fileprivate static func named(_ fields: [(String, LuaValue)]) -> LuaValue {
    .table(fields.filter { if case .nil = $0.1 { false } else { true } }.map { (key: .string($0.0), value: $0.1) })
  }
}

extension STUNMapping {
  fileprivate var lua: LuaValue {
    .named([
      ("ip", .string(mapped.ip.description)), ("port", .int(Int64(mapped.port))),
      ("local_ip", .string(local.ip.description)), ("local_port", .int(Int64(local.port))),
    ])
  }
}

extension NATReport {
  /// `p2pd.nat`
  var lua: LuaValue {
    let delta = p2pdDelta
    return .named([
      ("type", .int(Int64(p2pdType))), ("delta_type", .int(Int64(delta.type))),
      ("delta_value", .int(Int64(delta.value))),
      ("udp", udp.lua), ("tcp", tcp.lua), ("hairpin", .word(hairpin?.rawValue)),
      ("carrier_nat", carrierNAT.map { .bool($0) } ?? .nil),
      ("round_trip", roundTrip.map { .number($0.inSeconds) } ?? .nil),
      ("external", .list(external.map { .string($0.description) })), ("words", .list(sentences.map { .string($0) })),
    ])
  }
}

extension NATBehaviour {
  fileprivate var lua: LuaValue {
    .named([
      ("reach", .word(reach?.rawValue)), ("mapping", .word(mapping?.rawValue)),
      ("filtering", .word(filtering?.rawValue)),
      ("allocation", .word(allocation?.description)),
      ("range", allocation?.range.map { .list([.int(Int64($0.lowerBound)), .int(Int64($0.upperBound))]) } ?? .nil),
      ("mapped", .list(mapped.map { .string($0.description) })),
    ])
  }
}
