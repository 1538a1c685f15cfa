import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode
import P2PDTraversal

/// One Lua VM with the scripts it runs, on one event loop, with every pipe they serve.
///
/// The public doors may be called from anywhere; everything else is confined to the event loop.
public final class ScriptHost: @unchecked Sendable {
  let loop: any EventLoop
  let options: ScriptOptions
  let logger: Logger
  let vm: LuaVM
  let classes: ScriptClasses

  var generations: [Int64: Generation] = [:]
  /// The protocols, in the order of the command line.
  var hosted: [HostedProtocol] = []
  /// Files that came into a hosted folder and could not be loaded yet, by path: what they were made of.
  var pending: [String: SourceReader] = [:]
  /// The node that hosts them, once there is one.
  var node: Node?
  var execution: Execution?
  /// The prelude's functions for Swift, from the first environment on.
  var doors: Doors?
  /// Calls of generations that do not serve yet.
  var stagedCalls: [ObjectIdentifier: StagedCall] = [:]
  var trackedListeners: [@Sendable () -> Void] = []
  private var isTellingOfFiles = false
  var reloadListeners: [@Sendable (ReloadReport) -> Void] = []
  /// Generations that have ended and whose Lua side has not been collected yet.
  var uncollected: [Int64: GenerationInfo] = [:]
  /// By generation, while Lua has anything of it.
  var notices: [Int64: WeakNotice] = [:]
  var isCollecting = false
  /// What `load_nat` found out.
  var natReports: [NATKey: NATReport] = [:]
  /// Set by a check: what a script does at its top level beyond registering.
  var isChecking = false
  private var lastGeneration: Int64 = 0
  private(set) var isClosed = false
  /// What is asked when a callback or pipe has ended: orderly ends that wait for the last one.
  var quietChecks: [Int: () -> Bool] = [:]
  var quietTickets = 0
  var isShuttingDown = false
  var shutdownWaiters: [() -> Void] = []

  // Tasks: who hears of a task's end is found by its tag.
  private var owners: [TaskOwner?] = [nil]
  private var freeTags: [Int] = []
  var waits: [LuaWait: Waiter] = [:]
  private var deferred: [() -> Void] = []
  private var isDraining = false
  private var isRunReadyScheduled = false
  /// Told of every failure of a callback or task that is logged: the tests count them.
  var onFailure: ((Generation, LuaFailure, String) -> Void)?
  /// Puts something between a node's pipe and the script: the tests' reload before each message.
  var wrapSink: ((PipeFace) -> any PipeSink)?
  // What looks on from outside (Inspect).
  var observation = Observation()

  /// Bytes on loan to Lua until the next call: the answer of a `recv` that did not wait.
  var loan: ByteBuffer?

  /// Makes the VM and its modules on the loop.
  public static func make(on loop: any EventLoop, options: ScriptOptions, logger: Logger) async throws -> ScriptHost {
    try await loop.submit { try ScriptHost(loop: loop, options: options, logger: logger) }.get()
  }

  init(loop: any EventLoop, options: ScriptOptions, logger: Logger) throws {
    loop.preconditionInEventLoop()
    self.loop = loop
    self.options = options
    self.logger = logger
    vm = try LuaVM(limits: options.limits, sandbox: options.sandbox)
    classes = try ScriptClasses(vm)
    vm.delegate = self
    try installBindings()
  }

  /// The protocols hosted now, in the order they came.
  public var protocols: [HostedProtocol] { get async { await onLoop { $0.hosted } } }

  public func statistics() async -> ScriptStatistics {
    await onLoop { host in
      var result = ScriptStatistics()
      result.memory = host.isClosed ? 0 : host.vm.memoryUsed
      for generation in host.generations.values {
        result.tasks += generation.tasks.count
        result.pipes += generation.pipes.count
        result.add(generation.counters)
      }
      for hosted in host.hosted { result.pipes += hosted.slot.pipes.count }
      result.add(host.past)
      return result
    }
  }

