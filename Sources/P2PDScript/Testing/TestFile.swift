import Logging
import LuaVM
import NIOCore
import P2PDNet

/// Runs the tests of one Lua file: the engine as it is, on simulated hosts, in a time of their own.
///
/// Every test gets a fresh network. The file's globals and modules last as long as the file, as busted has it; a node
/// made from a handler's path has a Lua VM of its own, as `p2pd-lua run` gives it.
public final class TestFile: @unchecked Sendable {
  private let path: String
  private let options: TestOptions
  private let listener: @Sendable (TestEvent) -> Void
  private let lab: TestLab
  private let guardian: RealTimeGuard
  private var functions: [LuaRef] = []

  /// Runs them and tells how each ended.
  /// - Throws: ``ScriptError`` where the file cannot be read, compiled or run.
  public static func run(
    _ path: String, options: TestOptions, listener: @escaping @Sendable (TestEvent) -> Void
  ) async throws {
    let time = try VirtualTime()
    defer { time.stop() }
    let loop = TestLab.firstLoop(time, seed: options.seed)
    try await loop.run {
      let file = try TestFile(path, options, loop, listener)
      let outcome = await file.runAll()
      await file.lab.close()
      try outcome.get()
    }.get()
  }

  /// Whether a file holds tests, by its name.
  public static func isTest(_ path: String) -> Bool { path.hasSuffix("_test.lua") || path.hasSuffix("_spec.lua") }

  /// Runs the file without its tests, and counts them.
  static func count(_ path: String, options: ScriptOptions) async throws -> Int {
    let time = try VirtualTime()
    defer { time.stop() }
    var all = TestOptions()
    all.script = options
    let (loop, chosen) = (TestLab.firstLoop(time, seed: 0), all)
    return try await loop.run {
      let file = try TestFile(path, chosen, loop) { _ in }
      let count: Result<Int, any Error>
      do {
        count = .success(try file.load().count)
      } catch let failure as LuaFailure {
        count = .failure(ScriptError(file: path, failure))
      } catch {
        count = .failure(error)
      }
      await file.lab.close()
      return try count.get()
    }.get()
  }

  private init(
    _ path: String, _ options: TestOptions, _ loop: VirtualLoop, _ listener: @escaping @Sendable (TestEvent) -> Void
  ) throws {
    self.path = path
    self.options = options
    self.listener = listener
    lab = try TestLab(path, options, loop) { listener(.printed($0)) }
    guardian = RealTimeGuard(seconds: options.realTimeout)
  }

  private func runAll() async -> Result<Void, any Error> {
    do {
      let cases = try load()
      let chosen = choose(cases)
      try call(.plan, [.list(chosen.map { .int(Int64($0 + 1)) })])
      for index in chosen { await run(cases[index], index + 1) }
      return .success(())
    } catch let failure as LuaFailure {
      return .failure(ScriptError(file: path, failure))
    } catch {
      return .failure(error)
    }
  }

  // MARK: The file

  /// The functions that the module leaves for Swift in its first fields.
  private enum Step: Int { case install, collect, plan, enter, body, leave, exit }

  private func load() throws -> [TestCase] {
    let host = lab.host
    let source = try ScriptFiles.read(path)
    let generation = lab.generation
    try host.prepare(generation, arguments: [])
    try host.giveState(to: generation, like: nil)
    guard let environment = generation.environment else { return [] }
    let module = try host.vm.module(TestPrelude.moduleName, in: environment)
    defer { host.vm.release(module) }
    for step in 1...7 {
      guard let function = try host.vm.field(module, .int(Int64(step))).ref else { return [] }
      functions.append(function)
    }
    try call(.install, [.ref(module), .ref(environment), .int(Int64(bitPattern: options.seed))])
    let chunk = try host.vm.load(source, name: path, environment: environment)
    defer { host.vm.release(chunk) }
    guard case .table(let list)? = try call(.collect, [.ref(chunk)]).first else { return [] }
    lab.markBase()
    return list.sequence.map { item in
      guard case .table(let names) = item["names"] else { return nil }
      return TestCase(
        file: path, names: names.sequence.map { $0.text ?? "" }, line: Int(item["line"].int ?? 0),
        isPending: item["pending"].bool ?? false)
    }.compactMap { $0 }
  }

