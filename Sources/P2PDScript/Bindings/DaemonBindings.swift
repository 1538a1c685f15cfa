import LuaVM
import NIOCore
import P2PDNet

/// The object behind `daemon`: servers on several addresses with one set of callbacks.
final class DaemonObject: CallbackHolder {
  unowned let host: ScriptHost
  let generation: Generation
  let handlers: HandlerSet
  let conf: PipeConf
  /// The options its servers have, in one text.
  let options: String
  private(set) var servers: [PipeFace] = []
  private var isClosed = false

  init(_ generation: Generation, _ handlers: HandlerSet, _ conf: PipeConf, _ options: String) {
    self.generation = generation
    self.handlers = handlers
    self.conf = conf
    self.options = options
    host = generation.host
  }

  /// Opens a server on each place, one after the other so that port 0 can become the same port for all; all or none.
  func listen(_ proto: PipeProto, _ places: [PipeRequest], then: @escaping (Result<[PipeFace], NetError>) -> Void) {
    open(places[...], port: nil, opened: [], then: then)
  }

  private func open(
    _ rest: ArraySlice<PipeRequest>, port: UInt16?, opened: [PipeFace],
    then: @escaping (Result<[PipeFace], NetError>) -> Void
  ) {
    guard var request = rest.first else {
      servers += opened
      for face in opened { face.onEnd = { [weak self] ended in self?.lost(ended) } }
      return then(.success(opened))
    }
    if let bind = request.bind, bind.port == 0, let port { request.bind = Endpoint(ip: bind.ip, port: port) }
    host.open(request, handlers, generation) { result in
      switch result {
      case .failure(let error):
        for face in opened { _ = face.pipe.close(flush: .zero) }
        then(.failure(error))
      case .success(let face):
        guard !self.isClosed else {
          _ = face.pipe.close(flush: .zero)
          return then(.failure(NetError(.closed, "listen", cause: "the daemon is closed")))
        }
        self.open(rest.dropFirst(), port: port ?? face.pipe.localEndpoint?.port, opened: opened + [face], then: then)
      }
    }
  }

  /// A server has ended, or another generation has taken it over.
  func lost(_ server: PipeFace) { servers.removeAll { $0 === server } }

  func close() {
    isClosed = true
    for server in servers { _ = server.pipe.close() }
    servers = []
  }

  var callbackSets: [HandlerSet] { [handlers] }

  func callbacksChanged() {
    for server in servers {
      server.updateMode()
      for client in server.pipe.acceptedPipes { (client.face as? PipeFace)?.updateMode() }
    }
  }
}

enum DaemonMethods {
  static var methods: [(String, HostFunction)] {
    [
      ("add_listener", bound(addListener)),
      (
        "listen_all",
        bound { call in
          try listen(call, "listen_all") { _ in [IPAddress.wildcard(.v4), .wildcard(.v6)].map { ($0, nil) } }
        }
      ),
      (
        "listen_loopback",
        bound { call in
          try listen(call, "listen_loopback") { _ in [IPAddress.loopback(.v4), .loopback(.v6)].map { ($0, nil) } }
        }
      ),
      ("listen_local", bound { call in try listen(call, "listen_local", addresses: localAddresses) }),
      (
        "add_msg_cb",
        bound { call in
          let daemon = try daemon(call, "add_msg_cb")
          daemon.handlers.add(try call.needFunction(1, 1, "add_msg_cb"), .message)
          daemon.host.whenIdle { daemon.callbacksChanged() }
          return .none
        }
      ),
      (
        "servers",
        bound { call in
          let daemon = try daemon(call, "servers")
          return .values([.list(daemon.servers.map { .object($0) })])
        }
      ),
      (
        "close",
        bound { call in
          try daemon(call, "close").close()
          return .one(.bool(true))
        }
      ),
    ]
  }

  private static func daemon(_ call: borrowing LuaCall, _ function: String) throws -> DaemonObject {
    guard let object = call.object(0, as: DaemonObject.self) else {
      throw Misuse(
        "bad self of '\(function)' (p2pd.daemon expected, got \(call.kindName(0))): call it with a colon, daemon:\(function)(...)"
      )
    }
    return object
  }

