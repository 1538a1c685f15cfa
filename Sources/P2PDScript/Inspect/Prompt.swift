import LuaVM
import NIOCore
import P2PDNet

/// A Lua prompt inside a running host: lines of code run one after another, each as a task of its own under the same
/// limits of time and memory as a handler, and may wait. An error in a line is the line's alone.
///
/// It has globals of its own, or with `protocol` looks into those of the protocol's script. What its lines start
/// (timers, tasks, pipes) ends with it. Confined to the host's event loop.
public final class Prompt: @unchecked Sendable {
  /// What became of a line.
  public enum Outcome: Sendable, Equatable {
    /// The line is the beginning of a chunk: more is needed.
    case incomplete
    /// Its values as text, empty where it gave none.
    case values(String)
    case failed(message: String, traceback: String)
  }

  private let host: ScriptHost
  private let protocolName: String?
  private let generation: Generation
  private let face: PromptFace
  private var functions: (enter: LuaRef, show: LuaRef, complete: LuaRef)?
  /// Whose globals the lines see, and the environment made for that.
  private var entered: (generation: Int64, environment: LuaRef)?
  private var run: PromptRun?
  private var isClosed = false

  /// Opens a prompt; call it on the host's loop, while no Lua runs.
  /// - Parameters:
  ///   - protocolName: whose globals are seen; nil gives the prompt globals of its own.
  ///   - readOnly: values can be looked at and nothing can be changed.
  ///   - print: what a line prints.
  /// - Throws: ``ScriptError`` for a protocol that is not there, and when memory is out.
  public init(
    _ host: ScriptHost, protocol protocolName: String?, readOnly: Bool, print: @escaping (String) -> Void
  ) throws {
    host.loop.assertInEventLoop()
    if let protocolName, host.hostedProtocol(protocolName) == nil {
      throw ScriptError(file: "", message: "the node hosts no protocol '\(protocolName)'")
    }
    self.host = host
    self.protocolName = protocolName
    let nearby = (protocolName.flatMap { host.hostedProtocol($0) } ?? host.hosted.first)?.path ?? "./prompt"
    generation = host.makeGeneration(name: "prompt", path: ScriptFiles.directory(nearby) + "/prompt")
    generation.phase = .live
    face = PromptFace(host, generation, print)
    do {
      try start(readOnly: readOnly)
    } catch {
      close()
      guard let failure = error as? LuaFailure else { throw error }
      throw ScriptError(file: "", message: "no prompt: \(failure.message)")
    }
  }

  private func start(readOnly: Bool) throws {
    let vm = host.vm
    if host.observation.promptClass == nil { host.observation.promptClass = try vm.defineClass(PromptFace.luaClass) }
    try host.prepare(generation, arguments: nil)
    try host.giveState(to: generation, like: nil)
    guard let environment = generation.environment, let promptClass = host.observation.promptClass else { return }
    let session = try vm.makeObject(promptClass, face)
    defer { vm.release(session) }
    let module = try vm.module("p2pd", in: environment)
    defer { vm.release(module) }
    let library = try vm.makeEnvironment(directory: "")
    defer { vm.release(library) }
    let chunk = try vm.load(PromptLua.text, name: "[prompt]", environment: library)
    defer { vm.release(chunk) }
    let made = try vm.callNow(chunk, [.ref(session), .bool(readOnly), .ref(environment), .ref(module)])
    host.afterRun()
    guard let table = made.first, let enter = table["enter"].ref, let show = table["show"].ref,
      let complete = table["complete"].ref
    else { throw LuaFailure(message: "the prompt's own code is damaged") }
    functions = (enter, show, complete)
  }

  // MARK: Lines

  /// A line runs, so the next one has to wait.
  public var isBusy: Bool { run != nil }

  /// Runs a chunk. An expression gives its value, as in lua.c.
  /// - Parameters:
  ///   - quoted: strings among the values are shown as Lua writes them.
  ///   - partial: the chunk may go on in a line to come; else an unfinished one has failed.
  ///   - then: called once, on the loop.
  public func evaluate(_ code: String, quoted: Bool, partial: Bool, then: @escaping (Outcome) -> Void) {
    guard !isClosed, run == nil else {
      return then(.failed(message: isClosed ? "the prompt is closed" : "a line is running already", traceback: ""))
    }
    host.whenIdle {
      do {
        guard let chunk = try self.compile(code, partial: partial) else { return then(.incomplete) }
        self.start(chunk, quoted: quoted, then)
      } catch {
        then(.failed(message: (error as? LuaFailure)?.message ?? "\(error)", traceback: ""))
      }
    }
  }

  private func start(_ chunk: LuaRef, quoted: Bool, _ then: @escaping (Outcome) -> Void) {
    guard let show = functions?.show else { return host.vm.release(chunk) }
    let run = PromptRun(generation, show: show, quoted: quoted) { [weak self] outcome in
      self?.run = nil
      then(outcome)
    }
    self.run = run
    run.start(chunk)
  }

  /// Ends the line that runs: its present wait, or its next one, fails with "cancelled".
  public func interrupt() { run?.interrupt() }

  /// nil: more is needed.
  private func compile(_ code: String, partial: Bool) throws -> LuaRef? {
    let environment = try environment()
    let vm = host.vm
    if let chunk = try? vm.load("return " + code, name: Self.chunkName, environment: environment) { return chunk }
    do {
      return try vm.load(code, name: Self.chunkName, environment: environment)
    } catch {
      // What lua.c goes by, too.
      if partial, error.kind == .syntax, error.message.hasSuffix("<eof>") { return nil }
      throw error
    }
  }

