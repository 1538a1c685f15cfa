import LuaVM
import NIOCore
import P2PDNet
import P2PDTraversal

/// The object behind `p2pd.turn_client`: an allocation at a TURN server that relays datagrams. It belongs to the generation
/// that opened it, and is given back with it if not before.
final class TurnObject {
  let client: TURNClient
  unowned let host: ScriptHost
  private weak var generation: Generation?
  /// Whom `send` means without a tuple: who was accepted last.
  private var peer: Endpoint?

  init(_ client: TURNClient, _ generation: Generation) {
    self.client = client
    self.generation = generation
    host = generation.host
    generation.add(self)
  }

  @discardableResult
  func close() -> EventLoopFuture<Void> {
    generation?.remove(self)
    return client.close()
  }

  static var methods: [(String, HostFunction)] {
    [
      (
        "get_tups",
        bound { call in
          let client = try turn(call, "get_tups").client
          let mapped: LuaValue = client.mapped.map { .object(TupleObject($0)) } ?? .nil
          return .values([mapped, .object(TupleObject(client.relayed))])
        }
      ),
      ("accept_peer", bound(acceptPeer)), ("send", bound(send)), ("recv", bound(recv)), ("close", bound(closeIt)),
    ]
  }

  private static func turn(_ call: borrowing LuaCall, _ function: String) throws -> TurnObject {
    guard let object = call.object(0, as: TurnObject.self) else {
      throw Misuse(
        "bad self of '\(function)' (p2pd.turn_client expected, got \(call.kindName(0))): call it with a colon, client:\(function)(...)"
      )
    }
    return object
  }

  /// `client_tup`, `{ip, port}` or `"ip:port"`.
  private static func endpoint(_ call: borrowing LuaCall, _ index: Int, _ function: String) throws -> Endpoint {
    if let endpoint = call.object(index, as: TupleObject.self)?.endpoint { return endpoint }
    guard case .hostAndPort? = Place(try call.value(index)), case let (ip?, port)? = Place(try call.value(index))?.local
    else { throw call.need(index, index, function, "client_tup or {ip, port}") }
    return Endpoint(ip: ip, port: port)
  }

  /// `accept_peer(peer_tup [, peer_relay_tup])`
  private static func acceptPeer(_ call: borrowing LuaCall) throws -> LuaReturn {
    let object = try turn(call, "accept_peer")
    let peer = try endpoint(call, 1, "accept_peer")
    let relay = call.isNone(2) ? nil : try endpoint(call, 2, "accept_peer")
    guard call.canWait else { return .wait }
    let host = object.host
    let waiter = host.wait(call.wait)
    object.client.accept(peer, relay: relay).assumeIsolated().whenComplete { result in
      switch result {
      case .success:
        object.peer = relay ?? peer
        waiter.finish([.bool(true)])
      case .failure(let error): host.finish(waiter, failing: NetError(error, "accept_peer"))
      }
    }
    return .wait
  }

  /// `send(msg [, client_tup])`
  private static func send(_ call: borrowing LuaCall) throws -> LuaReturn {
    let object = try turn(call, "send")
    guard let bytes = call.bytes(1) else { throw call.need(1, 1, "send", "string") }
    let peer = call.isNone(2) ? object.peer : try endpoint(call, 2, "send")
    guard let peer else {
      return object.host.failure(.badAddress, "send", cause: "to whom? No peer was accepted yet")
    }
    if let error = object.client.send(bytes, to: peer) { return object.host.failure(error) }
    return .one(.bool(true))
  }

  /// `recv([timeout])`
  private static func recv(_ call: borrowing LuaCall) throws -> LuaReturn {
    let object = try turn(call, "recv")
    let timeout = try call.seconds(1, 1, "recv")
    let (host, pipe) = (object.host, object.client.pipe)
    if let message = pipe.receiveNow() { return try host.give(message) }
    if let timeout, timeout == .zero { return host.failure(.timeout, "recv", cause: "no message is there") }
    guard call.canWait else { return .wait }
    var answered: NetError?
    var waiter: Waiter?
    let ticket = pipe.receive(timeout: timeout) { result in
      switch result {
      case .success(let message): if let waiter { host.deliver(message, to: waiter) }
      case .failure(let error): if let waiter { host.finish(waiter, failing: error) } else { answered = error }
      }
    }
    if let answered { return host.failure(answered) }
    let parked = host.wait(call.wait)
    parked.giveUp = { ticket?.cancel() }
    waiter = parked
    return .wait
  }