  func onLoop<T: Sendable>(_ body: @escaping @Sendable (ScriptHost) -> T) async -> T {
    let result = try? await loop.submit { body(self) }.get()
    // The loop only refuses work after its shutdown, and a host must not outlive its loop.
    guard let result else { preconditionFailure("the script host's event loop has ended") }
    return result
  }

  // MARK: Generations

  /// Counters of generations that are gone.
  private(set) var past = Generation.Counters()

  func makeGeneration(name: String, path: String, sources: SourceReader = SourceReader()) -> Generation {
    lastGeneration += 1
    let generation = Generation(id: lastGeneration, name: name, path: path, host: self, sources: sources)
    generations[lastGeneration] = generation
    sources.grew = { [weak self, weak generation] in
      if let generation, generation.phase != .loading { self?.trackedFilesGrew() }
    }
    return generation
  }

  func drop(_ generation: Generation) {
    guard generations.removeValue(forKey: generation.id) != nil else { return }
    past.messages &+= generation.counters.messages
    past.errors &+= generation.counters.errors
    generation.releaseReferences()
  }

  /// A script in service read a file that was not its own before.
  private func trackedFilesGrew() {
    guard !isTellingOfFiles, !trackedListeners.isEmpty else { return }
    isTellingOfFiles = true
    loop.assumeIsolated().execute {
      self.isTellingOfFiles = false
      for listener in self.trackedListeners { listener() }
    }
  }

  // MARK: Tasks

  /// A tag by which the end of a task finds its owner.
  func register(_ owner: TaskOwner) -> UInt64 {
    if let tag = freeTags.popLast() {
      owners[tag] = owner
      return UInt64(tag)
    }
    owners.append(owner)
    return UInt64(owners.count - 1)
  }

  func unregister(_ tag: UInt64) {
    guard tag != 0, Int(tag) < owners.count, owners[Int(tag)] != nil else { return }
    owners[Int(tag)] = nil
    freeTags.append(Int(tag))
  }

  func owner(of tag: UInt64) -> TaskOwner? { Int(tag) < owners.count ? owners[Int(tag)] : nil }

  // MARK: The VM is never entered twice

  /// Runs `action` now, or as soon as Lua is off the stack.
  func whenIdle(_ action: @escaping () -> Void) {
    guard !isClosed else { return }
    if vm.isRunning { deferred.append(action) } else { action() }
  }

  /// To be called after every entry into the VM: what the run asked for is done now.
  @inline(__always)
  func afterRun() {
    if !deferred.isEmpty { drain() }
  }

  private func drain() {
    guard !isDraining, !isClosed, !vm.isRunning else { return }
    isDraining = true
    while !deferred.isEmpty {
      let batch = deferred
      deferred.removeAll(keepingCapacity: true)
      for action in batch where !isClosed { action() }
    }
    isDraining = false
  }

  func close() {
    guard !isClosed else { return }
    for generation in Array(generations.values) { drop(generation) }
    isClosed = true
    let unfinished = stagedCalls.values
    for call in Array(unfinished) { call.abandon() }
    deferred = []
    waits = [:]
    vm.close()
    owners = []
    hosted = []
    pending = [:]
    node = nil
    doors = nil
    execution = nil
    (reloadListeners, trackedListeners) = ([], [])
  }
}

extension ScriptHost: LuaVMDelegate {
  public func luaTaskEnded(
    _ vm: LuaVM, task: LuaTask, tag: UInt64, result: Result<[LuaValue], LuaFailure>, late: Bool
  ) {
    owner(of: tag)?.taskEnded(task, result: result, late: late)
  }

  public func luaWaitAbandoned(_ vm: LuaVM, wait: LuaWait) { waits.removeValue(forKey: wait)?.abandon() }

  public func luaHasReadyTasks(_ vm: LuaVM) {
    guard !isRunReadyScheduled else { return }
    isRunReadyScheduled = true
    loop.assumeIsolated().execute {
      self.isRunReadyScheduled = false
      guard !self.isClosed else { return }
      self.vm.runReady(max: Self.readyPerTurn)
      self.afterRun()
    }
  }

  /// Between two rounds of ready tasks the loop serves its sockets.
  private static let readyPerTurn = 16
}
