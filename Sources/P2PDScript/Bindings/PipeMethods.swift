import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// `send`, `close`, callbacks, facts: the methods and fields of `pipe`.
enum PipeMethods {
  static var methods: [(String, HostFunction)] {
    [
      ("send", bound(send)), ("close", bound(close)), ("close_output", bound(closeOutput)),
      ("add_msg_cb", bound { try add($0, .message, "add_msg_cb") }),
      ("add_up_cb", bound { try add($0, .up, "add_up_cb") }),
      ("add_path_cb", bound { try add($0, .path, "add_path_cb") }),
      ("add_end_cb", bound { try add($0, .end, "add_end_cb") }),
      ("add_pipe", bound(addPipe)), ("del_pipe", bound(removePipe)),
      ("getsockname", bound(socketName)), ("getpeername", bound(peerName)), ("stats", bound(stats)),
    ]
  }

  static func pipe(_ call: borrowing LuaCall, _ function: String) throws -> PipeFace {
    guard let face = call.object(0, as: PipeFace.self) else {
      throw Misuse(
        "bad self of '\(function)' (p2pd.pipe expected, got \(call.kindName(0))): call it with a colon, pipe:\(function)(...)"
      )
    }
    return face
  }

  // MARK: Sending

  /// The road of most answers. Anything but bytes and the tuple at hand goes through ``send(_:)``.
  static let quickSend: LuaQuickMethod = { face, bytes, length, tuple in
    guard let face else { return false }
    return Unmanaged<PipeFace>.fromOpaque(face)._withUnsafeGuaranteedRef {
      $0.sendQuickly(UnsafeRawBufferPointer(start: bytes, count: length), to: tuple)
    }
  }

