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
  ///   the script left behind have ended then.
  public func exec(_ path: String, arguments: [String]) async -> Int32 {
    let done = loop.makePromise(of: Int32.self)
    loop.execute { self.startExecution(path, arguments) { done.succeed($0) } }
    return (try? await done.futureResult.get()) ?? 1
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

  /// A line a script printed.
  func printed(_ text: String, tag: String) {
    guard let id = Int64(tag), let generation = generations[id] else { return }
    guard execution?.generation === generation else { return generation.logger.info("\(text)") }
    if let output = options.output { return output(text) }
    var line = Array(text.utf8)
    line.append(0x0a)
    ScriptFiles.writeToStandardOutput(line)
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
