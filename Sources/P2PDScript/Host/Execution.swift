import Glibc
import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

extension ScriptHost {
  /// Runs a script as one task, which may wait.
  /// - Returns: the exit status: the number it returned, 0 for true and nothing, 1 for false, what it gave `os.exit`, 1
  ///   after an error (its traceback goes to the log), 130 after ``interrupt(_:)``. Pipes, nodes, timers and tasks
  ///   the script left behind have ended then, and what it printed is out; an interrupted one waits for its reader no
  ///   longer than a second.
  public func exec(_ path: String, arguments: [String]) async -> Int32 {
    let done = loop.makePromise(of: Int32.self)
    loop.execute {
      self.startExecution(path, arguments) { status in
        self.whenWritten(atMost: status == 130 ? .seconds(1) : nil) { done.succeed(status) }
      }
    }
    return (try? await done.futureResult.get()) ?? 1
  }

  private func whenWritten(atMost time: TimeAmount?, _ then: @escaping () -> Void) {
    let written = loop.makePromise(of: Void.self)
    let limit = time.map { loop.assumeIsolated().scheduleTask(in: $0) { written.succeed() } }
    output.whenWritten { written.succeed() }
    written.futureResult.assumeIsolated().whenComplete { _ in
      limit?.cancel()
      then()
    }
  }

  /// SIGINT: the script's waits fail with an error that begins with `cancelled`, then ``exec(_:arguments:)`` returns.
  public func interrupt(_ reason: String = "interrupted") async {
    await onLoop { $0.execution?.interrupt(reason) }
  }

  private func startExecution(_ path: String, _ arguments: [String], _ done: @escaping (Int32) -> Void) {
    guard execution == nil, !isClosed else { return done(1) }
    let generation = makeGeneration(name: ScriptFiles.baseName(path), path: path)
    generation.phase = .live
    do {
      let source = try ScriptFiles.read(path)
      try prepare(generation, arguments: arguments)
      try giveState(to: generation, like: nil)
      let chunk = try vm.load(source, name: path, environment: generation.environment)
      let execution = Execution(generation, done)
      self.execution = execution
      execution.start(chunk, arguments)
    } catch {
      let shown = (error as? LuaFailure).map { ScriptError(file: path, $0).description } ?? "\(error)"
      generation.logger.error("\(shown)")
      drop(generation)
      done(1)
    }
  }

  private var output: any ScriptOutput { options.output ?? StandardOutput.shared }

  /// A line a script printed, without its end.
  func printed(_ line: UnsafeRawBufferPointer, tag: String) {
    guard let id = Int64(tag), let generation = generations[id] else { return }
    guard execution?.generation === generation else {
      return generation.logger.info("\(String(decoding: line, as: UTF8.self))")
    }
    output.put(Array(line) + [UInt8(ascii: "\n")])
  }

  /// What `print` of an exec script does after each line: waits while nobody reads what was printed. Where nothing can
  /// wait, such as in a callback of `table.sort`, it goes on.
  func awaitOutput(_ call: borrowing LuaCall) -> LuaReturn {
    guard output.isFull, call.canWait else { return .none }
    let waiter = wait(call.wait)
    let room = loop.makePromise(of: Void.self)
    output.whenRoom { room.succeed() }
    room.futureResult.assumeIsolated().whenComplete { _ in waiter.finish([]) }
    return .wait
  }

  /// `os.exit(code)`
  func exited(_ code: Int) {
    guard let execution else {
      return logger.warning("os.exit(\(code)): a handler cannot end the node; its task is stopped")
    }
    execution.exit(Int32(truncatingIfNeeded: code))
  }
}

/// One run of an exec script. Confined to the host's loop.
final class Execution: TaskOwner {
  let generation: Generation
  private unowned let host: ScriptHost
  private let done: (Int32) -> Void
  private var tag: UInt64 = 0
  private var task: LuaTask = 0
  private var status: Int32?
  private var interrupted = false
  private var hasToldServers = false

  init(_ generation: Generation, _ done: @escaping (Int32) -> Void) {
    self.generation = generation
    self.done = done
    host = generation.host
    super.init()
    tag = host.register(self)
  }

  override var origin: Generation? { generation }

  func start(_ chunk: LuaRef, _ arguments: [String]) {
    defer { host.vm.release(chunk) }
    do {
      task = try host.vm.spawn(chunk, arguments.map { .string($0) }, tag: tag, wantsResults: true)
    } catch {
      taskEnded(0, result: .failure(error), late: false)
    }
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    switch result {
    case .success(let values): finish(Self.status(values.first ?? .nil))
    case .failure(let failure):
      if case .cancelled = failure.kind {
        finish(interrupted ? 130 : status ?? 1)
      } else {
        generation.report(failure, pipe: nil, in: generation.path)
        finish(1)
      }
    }
  }

  private static func status(_ value: LuaValue) -> Int32 {
    switch value {
    case .bool(let good): good ? 0 : 1
    case .int(let number): Int32(truncatingIfNeeded: number & 0xff)
    case .number(let number): Int32(exactly: number).map { $0 & 0xff } ?? 1
    default: 0
    }
  }

  /// Says once which servers that nobody has named the script's nodes contact.
  func tellServers(of configuration: NodeConfiguration) {
    let known = Set(ServerList.publicServers.all)
    let servers = configuration.offline ? [] : configuration.effective.servers.all.filter { known.contains($0) }
    guard !hasToldServers, !servers.isEmpty else { return }
    hasToldServers = true
    generation.logger.notice(
      "its nodes may contact public servers (--offline: none, --servers FILE: others)",
      metadata: ["servers": "\(servers.map(\.description).joined(separator: ", "))"])
  }

  func exit(_ code: Int32) { finish(code & 0xff) }

  func interrupt(_ reason: String) {
    interrupted = true
    if task != 0 { _ = host.vm.cancel(task, reason: reason) } else { finish(130) }
  }

  /// The script is over: end what it left behind, then say so.
  private func finish(_ code: Int32) {
    guard status == nil else { return }
    status = code
    let running = task
    host.whenIdle {
      if running != 0 { self.host.vm.cancel(running, reason: "the script has ended") }
      self.host.wind(down: [self.generation], deadline: Self.windDown, reason: "the script has ended") {
        self.host.unregister(self.tag)
        self.tag = 0
        self.host.execution = nil
        self.host.drop(self.generation)
        self.done(code)
      }
    }
  }

  /// What queued data and `end_cb`s get.
  private static let windDown = TimeAmount.seconds(5)
}
