import LuaVM

/// The callbacks of one protocol, server, daemon or pipe, all of one generation. Shared by all the pipes it serves, so
/// that a change reaches them with their next message. Gives its references back when the last of them is gone, or its
/// generation is.
final class HandlerSet {
  enum Kind: String, CaseIterable {
    case message = "msg"
    case up, path, end
  }

  /// The loading of the script these functions come from.
  let generation: Generation
  /// When its slot made it the current one; slots compare these.
  var place: UInt64 = 0
  private(set) var message: [LuaRef] = [] { didSet { only = message.count == 1 ? message[0] : nil } }
  /// The message callback where there is just one: the road of most messages.
  private(set) var only: LuaRef?
  private(set) var up: [LuaRef] = []
  private(set) var path: [LuaRef] = []
  private(set) var end: [LuaRef] = []
  /// `M.session`: a task for each pipe in place of message callbacks.
  private(set) var session: LuaRef?
  /// `accept_cb`: may the node dial what a stranger names?
  private(set) var accept: LuaRef?

  init(_ generation: Generation) {
    self.generation = generation
    generation.add(self)
  }

  /// Takes `msg_cb`, `up_cb`, `path_cb` and `end_cb` out of an options table.
  convenience init(_ generation: Generation, _ options: OptionReader) {
    self.init(generation)
    for kind in Kind.allCases {
      if let ref = options.takeFunction("\(kind.rawValue)_cb") { add(ref, kind) }
    }
    accept = options.takeFunction("accept_cb")
  }

  deinit {
    generation.remove(ObjectIdentifier(self))
    for ref in references { generation.host.vm.release(ref) }
  }

  private var references: [LuaRef] { message + up + path + end + [session, accept].compactMap { $0 } }

  /// Gives every function back: the generation has ended.
  func empty() {
    let all = references
    (message, up, path, end, session, accept) = ([], [], [], [], nil, nil)
    for ref in all { generation.host.vm.release(ref) }
  }

  subscript(kind: Kind) -> [LuaRef] {
    switch kind {
    case .message: message
    case .up: up
    case .path: path
    case .end: end
    }
  }

  /// Takes the reference over.
  func add(_ ref: LuaRef, _ kind: Kind) {
    switch kind {
    case .message: message.append(ref)
    case .up: up.append(ref)
    case .path: path.append(ref)
    case .end: end.append(ref)
    }
  }

  /// Takes the reference over.
  func set(session ref: LuaRef) {
    if let session { generation.host.vm.release(session) }
    session = ref
  }

  /// Takes the reference over.
  func set(accept ref: LuaRef) {
    if let accept { generation.host.vm.release(accept) }
    accept = ref
  }

  /// Takes a callback out and gives it to whoever asked.
  func remove(_ kind: Kind, at index: Int) -> LuaRef? {
    guard self[kind].indices.contains(index) else { return nil }
    switch kind {
    case .message: return message.remove(at: index)
    case .up: return up.remove(at: index)
    case .path: return path.remove(at: index)
    case .end: return end.remove(at: index)
    }
  }

  var isEmpty: Bool { message.isEmpty && up.isEmpty && path.isEmpty && end.isEmpty && session == nil }
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