  private static func addListener(_ call: borrowing LuaCall) throws -> LuaReturn {
    let daemon = try daemon(call, "add_listener")
    let proto = try call.proto(1, 1, "add_listener")
    var request = PipeRequest(proto: proto)
    request.conf = daemon.conf
    request.options = daemon.options
    if let route = call.object(2, as: RouteObject.self) {
      request.route = route
      request.family = route.route.family
      request.bind = try route.start()
    } else {
      let place: Place? =
        if let tuple = call.object(2, as: TupleObject.self) { Place(.object(tuple)) } else { Place(try call.value(2)) }
      guard let local = place?.local else {
        throw call.need(2, 2, "add_listener", "p2pd.route, port, {ip, port} or \"ip:port\"")
      }
      request.bind = Endpoint(ip: local.ip ?? .wildcard(.v4), port: local.port)
    }
    return start(daemon, proto, [request], call) { .ref($0[0]) }
  }

  /// Like `add_listener` for every address that `addresses` finds.
  private static func listen(
    _ call: borrowing LuaCall, _ function: String, addresses: (borrowing LuaCall) throws -> [(IPAddress, String?)]
  ) throws -> LuaReturn {
    let daemon = try daemon(call, function)
    let proto = try call.proto(1, 1, function)
    let port = try call.port(2, 2, function)
    let found = try addresses(call)
    guard !found.isEmpty else { return daemon.host.failure(.unsupported, function, cause: "no address to listen on") }
    let requests = found.map { ip, interface in
      var request = PipeRequest(proto: proto)
      request.conf = daemon.conf
      request.options = daemon.options
      request.conf.interface = interface ?? daemon.conf.interface
      request.bind = Endpoint(ip: ip, port: port)
      return request
    }
    return start(daemon, proto, requests, call) { .list($0.map { .ref($0) }) }
  }

  private static func start(
    _ daemon: DaemonObject, _ proto: PipeProto, _ requests: [PipeRequest], _ call: borrowing LuaCall,
    result value: @escaping ([LuaRef]) throws -> LuaValue
  ) -> LuaReturn {
    let host = daemon.host
    if host.isAtTopLevel(call) {
      // Recorded: they open, or are taken over, when the file is known to be good.
      daemon.generation.listenRequests.append(ListenRequest(daemon: daemon, proto: proto, places: requests))
      return .one(.bool(true))
    }
    guard call.canWait else { return .wait }
    let waiter = host.wait(call.wait)
    let isService = host.isService(call)
    let requests = requests.map { request in
      var request = request
      request.isService = isService
      return request
    }
    daemon.listen(proto, requests) { result in
      switch result {
      case .failure(let error): host.finish(waiter, failing: error)
      case .success(let faces):
        do {
          let refs = faces.compactMap(\.pipeRef)
          guard refs.count == requests.count else { throw NetError(.closed, "listen", cause: "a server ended at once") }
          waiter.finish([try value(refs)])
        } catch {
          host.finish(waiter, failing: NetError(error, "listen"))
        }
      }
    }
    return .wait
  }

  /// Private, unique local and link-local addresses, of one interface or of all that are up.
  private static func localAddresses(_ call: borrowing LuaCall) throws -> [(IPAddress, String?)] {
    var interfaces: [NetworkInterface]
    if let nic = call.object(3, as: InterfaceObject.self) {
      interfaces = [nic.interface]
    } else {
      guard call.isNone(3) else { throw call.need(3, 3, "listen_local", "p2pd.interface") }
      interfaces = try NetworkInterface.list().filter { $0.isUp && !$0.isLoopback }
    }
    return interfaces.flatMap { nic in
      nic.addresses.filter { $0.isUsable && $0.ip.isPrivate && !$0.ip.isLoopback }.map { ($0.ip, nil) }
    }
  }
}

extension ScriptHost {
  func daemon(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    let options = try call.options(1, 1, "daemon", API.daemonOptions)
    do {
      let conf = try PipeConfReader.conf(options, isServer: true)
      let fingerprint = options.fingerprint
      return .object(DaemonObject(generation, HandlerSet(generation, options), conf, fingerprint))
    } catch let error as NetError {
      return failure(error)
    }
  }
}
