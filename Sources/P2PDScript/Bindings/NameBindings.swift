import LuaVM
import NIOCore
import P2PDNames
import P2PDNet
import P2PDNode

extension ScriptHost {
  /// `p2pd.names.lookup(name)`
  func lookUpName(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("lookup", call)
    let name = try call.string(0, 1, "lookup")
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    let service = NameService(options.nodeDefaults, on: loop, logger: logger)
    waiter.giveUp = { service.close() }
    service.lookup(name, all: true).assumeIsolated().whenComplete { result in
      service.close()
      do {
        let report = try result.get()
        waiter.finish([report.lua(try report.result.get())])
      } catch {
        self.finish(waiter, failing: NetError(error, "look up a name"))
      }
    }
    return .wait
  }

  /// `p2pd.names.delete(name [, node])`
  func deleteName(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("delete", call)
    let name = try call.string(1, 1, "delete")
    var face = generation.hostingNode ?? (generation.openNodes.count == 1 ? generation.openNodes[0] : nil)
    if !call.isNone(2) {
      guard let given = call.object(2, as: NodeFace.self) else { throw call.need(2, 2, "delete", "p2pd.node") }
      face = given
    }
    guard let face else {
      throw Misuse(
        "bad argument #2 to 'delete' (the script has \(generation.openNodes.count) nodes: say which one's name it is)")
    }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    face.node.deleteName(name).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.finish(waiter, failing: NetError(error, "delete a name"))
      case .success: waiter.finish([.bool(true)])
      }
    }
    return .wait
  }
}

extension NameReport {
  /// `p2pd.name_report`
  fileprivate func lua(_ found: ResolvedName) -> LuaValue {
    .table(
      fields([
        ("name", .string("\(name)")), ("id", .string(NodeKey(bytes: found.key)?.description ?? "")),
        ("address", .string(found.address)), ("source", .string(found.source.rawValue)),
        ("seconds", .number(took.inSeconds)), ("answers", .list(findings.map(\.lua))),
      ]))
  }
}

extension NameFinding {
  /// `p2pd.name_finding`
  fileprivate var lua: LuaValue {
    let why: String? =
      switch outcome {
      case .found, .absent: nil
      case .failed(let error): "\(error)"
      case .notAsked(let words): words
      }
    let parts = parts.map { part in
      LuaValue.table(
        fields([
          ("from", .string(part.teller)), ("words", .string(part.words)),
          ("seconds", part.took.map { .number($0.inSeconds) } ?? .nil),
        ]))
    }
    return .table(
      fields([
        ("source", .string(source.rawValue)), ("outcome", .string(outcome.word)),
        ("id", key.flatMap { NodeKey(bytes: $0) }.map { .string($0.description) } ?? .nil),
        ("address", address.map { .string($0) } ?? .nil), ("from", .string(teller)),
        ("why", why.map { .string($0) } ?? .nil), ("seconds", .number(took.inSeconds)), ("parts", .list(parts)),
      ]))
  }
}

/// Those that are not nil.
private func fields(_ all: [(String, LuaValue)]) -> [(key: LuaValue, value: LuaValue)] {
  all.filter { if case .nil = $0.1 { false } else { true } }.map { (key: .string($0.0), value: $0.1) }
}
