import LuaVM
import NIOCore
import P2PDNet

/// `p2pd.pipe_open`, and opening as daemons do it.
extension ScriptHost {
  func pipeOpen(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("pipe_open", call)
    let proto = try call.proto(1, 1, "pipe_open")
    let options = try call.options(2, 2, "pipe_open", API.pipeOptions)
    guard call.canWait else { return .wait }
    var request = PipeRequest(proto: proto)
    if let place = options["dest"] {
      guard let destination = Place(place)?.destination else {
        throw Misuse(
          "bad option 'dest' of 'pipe_open' ({host, port}, client_tup, \"host:port\" or \"unix:/path\" expected, got \(place.short))"
        )
      }
      request.destination = destination
    }
    try readStart(options, &request)
    do {
      request.conf = try PipeConfReader.conf(
        options, isServer: request.destination == nil, destination: request.destination)
    } catch let error as NetError {
      return failure(error)
    }
    if let name = request.route?.route.interface?.name, request.conf.interface == nil { request.conf.interface = name }
    request.options = options.fingerprint
    request.isService = isService(call)
    return open(request, HandlerSet(generation, options), generation, call.wait)
  }

  /// `route` and `bind`: where the pipe starts from.
  private func readStart(_ options: OptionReader, _ request: inout PipeRequest) throws {
    if let route = options.object("route", as: RouteObject.self) {
      request.route = route
    } else if let nic = options.object("route", as: InterfaceObject.self) {
      guard let family = nic.interface.supported.first, let route = nic.interface.route(family) else {
        throw Misuse("bad option 'route' of 'pipe_open' (the interface has no usable address)")
      }
      request.route = RouteObject(route, host: self)
    } else if options.has("route") {
      throw Misuse("bad option 'route' of 'pipe_open' (p2pd.route expected)")
    }
    if let route = request.route {
      request.family = route.route.family
      request.bind = try route.start()
    }
    guard let place = options["bind"] else { return }
    guard let local = Place(place)?.local else {
      throw Misuse("bad option 'bind' of 'pipe_open' (a port, {ip, port} or \"ip:port\" expected, got \(place.short))")
    }
    request.bind = Endpoint(
      ip: local.ip ?? request.bind?.ip ?? .wildcard(request.family ?? destinationFamily(request)), port: local.port)
  }

  private func destinationFamily(_ request: PipeRequest) -> AddressFamily {
    if case .endpoint(let endpoint)? = request.destination { return endpoint.ip.family }
    return .v4
  }

  private func open(_ request: PipeRequest, _ handlers: HandlerSet, _ generation: Generation, _ wait: LuaWait)
    -> LuaReturn
  {
    let waiter = self.wait(wait)
    open(request, handlers, generation) { result in
      switch result {
      case .success(let face):
        // Nobody is there to own the pipe any more.
        guard waiter.isWaiting else { return _ = face.pipe.close(flush: .zero) }
        if let ref = face.pipeRef {
          waiter.finish(.ref(ref))
        } else {
          self.finish(waiter, failing: NetError(.closed, "pipe_open", cause: "the pipe ended at once"))
        }
      case .failure(let error): self.finish(waiter, failing: error)
      }
    }
    return .wait
  }

  /// Opens a pipe for a generation, its callbacks in place before the first message. A server that an earlier
  /// generation of the protocol holds is taken over instead.
  func open(
    _ request: PipeRequest, _ handlers: HandlerSet, _ generation: Generation,
    then: @escaping (Result<PipeFace, NetError>) -> Void
  ) {
    if request.destination == nil {
      if let held = takeOver(request, handlers, generation) { return then(.success(held)) }
      if let ending = endListener(inTheWayOf: request, of: generation) {
        // Its socket is gone in a moment.
        ending.assumeIsolated().whenComplete { _ in self.openNew(request, handlers, generation, then: then) }
        return
      }
    }
    openNew(request, handlers, generation, then: then)
  }

  private func openNew(
    _ request: PipeRequest, _ handlers: HandlerSet, _ generation: Generation,
    then: @escaping (Result<PipeFace, NetError>) -> Void
  ) {
    let sink = OpeningSink(slot: HandlerSlot(handlers), generation: generation, route: request.route)
    PipeOpener.open(
      request.proto, to: request.destination, bind: request.bind, family: request.family, conf: request.conf,
      sink: sink, on: loop
    ).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): then(.failure(NetError(error, "open")))
      case .success(let pipe):
        guard !self.isClosed else { return _ = pipe.close(flush: .zero) }
        self.whenIdle {
          guard let face = sink.face else {
            _ = pipe.close(flush: .zero)
            return then(.failure(NetError(.cancelled, "open", cause: "the script has ended")))
          }
          if request.destination == nil { generation.listeners.append(Listener(request, face)) }
          then(.success(face))
        }
      }
    }
  }

  // MARK: What functions of the module share

  /// The generation a function of the module belongs to: its hidden first argument.
  func owner(_ call: borrowing LuaCall) throws -> Generation {
    guard let id = call.int(0), let generation = generations[id], generation.phase != .retired else {
      throw Misuse("the script that required this module has ended")
    }
    return generation
  }

  /// The generation whose code makes a call.
  func caller(_ call: borrowing LuaCall) -> Generation? { owner(of: call.tag)?.origin }

  /// Whether the top level of a handler file makes the call (or its `check`, or `migrate`).
  func isAtTopLevel(_ call: borrowing LuaCall) -> Bool { owner(of: call.tag) is StagedCall }

  func refuseAtTopLevel(_ function: String, _ call: borrowing LuaCall) throws {
    guard isAtTopLevel(call) else { return }
    if isChecking { throw Misuse(Self.needsNetwork + function) }
    throw Misuse(
      "'\(function)' waits for the network, which the top level of a handler file cannot: move it into 'function M.start()'"
    )
  }

  /// How a check knows an exec script: its top level wants the network.
  static let needsNetwork = "a check opens nothing: "
}

/// What is to be opened.
struct PipeRequest {
  var proto: PipeProto
  var destination: Destination?
  var bind: Endpoint?
  var family: AddressFamily?
  var conf = PipeConf()
  var route: RouteObject?
  /// The options as the script gave them: two servers with the same are alike.
  var options = ""
  /// The top level or `start` asks, and not a handler.
  var isService = true

  init(proto: PipeProto) { self.proto = proto }
}

/// Stands for the face until the pipe exists: a sink must be given before, a face needs the pipe.
final class OpeningSink: PipeSink {
  private let slot: HandlerSlot
  private let generation: Generation
  private let route: RouteObject?
  private(set) var face: PipeFace?

  init(slot: HandlerSlot, generation: Generation, route: RouteObject?) {
    self.slot = slot
    self.generation = generation
    self.route = route
  }

  func pipeOpened(_ pipe: Pipe) {
    guard generation.phase != .retired else { return }
    let made = PipeFace(pipe, slot: slot, ownsHandlers: true)
    face = made
    made.route = route
    pipe.route = route?.route
    if pipe.isServer, pipe.proto == .tcp {
      made.accepting = AcceptQueue(host: generation.host, limit: pipe.conf.backlog)
    }
    pipe.sink = made
    made.pipeOpened(pipe)
  }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { false }
}
