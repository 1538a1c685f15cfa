import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// The methods and fields of `node`.
enum NodeMethods {
  static var methods: [(String, HostFunction)] {
    [
      ("address", bound(address)), ("nickname", bound(nickname)),
      ("connect", bound(connect)), ("host", bound(host)), ("close", bound(close)), ("pipes", bound(pipes)),
      ("add_msg_cb", bound { try add($0, .message, "add_msg_cb") }),
      ("add_up_cb", bound { try add($0, .up, "add_up_cb") }),
      ("add_path_cb", bound { try add($0, .path, "add_path_cb") }),
      ("add_end_cb", bound { try add($0, .end, "add_end_cb") }),
    ]
  }

  private static func node(_ call: borrowing LuaCall, _ function: String) throws -> NodeFace {
    guard let face = call.object(0, as: NodeFace.self) else {
      throw Misuse(
        "bad self of '\(function)' (p2pd.node expected, got \(call.kindName(0))): call it with a colon, node:\(function)(...)"
      )
    }
    return face
  }

  private static func address(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "address")
    // `math.huge` is longer than it can take.
    let patience = call.isNone(1) ? .zero : try call.seconds(1, 1, "address") ?? .seconds(3600)
    guard patience > .zero else { return .string(face.node.address.description) }
    let host = face.host
    try host.refuseAtTopLevel("address", call)
    guard call.canWait else { return .wait }
    let waiter = host.wait(call.wait)
    let timer = host.loop.assumeIsolated().scheduleTask(in: patience) {
      waiter.finish([.string(face.node.address.description)])
    }
    waiter.giveUp = { timer.cancel() }
    face.node.settled().assumeIsolated().whenComplete { _ in
      timer.cancel()
      waiter.finish([.string(face.node.address.description)])
    }
    return .wait
  }

  static func field(_ face: NodeFace, _ name: String) -> LuaReturn? {
    switch name {
    case "id": .string(face.node.id)
    case "port": .one(.int(Int64(face.node.port)))
    default: nil
    }
  }

  private static func connect(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "connect")
    let host = face.host
    try host.refuseAtTopLevel("connect", call)
    let text = try call.object(1, as: NodeFace.self)?.node.address.description ?? call.string(1, 1, "connect")
    let options = try call.options(2, 2, "connect", API.connectOptions)
    let strategies = try strategies(options)
    guard call.canWait else { return .wait }
    guard !face.isClosed else { return host.failure(.closed, "connect", cause: "the node is closed") }
    let address: NodeAddress?
    do {
      // What does not begin as an address is a name.
      address = NodeAddress.isMeant(text) ? try NodeAddress(text) : nil
    } catch {
      return host.failure(error.netError)
    }
    if address == nil, text.contains(":") {
      return host.failure(
        .badAddress, "connect",
        cause:
          "\"\(text.prefix(80))\" is neither a node's address (p2pd1...) nor a name; p2pd.pipe_open leads to a host and port"
      )
    }
    let handlers = HandlerSet(face.generation, options)
    let sink = OpeningSink(slot: HandlerSlot(handlers), generation: face.generation, route: nil)
    let waiter = host.wait(call.wait)
    let (name, timeout) = (options.string("protocol") ?? "", try options.seconds("timeout") ?? Node.connectTimeout)
    let attempt =
      if let address {
        face.node.connecting(address, protocol: name, sink: sink, timeout: timeout, strategies: strategies)
      } else {
        face.node.connecting(name: text, protocol: name, sink: sink, timeout: timeout, strategies: strategies)
      }
    waiter.giveUp = attempt.cancel
    attempt.pipe.assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): host.finish(waiter, failing: NetError(error, "connect"))
      case .success(let pipe) where host.isClosed: _ = pipe.close(flush: .zero)
      case .success(let pipe): host.whenIdle { connected(pipe, sink, face, waiter) }
      }
    }
    return .wait
  }

  private static func nickname(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "nickname")
    let host = face.host
    try host.refuseAtTopLevel("nickname", call)
    let name = try call.string(1, 1, "nickname")
    guard call.canWait else { return .wait }
    guard !face.isClosed else { return host.failure(.closed, "nickname", cause: "the node is closed") }
    let waiter = host.wait(call.wait)
    face.node.nickname(name).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): host.finish(waiter, failing: NetError(error, "nickname"))
      case .success(let name): waiter.finish([.string(name)])
      }
    }
    return .wait
  }

  private static func connected(_ pipe: Pipe, _ sink: OpeningSink, _ node: NodeFace, _ waiter: Waiter) {
    guard waiter.isWaiting, let face = sink.face, let ref = face.pipeRef else {
      _ = pipe.close(flush: .zero)
      return node.host.finish(waiter, failing: NetError(.closed, "connect", cause: "the pipe ended at once"))
    }
    node.book.took(face)
    waiter.finish(.ref(ref))
  }

  private static func strategies(_ options: OptionReader) throws -> [ConnectStrategy] {
    guard let names = try options.strings("strategies") else { return ConnectStrategy.allCases }
    return try names.map { name in
      if let known = ConnectStrategy(rawValue: name) { return known }
      throw Misuse(
        "bad option 'strategies' of 'connect' (no strategy is called '\(name)'"
          + Spelling.hint(name, among: ConnectStrategy.allCases.map(\.rawValue)) + ")")
    }
  }

  private static func host(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "host")
    let name = try call.string(1, 1, "host")
    let options = try call.options(2, 2, "host", API.nodeCallbacks)
    do {
      try face.host(name, HandlerSet(face.generation, options))
    } catch {
      throw Misuse("bad argument #1 to 'host' (\(NetError(error, "host").cause))")
    }
    return .none
  }

  private static func add(_ call: borrowing LuaCall, _ kind: HandlerSet.Kind, _ name: String) throws -> LuaReturn {
    let face = try node(call, name)
    let callback = try call.needFunction(1, 1, name)
    try face.defaultHandlers().add(callback, kind)
    face.host.whenIdle { face.callbacksChanged() }
    return .none
  }

  private static func pipes(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "pipes")
    return .values([.list(face.openPipes.map { .object($0) })])
  }

  private static func close(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try node(call, "close")
    let flush = try call.options(1, 1, "close", API.closeOptions).seconds("flush") ?? .seconds(2)
    guard face.isOwn else { throw Misuse("this node hosts the script; it ends with the command that started it") }
    if face.isClosed { return .one(.bool(true)) }
    let host = face.host
    guard call.canWait else {
      host.whenIdle { face.close(flush: flush) }
      return .one(.bool(true))
    }
    let waiter = host.wait(call.wait)
    host.whenIdle {
      face.close(flush: flush).assumeIsolated().whenComplete { _ in waiter.finish([.bool(true)]) }
    }
    return .wait
  }
}