  private static func closeIt(_ call: borrowing LuaCall) throws -> LuaReturn {
    let object = try turn(call, "close")
    let done = object.close()
    guard call.canWait else { return .one(.bool(true)) }
    let waiter = object.host.wait(call.wait)
    done.assumeIsolated().whenComplete { _ in waiter.finish([.bool(true)]) }
    return .wait
  }

  /// `local turn <close> = ...`
  static func closeVariable(_ call: borrowing LuaCall) throws -> LuaReturn {
    try turn(call, "close").close()
    return .none
  }
}

extension ScriptHost {
  /// `p2pd.turn_client { server =, user =, password =, secret =, transport =, interface =, ca =, timeout = }`
  func turnClient(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("turn_client", call)
    let options = try call.options(1, 1, "turn_client", API.turnOptions)
    let timeout = try options.seconds("timeout") ?? .seconds(10)
    let way = options.string("transport").flatMap { TURNWay(rawValue: $0) }
    guard call.canWait else { return .wait }
    var interface = options.object("interface", as: InterfaceObject.self)?.interface.name
    if let name = options.string("interface") { interface = name }
    var conf = PipeConf()
    conf.maxQsize = try options.integer("max_qsize", in: 1...1_000_000) ?? conf.maxQsize
    let servers: [ServerURL]
    let tls = ServerTLS(caFile: options.string("ca") ?? self.options.nodeDefaults.caFile, on: loop)
    do throws(NetError) {
      servers = try turnServers(options, overTLS: way == .tls)
    } catch {
      return failure(error)
    }
    let waiter = wait(call.wait)
    let ticket = TURNTicket()
    let deadline = loop.assumeIsolated().scheduleTask(in: timeout) {
      ticket.cancel()
      self.finish(
        waiter,
        failing: NetError(.timeout, "turn_client", cause: "no server gave an address in \(timeout.inSeconds) s"))
    }
    waiter.giveUp = {
      deadline.cancel()
      ticket.cancel()
    }
    TURNClient.open(
      servers, ways: way.map { [$0] }, conf: conf, interface: interface, tls: tls, ticket: ticket, on: loop
    )
    .assumeIsolated().whenComplete { result in
      deadline.cancel()
      switch result {
      case .failure(let error): if waiter.isWaiting { self.finish(waiter, failing: NetError(error, "turn_client")) }
      case .success(let client):
        // Nobody is there to own it any more.
        guard waiter.isWaiting, !self.isClosed, generation.takesPipes else { return _ = client.close() }
        waiter.finish([.object(TurnObject(client, generation))])
      }
    }
    return .wait
  }

  /// The servers that the options name, else those the node may use.
  private func turnServers(_ options: OptionReader, overTLS: Bool) throws(NetError) -> [ServerURL] {
    var named: [ServerURL] = []
    if let text = options.string("server") {
      named = [try ServerURL(text, scheme: overTLS ? .turns : .turn)]
    } else if let texts = (try? options.strings("server")) ?? nil {
      for text in texts { named.append(try ServerURL(text, scheme: overTLS ? .turns : .turn)) }
    } else if !self.options.nodeDefaults.offline {
      named = self.options.nodeDefaults.servers.turn
    }
    for url in named where url.scheme != .turn && url.scheme != .turns {
      throw NetError(.badAddress, "turn_client", cause: "\(url) is no TURN server (turn:HOST, turns:HOST)")
    }
    guard !named.isEmpty else {
      throw NetError(.badAddress, "turn_client", cause: "no TURN server is named (server = \"HOST\") or configured")
    }
    return named.map { url in
      ServerURL(
        overTLS ? .turns : url.scheme, host: url.host, port: url.port, transport: url.transport,
        user: options.string("user") ?? url.user, password: options.string("password") ?? url.password,
        secret: options.string("secret") ?? url.secret)
    }
  }
}
