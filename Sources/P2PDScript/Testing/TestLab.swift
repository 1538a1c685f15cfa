import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// The laboratory of one test file: its simulated network, the VM of the test itself, and the nodes its tests make. Confined
/// to the world's thread.
final class TestLab: @unchecked Sendable {
  let network: MemoryNetwork
  /// The VM of the test file, on the host `test`.
  let host: ScriptHost
  let generation: Generation
  let options: TestOptions
  let log = TestLog()
  private let ownHost: MemoryHost
  private var nodes: [LabNode] = []
  private var nodeCount: [String: Int] = [:]
  private(set) var client: NodeFace?
  private var errors: [TestError] = []
  private var started: NIODeadline
  private var ownFolder: TestFolder?

  // The step that runs now.
  private var running: LuaTask = 0
  var wasCancelled = false
  private(set) var lastCancel: String?
  /// What was there before the test.
  private var base = Holdings()
  /// A test runs: nodes may be made.
  private(set) var isOpen = false

  /// A handler that a test hosts, or a bare node.
  struct LabNode: @unchecked Sendable {
    let face: NodeFace
    let place: MemoryHost
    /// The VM of a handler's file.
    let script: ScriptHost?
    let path: String?
    /// Tasks and timers it had when it was ready.
    var base: (tasks: Int, timers: Int) = (0, 0)
  }

  /// Something failed where no test looks: in a callback, a timer, a task.
  struct TestError {
    let node: String
    let place: String
    let message: String
    let trace: [String]
    var description: String { node.isEmpty ? "\(place) failed: \(message)" : "\(place) of \(node) failed: \(message)" }
  }

  static func firstLoop(_ time: VirtualTime, seed: UInt64) -> VirtualLoop {
    MemoryNetwork(time, seed: seed).addHost("test").loop
  }

  init(_ path: String, _ options: TestOptions, _ loop: VirtualLoop, printed: @escaping (String) -> Void) throws {
    guard let first = loop.network as? MemoryHost else {
      throw NetError(.unsupported, "run tests", cause: "not the loop of a simulated host")
    }
    self.options = options
    ownHost = first
    network = first.network
    started = network.time.now
    host = try ScriptHost(loop: loop, options: Self.scriptOptions(options, path), logger: log.logger("", network.time))
    generation = host.makeGeneration(name: ScriptFiles.baseName(path), path: path)
    generation.phase = .live
    try host.vm.defineModule(
      TestPrelude.moduleName, functions: [], hidden: labFunctions, prelude: TestPrelude.text)
    host.vm.onPrint = { _, line in printed(String(decoding: line, as: UTF8.self)) }
    host.onFailure = { [unowned self] in note($1, $2, node: "") }
    if options.traces { network.onEvent = { [log] in log.add("net: \($0)") } }
  }

  /// Time slices would make the order of things depend on the machine.
  static func scriptOptions(_ options: TestOptions, _ path: String) -> ScriptOptions {
    var script = options.script
    script.limits.slice = script.limits.runTime
    script.errorsPerSecond = 1000
    script.reload.readsOnLoop = true
    script.nodeDefaults.ephemeral = true
    script.nodeDefaults.offline = true
    script.nodeDefaults.port = 0
    script.nodeDefaults.names.table = NameTable()
    let folder = ScriptFiles.directory(path)
    // Tests lie beside what they test, or in a folder below it.
    script.moduleDirectories = [folder, folder + "/.."] + script.moduleDirectories
    return script
  }

  // MARK: A test begins and ends

  /// Seconds since the test began.
  var now: Double { (network.time.now - started).inSeconds }

  /// What the file itself made at its top level stays.
  func markBase() { base = Holdings(generation) }

  /// A fresh world.
  func begin(seed: UInt64, test: String) {
    base = Holdings(generation)
    isOpen = true
    started = network.time.now
    log.start(network.time.now)
    // The luck of a test depends on its name, not on which tests ran before.
    network.reset(
      seed: test.utf8.reduce(seed ^ 0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }, keeping: ownHost)
    (nodeCount, client) = ([:], nil)
    host.options.nodeDefaults.names.table?.removeAll()
  }

  /// Closes what the test made, and tells what it left behind.
  func finish() async -> [String] {
    isOpen = false
    var leaks = leakedPipes()
    let mine = nodes
    nodes = []
    client = nil
    for node in mine where node.script == nil { await end(node) }
    await pause(Self.settling)
    for node in mine {
      guard let script = node.script else { continue }
      leaks += leftovers(node, script)
      await end(node)
    }
    leaks += endLeftovers()
    ownFolder?.remove()
    ownFolder = nil
    return leaks
  }

  func end(_ node: LabNode) async {
    try? await node.face.close(flush: Self.flushTime).get()
    await node.script?.shutdown(deadline: Self.flushTime)
  }

  /// After the last test.
  func close() async {
    await withCheckedContinuation { done in
      host.wind(down: [generation], deadline: Self.flushTime, reason: "the tests are over") {
        self.host.close()
        done.resume()
      }
    }
    network.reset(seed: 0)
  }

  /// Waits in virtual time.
  func pause(_ time: TimeAmount) async {
    await withCheckedContinuation { done in _ = after(time) { done.resume() } }
  }