  @discardableResult
  private func call(_ step: Step, _ arguments: [LuaValue]) throws -> [LuaValue] {
    defer { lab.host.afterRun() }
    return try lab.host.vm.callNow(functions[step.rawValue], arguments)
  }

  /// Those with the filter's text in their names; where it is nowhere, those that it matches as a pattern.
  private func choose(_ cases: [TestCase]) -> [Int] {
    guard let filter = options.filter, !filter.isEmpty else { return Array(cases.indices) }
    let plain = cases.indices.filter { cases[$0].fullName.contains(filter) }
    if !plain.isEmpty { return plain }
    return cases.indices.filter { index in
      let matches = Array(cases[index].fullName.utf8).withUnsafeBytes {
        try? LuaVM.patternMatches(Array(filter.utf8), $0, steps: Self.patternSteps)
      }
      return matches ?? false
    }
  }

  // MARK: One test

  private func run(_ test: TestCase, _ index: Int) async {
    listener(.began(test))
    var result = TestResult()
    if test.isPending {
      result.outcome = .pending
      return listener(.ended(test, result))
    }
    let began = ContinuousClock.now
    let watch = guardian.watch(test, options.onRunaway) { [lab] in
      lab.host.loop.execute { lab.cancelRunning("it took longer than \(self.options.realTimeout) s of real time") }
    }
    var problems = await step(.enter, index, "the setup")
    lab.begin(seed: options.seed, test: test.fullName)
    if problems.isEmpty { problems += await step(.body, index, "the test") }
    problems += await step(.leave, index, "its cleaning up")
    result.virtualSeconds = lab.now
    result.leaks = await lab.finish()
    problems += await step(.exit, index, "the teardown")
    problems += lab.takeErrors().map { TestProblem(message: $0.description, trace: $0.trace) }
    guardian.stop(watch)
    let isPending = problems.contains { $0.message == Self.pendingMark }
    result.problems = problems.filter { $0.message != Self.pendingMark }
    result.outcome = result.problems.isEmpty ? (isPending ? .pending : .passed) : .failed
    result.log = lab.takeLog()
    result.realSeconds = (ContinuousClock.now - began) / .seconds(1)
    listener(.ended(test, result))
  }

  /// Runs one step of a test as a task of its own, with a limit on its time.
  private func step(_ step: Step, _ index: Int, _ what: String) async -> [TestProblem] {
    let limit = options.timeout
    let timer = lab.after(TimeAmount(seconds: limit) ?? .hours(1)) {
      self.lab.cancelRunning("it took longer than \(limit) s")
    }
    let outcome = await lab.runTask(functions[step.rawValue], [.int(Int64(index))])
    timer.cancel()
    var problems: [TestProblem] = []
    switch outcome {
    case .success(let values):
      guard case .table(let list)? = values.first else { break }
      problems = list.sequence.map(Self.problem)
    case .failure(let failure):
      problems = [TestProblem(message: failure.message, trace: failure.scriptLines)]
    }
    if lab.wasCancelled {
      let place = problems.popLast()
      problems.append(
        TestProblem(
          message: "\(what) did not end: \(lab.lastCancel ?? ""); it waited here", trace: place?.trace ?? []))
    }
    lab.wasCancelled = false
    return problems
  }

  private static func problem(_ value: LuaValue) -> TestProblem {
    if value["pending"].bool == true { return TestProblem(message: pendingMark, trace: []) }
    var trace: [String] = []
    if case .table(let lines) = value["trace"] { trace = lines.sequence.compactMap(\.text) }
    return TestProblem(message: value["message"].text ?? "?", trace: trace)
  }

  private static let pendingMark = "\u{0}pending"
  private static let patternSteps = 100_000
}

extension LuaFailure {
  /// The lines of the traceback that are a script's.
  var scriptLines: [String] {
    let lines = traceback.split(separator: "\n").dropFirst().map { $0.trimmed }
    return lines.filter { $0.contains(": in ") && !$0.hasPrefix("[") }
  }
}

extension Substring {
  fileprivate var trimmed: String { String(drop { $0 == "\t" || $0 == " " }) }
}
