import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// Loading handler files for the first time, and giving them to a node.
extension ScriptHost {
  /// Loads and checks handler files; a folder stands for its `*.lua` files. Nothing is live before ``attach(_:)``.
  /// - Throws: ``ScriptError`` for the first that is unreadable, has a syntax error, fails at its top level or in
  ///   `M.check`, returns no table of callbacks, has an unknown one, or has another's name. What was loaded before stays
  ///   loaded.
  public func loadProtocols(_ paths: [String]) async throws -> [HostedProtocol] {
    var made: [HostedProtocol] = []
    for path in try paths.flatMap({ try ScriptFiles.handlers(at: $0) }) { made.append(try await loadProtocol(path)) }
    return made
  }

  func loadProtocol(_ path: String) async throws(ScriptError) -> HostedProtocol {
    let promise = loop.makePromise(of: HostedProtocol.self)
    loop.execute { self.load(path) { promise.completeWith($0.mapError { $0 as any Error }) } }
    do {
      return try await promise.futureResult.get()
    } catch {
      throw ScriptError(error, in: path)
    }
  }

  /// Stages a file as a protocol of its own.
  func load(
    _ path: String, sources: SourceReader = SourceReader(),
    then: @escaping (Result<HostedProtocol, ScriptError>) -> Void
  ) {
    guard !isClosed, !isShuttingDown else {
      return then(.failure(ScriptError(file: path, message: "\(path): the node is shutting down")))
    }
    let generation = makeGeneration(name: ScriptFiles.baseName(path), path: path, sources: sources)
    Staging(generation).run { result in
      do {
        let name = try result.get()
        if let other = self.hosted.first(where: { $0.name == name }) {
          throw ScriptError(
            file: path, message: "\(path): the protocol name '\(name)' is taken by \(other.path); set M.protocol")
        }
        try self.giveState(to: generation, like: nil)
        let made = HostedProtocol(name: name, generation)
        self.hosted.append(made)
        then(.success(made))
      } catch {
        generation.retire("not loaded")
        self.drop(generation)
        then(.failure(ScriptError(error, in: path)))
      }
    }
  }

  /// Hosts every loaded protocol on the node under its name; the first one serves the default protocol too. From now
  /// on the scripts are live: timers run, servers of the top level take clients, `M.start` is called.
  /// - Throws: NetError when the node refuses a name, or a server cannot be opened.
  public func attach(_ node: Node) async throws {
    let promise = loop.makePromise(of: Void.self)
    loop.execute {
      self.node = node
      node.consent = { [weak self] key, info in
        guard let self, !isClosed else { return node.loop.makeSucceededFuture(false) }
        let name = info.protocolName
        let asked = name.isEmpty ? hosted.first : hostedProtocol(name)
        return consent(asked?.slot.current, key, info)
      }
      self.openListeners(of: self.hosted[...]) { failure in
        if let failure { return promise.fail(failure) }
        do {
          for (index, hosted) in self.hosted.enumerated() { try self.attach(hosted, to: node, isDefault: index == 0) }
          for hosted in self.hosted { self.begin(hosted.current) }
          promise.succeed(())
        } catch {
          promise.fail(error)
        }
      }
    }
    try await promise.futureResult.get()
  }

  private func openListeners(of rest: ArraySlice<HostedProtocol>, then: @escaping (NetError?) -> Void) {
    guard let hosted = rest.first else { return then(nil) }
    prepareListeners(of: hosted.current, after: nil) { failure in
      if let failure { then(failure) } else { self.openListeners(of: rest.dropFirst(), then: then) }
    }
  }

  func attach(_ hosted: HostedProtocol, to node: Node, isDefault: Bool) throws {
    let face = NodeFace(node, generation: hosted.current, isOwn: false, book: hosted.book)
    hosted.current.hostingNode = face
    try face.host(hosted.name, hosted.slot)
    if isDefault { try face.host("", hosted.slot) }
  }

  /// The first generation of a protocol goes live.
  func begin(_ generation: Generation) {
    generation.activate()
    startService(of: generation)
  }

  /// Calls `M.start`: as a task and not a callback, since a loop in it must not hold up the end.
  func startService(of generation: Generation, ended: @escaping (LuaFailure?) -> Void = { _ in }) {
    generation.isStarted = true
    guard let start = generation.startCallback, let function = try? vm.retain(start) else { return ended(nil) }
    let task = TaskHandle(generation, isQuiet: false, isService: true, place: "start")
    task.whenOver(isJoin: false) { ended(task.failure) }
    task.run(function)
  }

  // MARK: Environments

  /// Gives a generation its environment and its `p2pd`.
  func prepare(_ generation: Generation, arguments: [String]?) throws {
    let environment = try vm.makeEnvironment(
      directory: ScriptFiles.directory(generation.path), moduleDirectories: options.moduleDirectories,
      printTag: "\(generation.id)")
    generation.environment = environment
    let module = try vm.module("p2pd", in: environment)
    defer { vm.release(module) }
    let doors = try self.doors ?? Doors(vm, module)
    self.doors = doors
    let made = try vm.callNow(doors.install, [.ref(module), .int(generation.id)], tablesAsRefs: true)
    generation.stateHolder = made.first?.ref
    afterRun()
    try vm.setSentinel(CollectionNotice(self, generation.id), on: environment)
    guard let arguments else { return }
    if let print = try vm.field(environment, "print").ref {
      defer { vm.release(print) }
      if let patient = try vm.callNow(doors.patient, [.ref(print)]).first?.ref {
        defer { vm.release(patient) }
        try vm.setField(environment, "print", .ref(patient))
      }
      afterRun()
    }
    var pairs: [(key: LuaValue, value: LuaValue)] = [(.int(0), .string(generation.path))]
    for (index, argument) in arguments.enumerated() { pairs.append((.int(Int64(index + 1)), .string(argument))) }
    try vm.setField(environment, "arg", .table(pairs))
  }

  /// Lets a generation have `p2pd.state`: that of another, or an empty one.
  func giveState(to generation: Generation, like other: Generation?) throws {
    guard let doors, let holder = generation.stateHolder else { return }
    let cell: LuaRef?
    if let known = other?.cell {
      cell = try vm.retain(known)
    } else {
      cell = try vm.callNow(doors.newCell, [], tablesAsRefs: true).first?.ref
      afterRun()
    }
    guard let cell else { return }
    generation.cell = cell
    try vm.setField(holder, "cell", .ref(cell))
  }
}

/// The prelude's functions that Swift calls.
struct Doors {
  let install, patient, newCell, runHandler, check, audit, isEmpty, migrate, session, pipesIn: LuaRef

  init(_ vm: LuaVM, _ module: LuaRef) throws {
    guard let table = try vm.field(module, .int(1), tablesAsRefs: true).ref else {
      throw LuaFailure(message: "no doors")
    }
    defer { vm.release(table) }
    func door(_ name: String) throws -> LuaRef {
      guard let ref = try vm.field(table, name).ref else { throw LuaFailure(message: "no door \(name)") }
      return ref
    }
    install = try door("install")
    patient = try door("patient")
    newCell = try door("new_cell")
    runHandler = try door("run_handler")
    check = try door("check")
    audit = try door("audit")
    isEmpty = try door("is_empty")
    migrate = try door("migrate")
    session = try door("session")
    pipesIn = try door("pipes_in")
  }
}
