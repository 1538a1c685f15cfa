import LuaVM

/// The callbacks of one protocol, server, daemon or pipe. Shared by all the pipes it serves, so that a change reaches
/// them with their next message. Gives its references back when the last of them is gone.
final class HandlerSet {
  enum Kind: String {
    case message = "msg"
    case up, end
  }

  private(set) var message: [LuaRef] = []
  private(set) var up: [LuaRef] = []
  private(set) var end: [LuaRef] = []
  private let vm: LuaVM

  init(_ host: ScriptHost) { vm = host.vm }

  /// Takes `msg_cb`, `up_cb` and `end_cb` out of an options table.
  convenience init(_ host: ScriptHost, _ options: OptionReader) {
    self.init(host)
    if let ref = options.takeFunction("msg_cb") { message = [ref] }
    if let ref = options.takeFunction("up_cb") { up = [ref] }
    if let ref = options.takeFunction("end_cb") { end = [ref] }
  }

  deinit {
    for ref in message + up + end { vm.release(ref) }
  }

  subscript(kind: Kind) -> [LuaRef] {
    switch kind {
    case .message: message
    case .up: up
    case .end: end
    }
  }

  /// Takes the reference over.
  func add(_ ref: LuaRef, _ kind: Kind) {
    switch kind {
    case .message: message.append(ref)
    case .up: up.append(ref)
    case .end: end.append(ref)
    }
  }

  /// Takes a callback out and gives it to whoever asked.
  func remove(_ kind: Kind, at index: Int) -> LuaRef? {
    guard self[kind].indices.contains(index) else { return nil }
    switch kind {
    case .message: return message.remove(at: index)
    case .up: return up.remove(at: index)
    case .end: return end.remove(at: index)
    }
  }

  var isEmpty: Bool { message.isEmpty && up.isEmpty && end.isEmpty }
}

/// Something a script can add callbacks to and take them from.
protocol CallbackHolder: AnyObject {
  /// The sets whose callbacks `del_..._cb` may take away.
  var callbackSets: [HandlerSet] { get }
  func callbacksChanged()
}

/// What the prelude's `del_msg_cb` and its like are made of: only Lua can tell whether two functions are the same.
extension ScriptHost {
  /// `callbacks(object, kind)`: the functions, in a list.
  func callbacks(_ call: borrowing LuaCall) throws -> LuaReturn {
    let (holder, kind) = try holder(call)
    return .values([.list(holder.callbackSets.flatMap { $0[kind] }.map { .ref($0) })])
  }

  /// `remove_callback(object, kind, index)`
  func removeCallback(_ call: borrowing LuaCall) throws -> LuaReturn {
    let (holder, kind) = try holder(call)
    var index = Int(clamping: call.int(2) ?? 0) - 1
    for set in holder.callbackSets {
      if index < set[kind].count {
        if let ref = set.remove(kind, at: index) { vm.release(ref) }
        break
      }
      index -= set[kind].count
    }
    whenIdle { holder.callbacksChanged() }
    return .none
  }

  private func holder(_ call: borrowing LuaCall) throws -> (any CallbackHolder, HandlerSet.Kind) {
    guard let kind = call.string(1).flatMap(HandlerSet.Kind.init) else { throw call.need(1, 2, "callbacks", "kind") }
    if let pipe = call.object(0, as: PipeFace.self) { return (pipe, kind) }
    if let node = call.object(0, as: NodeFace.self) { return (node, kind) }
    if let daemon = call.object(0, as: DaemonObject.self) { return (daemon, kind) }
    throw Misuse("bad self of 'del_\(kind.rawValue)_cb' (got \(call.kindName(0))): call it with a colon")
  }
}