  /// The environment of the next line: a reload may have put new globals behind the protocol's name.
  private func environment() throws -> LuaRef {
    let vm = host.vm
    let looked = protocolName.flatMap { host.hostedProtocol($0)?.current }
    let id = looked?.id ?? generation.id
    if let entered, entered.generation == id { return entered.environment }
    guard let enter = functions?.enter else { throw LuaFailure(message: "the prompt is closed") }
    var arguments: [LuaValue] = []
    var module: LuaRef?
    defer { if let module { vm.release(module) } }
    if let base = looked?.environment {
      let found = try vm.module("p2pd", in: base)
      module = found
      arguments = [.ref(base), .ref(found)]
    }
    guard let environment = try vm.callNow(enter, arguments, tablesAsRefs: true).first?.ref else {
      throw LuaFailure(message: "the prompt has no environment")
    }
    host.afterRun()
    if let entered { vm.release(entered.environment) }
    entered = (id, environment)
    return environment
  }

  // MARK: Completion

  /// The names that could stand where the text ends, and how many letters of them are typed already.
  public func complete(_ text: String) -> (names: [String], typed: Int) {
    guard !isClosed, !host.vm.isRunning, let functions, let place = CompletionPlace(text) else { return ([], 0) }
    guard (try? environment()) != nil else { return ([], 0) }
    let path = LuaValue.list(
      place.path.map { step in
        switch step {
        case .name(let name): .string(name)
        case .index(let index): .int(index)
        }
      })
    let base: LuaValue =
      protocolName.flatMap { host.hostedProtocol($0)?.current.environment }.map { .ref($0) } ?? .nil
    guard let found = try? host.vm.callNow(functions.complete, [base, path, .bool(place.isMethod)]) else {
      return ([], place.typed.utf8.count)
    }
    host.afterRun()
    var names: Set<String> = []
    if case .table(let pairs)? = found.first {
      for pair in pairs { if let name = pair.value.text { names.insert(name) } }
    }
    if found.count > 1, let className = found[1].text {
      for member in API.members(of: className) where !place.isMethod || member.kind == .method {
        names.insert(member.name)
      }
    }
    if place.path.isEmpty { names.formUnion(CompletionPlace.keywords) }
    if case [.name("p2pd")] = place.path { names.formUnion(API.moduleNames) }
    let fitting = names.filter { $0.hasPrefix(place.typed) && CompletionPlace.isName($0) }.sorted()
    return (Array(fitting.prefix(Self.mostNames)), place.typed.utf8.count)
  }

  // MARK: The end

  /// Ends the line that runs and what the lines have started.
  public func close() {
    guard !isClosed else { return }
    isClosed = true
    interrupt()
    generation.isEnding = true
    generation.cancelTimers()
    generation.cancelTasks("the prompt was closed")
    let (host, generation) = (host, generation)
    // Cancelled tasks run their <close> handlers first.
    host.loop.assumeIsolated().execute {
      host.whenIdle {
        for ref in [self.functions?.enter, self.functions?.show, self.functions?.complete, self.entered?.environment] {
          if let ref { host.vm.release(ref) }
        }
        (self.functions, self.entered) = (nil, nil)
        generation.retire("the prompt was closed")
        host.drop(generation)
      }
    }
  }

  private static let chunkName = "prompt"
  private static let mostNames = 200
}

/// One line of a prompt on its way: the chunk runs, then its values are made text, each as a task.
private final class PromptRun: TaskOwner {
  private let host: ScriptHost
  private let generation: Generation
  private let show: LuaRef
  private let quoted: Bool
  private var done: ((Prompt.Outcome) -> Void)?
  private var tag: UInt64 = 0
  private var task: LuaTask = 0
  private var isShowing = false
  private var isInterrupted = false

  init(_ generation: Generation, show: LuaRef, quoted: Bool, _ done: @escaping (Prompt.Outcome) -> Void) {
    self.generation = generation
    host = generation.host
    self.show = show
    self.quoted = quoted
    self.done = done
    super.init()
    tag = host.register(self)
  }

  /// Takes the chunk over.
  func start(_ chunk: LuaRef) {
    begin(chunk, [])
    host.vm.release(chunk)
    host.afterRun()
  }

  private func begin(_ function: LuaRef, _ arguments: [LuaValue]) {
    let status = host.vm.start(function, arguments: arguments, tag: tag, wantsResults: true, tablesAsRefs: true)
    if status == .waiting, done != nil { task = host.vm.lastTask }
  }

  override var origin: Generation? { generation }

  /// A line that does not let go, whatever its waits say, is ended by force.
  func interrupt() {
    isInterrupted = true
    guard task != 0 else { return }
    let task = task
    host.vm.cancel(task, reason: "interrupted")
    host.loop.assumeIsolated().scheduleTask(in: Self.patience) {
      if self.done != nil, !self.host.isClosed { self.host.vm.kill(task, reason: "interrupted") }
    }
  }

  private static let patience = TimeAmount.milliseconds(500)

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    self.task = 0
    switch result {
    case .failure(let failure):
      if isInterrupted, case .cancelled = failure.kind { return end(.failed(message: "interrupted", traceback: "")) }
      end(.failed(message: failure.message, traceback: failure.traceback))
    case .success(let values) where isShowing: end(.values(values.first?.text ?? ""))
    case .success(let values) where values.isEmpty: end(.values(""))
    case .success(let values):
      isShowing = true
      // The VM is still on its way out of the chunk's task.
      host.loop.assumeIsolated().execute {
        self.host.whenIdle {
          self.begin(self.show, [.bool(self.quoted)] + values)
          for value in values { if let ref = value.ref { self.host.vm.release(ref) } }
          self.host.afterRun()
        }
      }
    }
  }

  private func end(_ outcome: Prompt.Outcome) {
    guard let done else { return }
    self.done = nil
    host.unregister(tag)
    done(outcome)
  }
}
