import Glibc
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// The host functions under the `lab` table (``TestPrelude/lab``).
extension TestLab {
  var labFunctions: [(String, HostFunction)] {
    [
      ("lab_node", bound { [unowned self] in try bareNode($0) }),
      ("lab_script", bound { [unowned self] in try scriptNode($0) }),
      ("lab_client", bound { [unowned self] in try clientNode($0) }),
      ("lab_stop", bound { [unowned self] in try stopNode($0) }),
      ("lab_reload", bound { [unowned self] in try reload($0) }),
      ("lab_link", bound { [unowned self] in try link($0) }),
      ("lab_reset", bound { [unowned self] in try reset($0) }),
      ("lab_vanish", bound { [unowned self] in try vanish($0) }),
      ("lab_now", bound { [unowned self] _ in .one(.number(now)) }),
      ("lab_sleep", bound { [unowned self] in try host.sleep($0) }),
      ("lab_write", bound { [unowned self] in try write($0) }),
      ("lab_read", bound { [unowned self] in try read($0) }),
      ("lab_pipes", bound { [unowned self] in try pipes($0) }),
      ("lab_errors", bound { [unowned self] in try errors($0) }),
      ("lab_log", bound { [unowned self] _ in .values([.list(log.lines.map { .string($0) })]) }),
      ("lab_state", bound { [unowned self] in try state($0) }),
    ]
  }

  // MARK: Nodes

  private struct NodeOptions: Sendable {
    var name: String?
    var port: UInt16 = 0
  }

  private func options(_ call: borrowing LuaCall, _ index: Int) throws -> NodeOptions {
    guard isOpen else {
      throw Misuse("every test begins with an empty network: make nodes in the test or in before_each, not in setup")
    }
    let given = try call.options(index, index + 1, "node", API.labNodeOptions)
    var options = NodeOptions(name: given.string("name"))
    if let port = try given.integer("port", in: 0...65_535) { options.port = UInt16(port) }
    return options
  }

