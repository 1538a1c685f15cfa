import LuaVM

/// The callbacks of one protocol, server, daemon or pipe. Shared by all the pipes it serves, so that a change reaches
/// them with their next message. Gives its references back when the last of them is gone.
final class HandlerSet {
  enum Kind { case message, up, end }

  private(set) var message: [LuaRef] = []
  private(set) var up: [LuaRef] = []
  private(set) var end: [LuaRef] = []
  private weak var host: ScriptHost?

  init(_ host: ScriptHost) { self.host = host }

  /// Takes `msg_cb`, `up_cb` and `end_cb` out of an options table.
  convenience init(_ host: ScriptHost, _ options: OptionReader) {
    self.init(host)
    if let ref = options.takeFunction("msg_cb") { message = [ref] }
    if let ref = options.takeFunction("up_cb") { up = [ref] }
    if let ref = options.takeFunction("end_cb") { end = [ref] }
  }

  deinit {
    guard let host, !host.isClosed else { return }
    for ref in message + up + end { host.vm.release(ref) }
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

  /// Takes the first callback for which `same` answers true out, and gives it to whoever asked.
  func remove(_ kind: Kind, where same: (LuaRef) -> Bool) -> LuaRef? {
    guard let index = self[kind].firstIndex(where: same) else { return nil }
    switch kind {
    case .message: return message.remove(at: index)
    case .up: return up.remove(at: index)
    case .end: return end.remove(at: index)
    }
  }

  var isEmpty: Bool { message.isEmpty && up.isEmpty && end.isEmpty }
}