  private static func send(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "send")
    if let outcome = face.takeSendOutcome() { return after(outcome, face, call.wait, call.canWait) }
    let receiver = call.count > 2 ? try receiver(call, face) : nil
    guard let bytes = call.bytes(1) else {
      guard let text = numberText(call) else { throw call.need(1, 1, "send", "string") }
      var copy = text
      return copy.withUTF8 {
        after(face.pipe.send(UnsafeRawBufferPointer($0), to: receiver), face, call.wait, call.canWait)
      }
    }
    return after(face.pipe.send(bytes, to: receiver), face, call.wait, call.canWait)
  }

  /// A number is sent as Lua prints it.
  private static func numberText(_ call: borrowing LuaCall) -> String? {
    switch call.kind(1) {
    case .int: call.int(1).map { "\($0)" }
    case .number: call.number(1).map { "\($0)" }
    default: nil
    }
  }

  /// On a stream the tuple is the peer whatever it says; on UDP it says who.
  private static func receiver(_ call: borrowing LuaCall, _ face: PipeFace) throws -> Peer? {
    if face.pipe.proto == .tcp, call.isObject(2, of: TupleObject.self) { return nil }
    if let tuple = call.object(2, as: TupleObject.self) {
      // A peer's kernel form is its pipe's, so another pipe looks it up.
      guard let endpoint = tuple.endpoint else { return nil }
      if let peer = face.lastPeer, peer.endpoint == endpoint { return peer }
      return face.pipe.peer(for: endpoint)
    }
    if call.isNone(2) { return nil }
    guard case let (ip?, port)? = Place(try call.value(2))?.local else {
      throw call.need(2, 2, "send", "client_tup or {ip, port}")
    }
    return face.pipe.proto == .tcp ? nil : face.pipe.peer(for: Endpoint(ip: ip, port: port))
  }

  private static func after(_ outcome: SendOutcome, _ face: PipeFace, _ wait: LuaWait, _ canWait: Bool) -> LuaReturn {
    switch outcome {
    case .sent: return .one(.bool(true))
    case .failed(let error): return face.host.failure(error)
    case .full:
      // The message is taken. Where the script cannot wait it goes on, until the pipe's hard limit refuses more.
      guard canWait else { return .one(.bool(true)) }
      let waiter = face.host.wait(wait)
      face.pipe.whenWritable { error in
        if let error { face.host.finish(waiter, failing: error) } else { waiter.finish([.bool(true)]) }
      }
      return .wait
    }
  }

  // MARK: Ending

  /// `close()`, `close{flush = seconds}`
  static func close(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "close")
    let flush = try call.options(1, 1, "close", API.closeOptions).seconds("flush")
    return finishClosing(face, flush: flush, call.wait, canWait: call.canWait)
  }

  /// `local pipe <close> = ...`
  static func closeVariable(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "close")
    _ = face.pipe.close()
    return .none
  }

  private static func finishClosing(_ face: PipeFace, flush: TimeAmount?, _ wait: LuaWait, canWait: Bool) -> LuaReturn {
    let pipe = face.pipe
    if face.endReason != nil { return .one(.bool(true)) }
    let ended = pipe.close(flush: flush)
    if face.endReason != nil { return lossOrTrue(face) }
    guard canWait else { return .one(.bool(true)) }
    let host = face.host
    let waiter = host.wait(wait)
    ended.assumeIsolated().whenComplete { _ in
      if pipe.lost > 0 { host.finish(waiter, failing: lossError(pipe)) } else { waiter.finish([.bool(true)]) }
    }
    return .wait
  }

  private static func lossOrTrue(_ face: PipeFace) -> LuaReturn {
    face.pipe.lost > 0 ? face.host.failure(lossError(face.pipe)) : .one(.bool(true))
  }

  private static func lossError(_ pipe: Pipe) -> NetError {
    NetError(.timeout, "close", cause: "\(pipe.lost) bytes could not be sent")
  }

  private static func closeOutput(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "close_output")
    guard face.pipe.proto == .tcp, !face.pipe.isServer else {
      return face.host.failure(.unsupported, "close_output", cause: "only a connected stream has an end")
    }
    guard face.pipe.isOpen else { return face.host.failure(.closed, "close_output", cause: "the pipe is closed") }
    face.pipe.closeOutput()
    return .one(.bool(true))
  }

  // MARK: Callbacks

  private static func add(_ call: borrowing LuaCall, _ kind: HandlerSet.Kind, _ name: String) throws -> LuaReturn {
    let face = try pipe(call, name)
    let callback = try call.needFunction(1, 1, name)
    let host = face.host
    let caller = host.caller(call)
    switch kind {
    case .end: face.addEnd(callback, by: caller)
    case .message: host.whenIdle { face.add(callback, .message, by: caller) }
    case .path: face.add(callback, .path, by: caller)
    case .up:
      face.add(callback, .up, by: caller)
      guard face.pipe.isOpen, !(face.pipe.isServer && face.pipe.proto == .tcp) else { break }
      host.whenIdle {
        guard let ref = face.pipeRef else { return }
        face.call(callback, [.ref(ref)], place: "up_cb")
      }
    }
    return .none
  }

  // MARK: Relays

  private static func addPipe(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "add_pipe")
    guard let other = call.object(1, as: PipeFace.self) else { throw call.need(1, 1, "add_pipe", "p2pd.pipe") }
    do {
      try face.pipe.addPipe(other.pipe)
      return .one(.bool(true))
    } catch {
      return face.host.failure(error)
    }
  }

  private static func removePipe(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "del_pipe")
    guard let other = call.object(1, as: PipeFace.self) else { throw call.need(1, 1, "del_pipe", "p2pd.pipe") }
    face.pipe.removePipe(other.pipe)
    return .none
  }

  // MARK: Facts

  private static func socketName(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "getsockname")
    guard let endpoint = face.pipe.localEndpoint else {
      return face.host.failure(.closed, "getsockname", cause: "the pipe has no local address")
    }
    return .object(TupleObject(endpoint))
  }

  private static func peerName(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try pipe(call, "getpeername")
    guard let peer = face.pipe.peer else {
      return face.host.failure(.unsupported, "getpeername", cause: "a server has no peer")
    }
    return .one(.ref(try face.host.tuple(for: peer)))
  }

  private static func stats(_ call: borrowing LuaCall) throws -> LuaReturn {
    let stats = try pipe(call, "stats").pipe.stats()
    var pairs: [(key: LuaValue, value: LuaValue)] = []
    func add(_ name: String, _ value: LuaValue) { pairs.append((.string(name), value)) }
    add("bytes_in", .int(Int64(clamping: stats.bytesIn)))
    add("bytes_out", .int(Int64(clamping: stats.bytesOut)))
    add("messages_in", .int(Int64(clamping: stats.messagesIn)))
    add("messages_out", .int(Int64(clamping: stats.messagesOut)))
    add("dropped", .int(Int64(clamping: stats.dropped)))
    add("queued", .int(Int64(stats.queued)))
    add("queued_bytes", .int(Int64(stats.queuedBytes)))
    add("unsent", .int(Int64(stats.unsent)))
    if let rtt = stats.rtt { add("rtt", .number(rtt.inSeconds)) }
    add("age", .number(stats.age.inSeconds))
    return .values([.table(pairs)])
  }

  /// The fields of `pipe`; nil for a name that is none.
  static func field(_ face: PipeFace, _ name: String) throws -> LuaReturn? {
    let pipe = face.pipe
    switch name {
    case "id": return .one(.int(Int64(clamping: pipe.id)))
    case "proto": return .string(pipe.proto.rawValue)
    case "af": return .one(pipe.family.map { .int(Int64($0.rawValue)) } ?? .nil)
    case "is_server": return .one(.bool(pipe.isServer))
    case "is_open": return .one(.bool(pipe.isOpen))
    case "peer": return .one(try pipe.peer.map { .ref(try face.host.tuple(for: $0)) } ?? .nil)
    case "route": return face.route.map { .object($0) } ?? .one(.nil)
    case "strategy": return .string(pipe.strategy)
    case "path": return .string(pipe.path)
    case "why_relayed": return pipe.whyNoBetter.map { .object(ErrorObject($0)) } ?? .one(.nil)
    case "held_by": return pipe.heldBy.map { .string($0.description) } ?? .one(.nil)
    case "protocol": return .string(pipe.protocolName)
    case "peer_id": return NodeKey(bytes: pipe.peerKey).map { .string($0.description) } ?? .one(.nil)
    default: return nil
    }
  }
}
