import LuaVM
import P2PDNet

/// `p2pd.reload`, `p2pd.watch`, `p2pd.pipes`: what a hosted script knows of its own reloads.
extension ScriptHost {
  /// `p2pd.reload([name])`. The generation that asks may be the one that is replaced: its task ends on its own code.
  func reload(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("reload", call)
    let given = call.isNone(1) ? nil : try call.string(1, 1, "reload")
    guard let own = generation.hosted else {
      return failure(.unsupported, "reload", cause: "only scripts that 'p2pd-lua run' hosts are reloaded")
    }
    let name = given ?? own.name
    guard hosted.contains(where: { $0.name == name }) else {
      return .failure(ErrorObject(code: "invalid", message: notHosted(name, "lua").error ?? ""))
    }
    let waiter = call.canWait ? wait(call.wait) : nil
    // Never from within Lua: the reload begins when this turn of the loop is through.
    loop.assumeIsolated().execute {
      guard !self.isClosed else { return }
      self.reload(named: name, ReloadRequest(trigger: "lua") { waiter?.finish([$0.luaValue]) })
    }
    return waiter == nil ? .one(.bool(true)) : .wait
  }

  /// `p2pd.watch(path)`
  func watch(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    let path = ScriptFiles.absolute(
      try call.string(1, 1, "watch"), in: ScriptFiles.directory(generation.path))
    generation.sources.watch(path)
    return .string(path)
  }

  /// `p2pd.pipes()`
  func pipes(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("pipes", call)
    var faces: [PipeFace]
    if let hosted = generation.hosted {
      faces = hosted.slot.pipes.values.filter { $0.slot.target(for: $0.handlers).generation === generation }
    } else {
      faces = generation.openPipes
    }
    faces.removeAll { !$0.pipe.isOpen || $0.pipeRef == nil }
    faces.sort { $0.pipe.id < $1.pipe.id }
    return .values([.list(faces.map { .object($0) })])
  }
}

extension ReloadReport {
  /// The report as Lua gets it.
  var luaValue: LuaValue {
    var pairs: [(key: LuaValue, value: LuaValue)] = []
    func add(_ name: String, _ value: LuaValue) { pairs.append((.string(name), value)) }
    add("protocol", .string(protocolName))
    add("trigger", .string(trigger))
    add("result", .string(result.rawValue))
    if let from { add("from", .int(from)) }
    if let to { add("to", .int(to)) }
    if let error { add("error", .string(error)) }
    if !traceback.isEmpty { add("traceback", .string(traceback)) }
    add("pipes", .int(Int64(pipes)))
    add(
      "files",
      .list(
        files.map { file in
          .table([
            (.string("path"), .string(file.path)), (.string("change"), .string(file.change.rawValue)),
          ])
        }))
    add("text", .string(description))
    return .table(pairs)
  }
}
