import LuaVM
import NIOCore

/// Makes a generation out of its file without a word to the world: compile, run the top level, look at what it returned,
/// ask `M.check`. Other tasks run meanwhile; the time and memory limits hold. To undo it, the generation is dropped.
final class Staging {
  private let generation: Generation
  private let host: ScriptHost
  /// Seconds.
  private(set) var stageTime = 0.0
  private(set) var checkTime = 0.0
  /// The longest the loop did nothing else.
  private(set) var pause = 0.0

  init(_ generation: Generation) {
    self.generation = generation
    host = generation.host
  }

  /// - Parameter prepare: asked between the top level and `M.check`, with what opens servers and may fail.
  /// - Returns: to `then`, the protocol's name.
  func run(
    prepare: @escaping (@escaping (ScriptError?) -> Void) -> Void = { $0(nil) },
    then: @escaping (Result<String, ScriptError>) -> Void
  ) {
    let watch = Stopwatch()
    let path = generation.path
    do {
      guard let source = try generation.sources.read(path) else {
        _ = try ScriptFiles.read(path)
        throw ScriptError(file: path, message: "\(path): cannot be opened: No such file or directory")
      }
      try host.prepare(generation, arguments: nil)
      guard let doors = host.doors, let environment = generation.environment else {
        throw ScriptError(file: path, message: "\(path): the script host is closed")
      }
      let compile = Stopwatch()
      let chunk = try host.vm.load(source, name: path, environment: environment)
      pause = max(pause, compile.seconds)
      defer { host.vm.release(chunk) }
      StagedCall.run(doors.runHandler, [.ref(chunk), .string(generation.name)], generation) { result in
        self.stageTime = watch.seconds
        self.check(result, prepare: prepare, then: then)
      }
    } catch {
      stageTime = watch.seconds
      then(.failure(ScriptError(error, in: path)))
    }
  }

  private func check(
    _ result: Result<[LuaValue], LuaFailure>, prepare: (@escaping (ScriptError?) -> Void) -> Void,
    then: @escaping (Result<String, ScriptError>) -> Void
  ) {
    let watch = Stopwatch()
    do {
      var shape: [(key: LuaValue, value: LuaValue)] = []
      if case .table(let pairs)? = try result.get().first { shape = pairs }
      let name = try HandlerShape(path: generation.path, shape).apply(to: generation)
      prepare { failure in
        if let failure {
          self.checkTime = watch.seconds
          return then(.failure(failure))
        }
        self.askScript { failure in
          self.checkTime = watch.seconds
          then(failure.map { .failure($0) } ?? .success(name))
        }
      }
    } catch {
      checkTime = watch.seconds
      then(.failure(ScriptError(error, in: generation.path)))
    }
  }

  /// `M.check()`
  private func askScript(then: @escaping (ScriptError?) -> Void) {
    guard let callback = generation.checkCallback, let doors = host.doors else { return then(nil) }
    let path = generation.path
    StagedCall.run(doors.check, [.ref(callback)], generation) { result in
      switch result {
      case .failure(let failure): then(ScriptError(failure, in: path))
      case .success(let values):
        then(values.first?.text.map { ScriptError(file: path, message: "\(path): the check failed: \($0)") })
      }
    }
  }
}

/// One call of a generation that does not serve yet: its top level, `check`, `migrate`. It is sliced and stopped as any
/// other task, but nothing in it can wait.
final class StagedCall: TaskOwner {
  private let generation: Generation
  private let then: (Result<[LuaValue], LuaFailure>) -> Void
  private var tag: UInt64 = 0
  private var task: LuaTask = 0

  private init(_ generation: Generation, _ then: @escaping (Result<[LuaValue], LuaFailure>) -> Void) {
    self.generation = generation
    self.then = then
  }

  override var origin: Generation? { generation }

  static func run(
    _ function: LuaRef, _ arguments: [LuaValue], _ generation: Generation, tablesAsRefs: Bool = false,
    then: @escaping (Result<[LuaValue], LuaFailure>) -> Void
  ) {
    let host = generation.host
    let call = StagedCall(generation, then)
    guard !host.isClosed else { return then(.failure(.cancelled("the node ends"))) }
    call.tag = host.register(call)
    host.stagedCalls[ObjectIdentifier(call)] = call
    do {
      call.task = try host.vm.spawn(
        function, arguments, tag: call.tag, wantsResults: true, tablesAsRefs: tablesAsRefs, noWait: noWait)
    } catch {
      call.end(.failure(error))
    }
  }

  /// Stops it.
  func kill(_ reason: String) { generation.host.vm.kill(task, reason: reason) }

  /// The VM is gone, and with it the task.
  func abandon() { end(.failure(.cancelled("the node ends"))) }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    // Not from within the VM's round of ready tasks.
    let host = generation.host
    host.loop.assumeIsolated().execute { self.end(result) }
  }

  private func end(_ result: Result<[LuaValue], LuaFailure>) {
    let host = generation.host
    guard host.stagedCalls.removeValue(forKey: ObjectIdentifier(self)) != nil else { return }
    host.unregister(tag)
    then(result)
  }

  private static let noWait =
    "the top level of a handler file cannot wait (nor can check and migrate): move it into 'function M.start()'"
}

/// Measures how long something takes. Not for deciding anything: time that decides comes from the loop.
struct Stopwatch {
  private let start = ContinuousClock.now
  var seconds: Double {
    let passed = ContinuousClock.now - start
    return Double(passed.components.seconds) + Double(passed.components.attoseconds) / 1e18
  }
}

extension ScriptError {
  /// Whatever went wrong, as a script's fault.
  init(_ error: any Error, in path: String) {
    switch error {
    case let known as ScriptError: self = known
    case let failure as LuaFailure: self.init(file: path, failure)
    default: self.init(file: path, message: "\(path): \(error)")
    }
  }
}