  func after(_ time: TimeAmount, _ body: @escaping () -> Void) -> Scheduled<Void> {
    host.loop.assumeIsolated().scheduleTask(in: time, body)
  }

  // MARK: Leaks

  /// What a generation holds, by identity.
  private struct Holdings {
    var all: Set<ObjectIdentifier> = []
    init() {}
    init(_ generation: Generation) {
      all = Set(generation.timers.keys).union(generation.tasks.keys).union(generation.pipes.keys)
        .union(generation.nodes.keys)
    }
  }

  private func leakedPipes() -> [String] {
    let left = generation.openPipes.filter { !base.all.contains(ObjectIdentifier($0)) && $0.pipe.isOpen }
    let known = Set(nodes.flatMap { $0.face.openPipes }.map { $0.pipe.id })
    let leaked = left.filter { !known.contains($0.pipe.id) }.sorted { $0.pipe.id < $1.pipe.id }
    for face in leaked { _ = face.pipe.close(flush: .zero) }
    return leaked.map { "a pipe of the test is still open: \($0.description)" }
  }

  /// What the handler of a node still runs though all its peers are gone.
  private func leftovers(_ node: LabNode, _ script: ScriptHost) -> [String] {
    let now = script.holdings
    var lines: [String] = []
    let name = node.path ?? node.place.name
    if now.tasks > node.base.tasks {
      lines.append("\(name): \(now.tasks - node.base.tasks) task(s) go on after all pipes are gone")
    }
    if now.timers > node.base.timers {
      lines.append("\(name): \(now.timers - node.base.timers) timer(s) go on after all pipes are gone")
    }
    return lines
  }

  private func endLeftovers() -> [String] {
    var lines: [String] = []
    let tasks = generation.tasks.filter { !base.all.contains($0.key) }
    let timers = generation.timers.filter { !base.all.contains($0.key) }
    if !tasks.isEmpty { lines.append("\(tasks.count) task(s) of the test still run: join or cancel what spawn gives") }
    if !timers.isEmpty {
      lines.append("\(timers.count) timer(s) of the test still run: cancel what every and after give")
    }
    for task in tasks.values { task.cancel(reason: "the test is over") }
    for timer in timers.values { timer.cancel() }
    for node in generation.openNodes where !base.all.contains(ObjectIdentifier(node)) { node.close(flush: .zero) }
    return lines
  }

  // MARK: Tasks

  /// Runs a Lua function as a task and waits for its end.
  func runTask(_ function: LuaRef, _ arguments: [LuaValue]) async -> Result<[LuaValue], LuaFailure> {
    let result = await withCheckedContinuation { done in
      let owner = TestTask(generation) { done.resume(returning: $0) }
      do throws(LuaFailure) {
        running = try host.vm.spawn(function, arguments, tag: owner.tag, wantsResults: true)
      } catch {
        owner.taskEnded(0, result: .failure(error), late: false)
      }
    }
    running = 0
    return result
  }

  func cancelRunning(_ reason: String) {
    guard running != 0 else { return }
    wasCancelled = true
    lastCancel = reason
    host.vm.cancel(running, reason: reason)
  }

  // MARK: Nodes

  /// A simulated host of its own for each node, called as the test says, or `a`, `b`, ...
  func addHost(_ name: String?) -> MemoryHost {
    let base = name ?? "node"
    let count = (nodeCount[base] ?? 0) + 1
    nodeCount[base] = count
    return network.addHost(count == 1 && name != nil ? base : "\(base)\(count)")
  }

  func add(_ node: LabNode) { nodes.append(node) }
  /// The node that was made last.
  var lastFace: NodeFace? { nodes.last?.face }

  func setClient(_ face: NodeFace) { client = face }
  func labNode(_ face: NodeFace) -> LabNode? { nodes.first { $0.face === face } }

  // MARK: Errors

  func note(_ failure: LuaFailure, _ place: String, node: String) {
    errors.append(TestError(node: node, place: place, message: failure.message, trace: failure.scriptLines))
  }

  func takeErrors() -> [TestError] {
    defer { errors = [] }
    return errors
  }

  func takeLog() -> [String] { log.take() }

  // MARK: Files

  /// A folder for this test's files, made at first use.
  func folder() throws -> TestFolder {
    if let ownFolder { return ownFolder }
    let made = try TestFolder()
    ownFolder = made
    return made
  }

  private static let flushTime = TimeAmount.seconds(2)
  /// What the last goodbyes may take.
  private static let settling = TimeAmount.seconds(1)
}

/// Hears of the end of a step.
private final class TestTask: TaskOwner {
  private let generation: Generation
  private var ended: ((Result<[LuaValue], LuaFailure>) -> Void)?
  private(set) var tag: UInt64 = 0

  init(_ generation: Generation, _ ended: @escaping (Result<[LuaValue], LuaFailure>) -> Void) {
    self.generation = generation
    self.ended = ended
    super.init()
    tag = generation.host.register(self)
  }

  override var origin: Generation? { generation }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    generation.host.unregister(tag)
    let ended = ended
    self.ended = nil
    ended?(result)
  }
}