  private func bareNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    let options = try options(call, 0)
    guard call.canWait else { return .wait }
    return starting(call.wait) { try await self.start(options, script: nil) }
  }

  /// What `lab.dial` calls from: one node for a test.
  private func clientNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    if let client { return .object(client) }
    guard call.canWait else { return .wait }
    return starting(call.wait) {
      try await self.start(NodeOptions(name: "client"), script: nil)
      if let face = self.lastFace { self.setClient(face) }
    }
  }

  private func scriptNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    let path = find(try call.string(0, 1, "node"))
    var options = try options(call, 1)
    options.name = options.name ?? ScriptFiles.baseName(path)
    guard call.canWait else { return .wait }
    let chosen = options
    return starting(call.wait) { try await self.start(chosen, script: path) }
  }

  /// A handler's path is told from the test's folder, or else from where the program was started.
  private func find(_ path: String) -> String {
    let beside = ScriptFiles.directory(generation.path) + "/" + path
    return !path.hasPrefix("/") && access(beside, F_OK) == 0 ? beside : path
  }

  private func starting(_ wait: LuaWait, _ body: @escaping @Sendable () async throws -> Void) -> LuaReturn {
    let waiter = host.wait(wait)
    host.loop.run(body).assumeIsolated().whenComplete { result in
      switch result {
      case .success:
        guard let face = self.lastFace else { return waiter.finish([.nil, .string("the test is over")]) }
        waiter.finish([.object(face)])
      case .failure(let error): waiter.finish([.nil, .string("\(error)")])
      }
    }
    return .wait
  }

  private func start(_ options: NodeOptions, script path: String?) async throws {
    let place = addHost(options.name)
    let logger = log.logger(place.name, network.time)
    let reloads = self.options.reloadsEveryMessage
    var configuration = host.options.nodeDefaults
    configuration.port = options.port
    var script: ScriptHost?
    do {
      if let path {
        let made = try await ScriptHost.make(on: place.loop, options: scriptOptions(configuration), logger: logger)
        if reloads { made.wrapSink = { [unowned made] in ReloadingSink($0, made) } }
        made.onFailure = { [unowned self] in note($1, $2, node: place.name) }
        script = made
        _ = try await made.loadProtocols([path])
      }
      let node = try await Node.start(configuration, on: place.loop, logger: logger)
      if let script { try await script.attach(node) }
      // What `start` does at once belongs to the node.
      await pause(.zero)
      let face = NodeFace(node, generation: generation, isOwn: true)
      add(LabNode(face: face, place: place, script: script, path: path, base: script?.holdings ?? (0, 0)))
    } catch {
      await script?.shutdown(deadline: .zero)
      throw error
    }
  }

  /// As a signal ends `p2pd-lua run`.
  private func stopNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    let found = try node(call, 0, "stop")
    guard call.canWait else { return .wait }
    let waiter = host.wait(call.wait)
    host.loop.run { await self.end(found) }.assumeIsolated().whenComplete { _ in waiter.finish([]) }
    return .wait
  }

  /// `(node [, source])`: reads the handler's files again, after writing the source into its file.
  private func reload(_ call: borrowing LuaCall) throws -> LuaReturn {
    let found = try node(call, 0, "reload")
    guard let script = found.script, let path = found.path, !script.isClosed, let name = script.hosted.first?.name
    else {
      throw Misuse("the node hosts no handler of a file, or it was stopped: there is nothing to reload")
    }
    let source = call.bytes(1).map { Array($0) }
    if source == nil, !call.isNone(1) { throw call.need(1, 2, "reload", "string") }
    guard call.canWait else { return .wait }
    if let source {
      guard path.hasPrefix(try folder().path + "/") else {
        throw Misuse(
          "\(path) is not the test's own file: write the handler with lab.write, and make its node from that")
      }
      _ = try folder().write(path, source)
    }
    let waiter = host.wait(call.wait)
    host.loop.run { await script.reload(name, trigger: "api") }.assumeIsolated().whenComplete { result in
      guard let report = try? result.get().first else { return waiter.finish([.nil]) }
      waiter.finish([Self.value(of: report)])
    }
    return .wait
  }

  private static func value(of report: ReloadReport) -> LuaValue {
    var pairs: [(key: LuaValue, value: LuaValue)] = [
      (.string("result"), .string(report.result.rawValue)), (.string("pipes"), .int(Int64(report.pipes))),
      (.string("in_flight"), .int(Int64(report.inFlight))),
    ]
    for (name, number) in [("from", report.from), ("to", report.to)] {
      if let number { pairs.append((.string(name), .int(number))) }
    }
    if let error = report.error { pairs.append((.string("error"), .string(error))) }
    return .table(pairs)
  }

  private func scriptOptions(_ configuration: NodeConfiguration) -> ScriptOptions {
    var options = host.options
    options.nodeDefaults = configuration
    return options
  }

  private func node(_ call: borrowing LuaCall, _ index: Int, _ function: String) throws -> LabNode {
    guard let face = call.object(index, as: NodeFace.self) else {
      throw call.need(index, index + 1, function, "p2pd.node")
    }
    guard let found = labNode(face) else {
      throw Misuse("this node is not of this test's laboratory: make it with lab.node")
    }
    return found
  }

  private func optionalPlace(_ call: borrowing LuaCall, _ index: Int, _ function: String) throws -> MemoryHost? {
    call.isNone(index) ? nil : try node(call, index, function).place
  }

  // MARK: The network

  /// `(what, a, b, value, extra)`; without b every link of a, without both every link.
  private func link(_ call: borrowing LuaCall) throws -> LuaReturn {
    let what = try call.string(0, 1, "link")
    let a = try optionalPlace(call, 1, what)
    let b = try optionalPlace(call, 2, what)
    guard let value = call.number(3), value >= 0 else { throw call.need(3, a == nil ? 1 : 3, what, "number from 0 on") }
    guard let time = TimeAmount(seconds: value), let jitter = TimeAmount(seconds: call.number(4) ?? 0) else {
      throw call.need(3, 3, what, "number")
    }
    if what == "loss", value > 1 { throw Misuse("bad argument to 'loss' (a part from 0 to 1 expected, got \(value))") }
    let change: (inout LinkConditions) -> Void = { conditions in
      switch what {
      case "latency": (conditions.latency, conditions.jitter) = (time, jitter)
      case "loss": conditions.loss = value
      case "bandwidth": conditions.bandwidth = value >= 1 ? Int(min(value, 1e15)) : nil
      default: conditions.isCut = value > 0
      }
    }
    if a == nil, b == nil {
      change(&network.standard)
      if what == "cut", value == 0 { for host in network.hosts { host.hasVanished = false } }
    }
    if what == "cut", value == 0 { for host in [a, b] { host?.hasVanished = false } }
    for (one, two) in pairs(a, b) { network.change(one, two, change) }
    return .none
  }

  private func reset(_ call: borrowing LuaCall) throws -> LuaReturn {
    let places = (try optionalPlace(call, 0, "reset"), try optionalPlace(call, 1, "reset"))
    host.whenIdle { for (one, two) in self.pairs(places.0, places.1) { self.network.cut(one, two) } }
    return .none
  }

  private func vanish(_ call: borrowing LuaCall) throws -> LuaReturn {
    try node(call, 0, "vanish").place.hasVanished = true
    return .none
  }

  /// The links that are meant: between two, all of one, or all.
  private func pairs(_ a: MemoryHost?, _ b: MemoryHost?) -> [(MemoryHost, MemoryHost)] {
    if let a, let b { return [(a, b)] }
    let all = network.hosts
    if let one = a ?? b { return all.filter { $0 !== one }.map { (one, $0) } }
    return all.indices.flatMap { i in all[(i + 1)...].map { (all[i], $0) } }
  }

  // MARK: Files, errors, state

  private func write(_ call: borrowing LuaCall) throws -> LuaReturn {
    let name = try call.string(0, 1, "write")
    guard let bytes = call.bytes(1) else { throw call.need(1, 2, "write", "string") }
    return .string(try folder().write(name, Array(bytes)))
  }

  private func read(_ call: borrowing LuaCall) throws -> LuaReturn {
    let path = try folder().place(try call.string(0, 1, "read"))
    do {
      return .values([.string(try ScriptFiles.read(path))])
    } catch {
      return .one(.nil)
    }
  }

  /// What failed so far where no test looks; who asks takes it on himself.
  private func errors(_ call: borrowing LuaCall) throws -> LuaReturn {
    .values([
      .list(
        takeErrors().map { error in
          .table([
            (.string("node"), .string(error.node)), (.string("place"), .string(error.place)),
            (.string("message"), .string(error.message)),
          ])
        })
    ])
  }

  /// How many pipes a node's handlers have open.
  private func pipes(_ call: borrowing LuaCall) throws -> LuaReturn {
    let found = try node(call, 0, "pipes")
    guard let script = found.script, !script.isClosed else { return .one(.int(Int64(found.face.openPipes.count))) }
    let opened = script.generations.values.reduce(0) { $0 + $1.pipes.count }
    return .one(.int(Int64(script.hosted.reduce(opened) { $0 + $1.slot.pipes.count })))
  }

  /// A copy of `p2pd.state` of a node's first handler.
  private func state(_ call: borrowing LuaCall) throws -> LuaReturn {
    let found = try node(call, 0, "state")
    guard let script = found.script, !script.isClosed, let generation = script.hosted.first?.current else {
      throw Misuse("the node hosts no handler of a file: its state is that of the test, or it was stopped")
    }
    let chunk = try script.vm.load(
      "return require('p2pd').state", name: "=[p2pd.test]", environment: generation.environment)
    defer { script.vm.release(chunk) }
    let state = try script.vm.callNow(chunk).first ?? .nil
    script.afterRun()
    defer { OptionReader.release(state, script.vm) }
    return .values([state.plain])
  }
}

extension LuaValue {
  /// Without what belongs to one VM: functions and objects are left as words.
  var plain: LuaValue {
    switch self {
    case .table(let pairs): .table(pairs.map { ($0.key.plain, $0.value.plain) })
    case .ref: .string("a function")
    case .object(let object): .string("a \(ScriptClasses.names[ObjectIdentifier(type(of: object))] ?? "userdata")")
    default: self
    }
  }
}

extension ScriptHost {
  /// Tasks of all generations of its scripts, and timers of those in service: one that stands by holds its timers.
  var holdings: (tasks: Int, timers: Int) {
    (
      generations.values.reduce(0) { $0 + $1.tasks.count },
      hosted.reduce(0) { $0 + $1.current.timers.count }
    )
  }
}
