import ArgumentParser
import Glibc
import P2PDScript

struct TestCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "test", abstract: "Run tests of handlers in a simulated network.",
    usage: "p2pd-lua test [<options>] [<paths> ...]",
    discussion: """
      Runs the files that end in _test.lua or _spec.lua: those given, and those in
      the folders given and below them (default: the current one). The words are
      busted's: describe, it, assert.same. Nodes of a test live on simulated hosts,
      in a time that passes only while everything waits: local lab = require
      "p2pd.test" makes them and the network between them. No socket is opened.

      EXAMPLES
        p2pd-lua test
        p2pd-lua test handlers/chat_test.lua --filter "keeps rooms"
        p2pd-lua test --verbose --trace echo_test.lua

      EXIT STATUS
        0  all tests passed
        1  one failed, or there was none
      """)

  @Argument(help: "Test files, or folders of them.", completion: .file(extensions: ["lua"]))
  var paths: [String] = []

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Only tests whose full name has this text in it; where none has, those that it matches as a Lua pattern.",
      valueName: "pattern"))
  var filter: String?

  @Option(
    help: ArgumentHelp(
      "Seed of the network's luck and of math.random; a failing run prints its own.",
      discussion: "Default: another one each time", valueName: "number"))
  var seed: UInt64?

  @Option(
    help: ArgumentHelp("Longest a test may take on its own clock.", discussion: "Default: 3600", valueName: "seconds"))
  var timeout = 3600.0

  @Option(
    help: ArgumentHelp(
      "Longest a test may take on the clock on the wall.", discussion: "Default: 60", valueName: "seconds"))
  var realTimeout = 60.0

  @Flag(help: "Count a test that leaves pipes, tasks or timers behind as failed.")
  var strict = false

  @Flag(name: .shortAndLong, help: "Show every test, and what was logged during it.")
  var verbose = false

  @Flag(help: "The log tells what happens in the network; implies --verbose.")
  var trace = false

  @Flag(help: "Reload each handler, unchanged, before every message it gets: the results must be the same.")
  var reloadEveryMessage = false

  @Flag(help: "One line of JSON for each test, and one for the sums.")
  var json = false

  @OptionGroup(title: "Script options") var limits: ScriptLimitOptions

  func validate() throws {
    guard (0.001...1e9).contains(timeout) else { throw ValidationError("The timeout is given in seconds, above 0.") }
    guard (0.01...1e6).contains(realTimeout) else {
      throw ValidationError("The real timeout is given in seconds, above 0.")
    }
  }

  func run() async throws {
    var options = TestOptions()
    options.script = try limits.scriptOptions()
    // A test may compute for longer than a handler may hold up its peers.
    options.script.limits.runTime = max(options.script.limits.runTime, Self.runTime)
    options.filter = filter
    options.seed = seed ?? UInt64.random(in: 0...UInt64(UInt32.max))
    (options.timeout, options.realTimeout, options.traces) = (timeout, realTimeout, trace)
    options.reloadsEveryMessage = reloadEveryMessage
    let files = try TestFiles.find(paths.isEmpty ? ["."] : paths)
    let report = TestReport(
      style: json ? .json : verbose || trace ? .verbose : .short, strict: strict, seed: options.seed)
    options.onRunaway = { test in
      report.runaway(test)
      _exit(Exit.failed.rawValue)
    }
    for file in files {
      report.began(file)
      do {
        try await TestFile.run(file, options: options) { report.note($0) }
        report.ended(file, failure: nil)
      } catch {
        report.ended(file, failure: "\(error)")
      }
    }
    guard report.finish(filter: filter) else { throw Exit.failed }
  }

  /// Seconds.
  private static let runTime = 5.0
}

/// The test files below some paths.
enum TestFiles {
  /// - Throws: ``Failure`` where a path is missing or no test is found.
  static func find(_ paths: [String]) throws -> [String] {
    var found: [String] = []
    for path in paths {
      if Files.isDirectory(path) {
        found += inside(path == "." ? "" : path.hasSuffix("/") ? path : path + "/", depth: 0)
      } else {
        try ScriptPaths.mustExist(path)
        found.append(path)
      }
    }
    guard !found.isEmpty else {
      throw Failure(
        "no test was found in \(paths.joined(separator: ", "))",
        remedy:
          "Tests are files that end in _test.lua or _spec.lua; write a handler with one: \(Environment.program) new NAME"
      )
    }
    return found
  }

  private static func inside(_ prefix: String, depth: Int) -> [String] {
    guard depth < deepest else { return [] }
    let names = (Files.names(in: prefix.isEmpty ? "." : prefix) ?? []).filter { !$0.hasPrefix(".") }
    let files = names.filter { TestFile.isTest($0) && !Files.isDirectory(prefix + $0) }.map { prefix + $0 }
    return files
      + names.filter { Files.isDirectory(prefix + $0) }.flatMap { inside(prefix + $0 + "/", depth: depth + 1) }
  }

  /// A link may lead back up.
  private static let deepest = 16
}
