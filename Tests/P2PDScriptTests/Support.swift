import Foundation
import LuaVM
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import Synchronization
import Testing

@testable import P2PDScript

/// A script host on a loop of its own, with a folder for its files. What it prints and logs is kept.
final class Bench: Sendable {
  let host: ScriptHost
  let folder: URL
  let printed: Lines
  let logged: Lines

  /// Lines that came out of a script.
  final class Lines: ScriptOutput {
    private let lines = Mutex<[String]>([])
    private let waiting = Mutex<[(text: String, done: CheckedContinuation<Void, Never>)]>([])
    var all: [String] { lines.withLock { $0 } }
    var text: String { all.joined(separator: "\n") }

    func put(_ line: [UInt8]) { add(String(decoding: line.dropLast(), as: UTF8.self)) }

    func add(_ line: String) {
      lines.withLock { $0.append(line) }
      let ready = waiting.withLock { list in
        let found = list.filter { line.contains($0.text) }
        list.removeAll { line.contains($0.text) }
        return found
      }
      for waiter in ready { waiter.done.resume() }
    }

    /// Comes back when a line contains `text`. A test's time limit ends a wait in vain.
    func contains(_ text: String) async {
      await withCheckedContinuation { done in
        let isThere = waiting.withLock { list in
          if lines.withLock({ $0.contains { $0.contains(text) } }) { return true }
          list.append((text, done))
          return false
        }
        if isThere { done.resume() }
      }
    }
  }

  init(
    limits: LuaLimits = LuaLimits(), sandbox: Bool = false, errorsPerSecond: Int = 5,
    _ configure: (inout ScriptOptions) -> Void = { _ in }
  ) async throws {
    let (printed, logged) = (Lines(), Lines())
    (self.printed, self.logged) = (printed, logged)
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-script-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var options = ScriptOptions()
    options.limits = limits
    options.sandbox = sandbox
    options.errorsPerSecond = errorsPerSecond
    options.output = printed
    options.nodeDefaults = Bench.loopbackNode
    configure(&options)
    let logger = Logger(label: "test") { _ in Recorder(lines: logged) }
    host = try await ScriptHost.make(on: sharedLoop, options: options, logger: logger)
  }

  /// A node that nobody outside this host reaches.
  static var loopbackNode: NodeConfiguration {
    var configuration = NodeConfiguration()
    configuration.ephemeral = true
    configuration.offline = true
    configuration.port = 0
    configuration.listen = [.loopback(.v4)]
    return configuration
  }

  func write(_ name: String, _ text: String) throws -> String {
    let path = folder.appendingPathComponent(name).path
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  /// Runs a script as `exec` does. `p2pd` is required already.
  func exec(_ text: String, arguments: [String] = []) async throws -> Int32 {
    let path = try write("script.lua", "local p2pd = require 'p2pd'\n" + text)
    return await host.exec(path, arguments: arguments)
  }

  /// Runs a script and gives what it printed; an error in it fails the test.
  func output(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
    let status = try await exec(text)
    #expect(status == 0, "the script failed: \(logged.text)", sourceLocation: sourceLocation)
    return printed.text
  }

  func end() async {
    await host.shutdown(deadline: .seconds(2))
    try? FileManager.default.removeItem(at: folder)
  }
}

/// Runs a test with a bench that is put away afterwards.
func withBench(
  limits: LuaLimits = LuaLimits(), sandbox: Bool = false, errorsPerSecond: Int = 5, _ body: (Bench) async throws -> Void
) async throws {
  let bench = try await Bench(limits: limits, sandbox: sandbox, errorsPerSecond: errorsPerSecond)
  try await run({ try await body(bench) }, then: bench.end)
}

/// Runs a test, and puts away what it used however it ended.
func run(_ test: () async throws -> Void, then end: () async -> Void) async throws {
  do {
    try await test()
  } catch {
    await end()
    throw error
  }
  await end()
}

extension P2PDNet.Pipe {
  func say(_ text: String) async throws {
    try await loop.submit { _ = Array(text.utf8).withUnsafeBytes { self.send($0) } }.get()
  }

  /// The next message.
  func hear() async throws -> String {
    let promise = loop.makePromise(of: String.self)
    loop.execute {
      self.receive(timeout: .seconds(20)) {
        promise.completeWith($0.map { String(buffer: $0.bytes) }.mapError { $0 as any Error })
      }
    }
    return try await promise.futureResult.get()
  }

  func ask(_ text: String) async throws -> String {
    try await say(text)
    return try await hear()
  }
}

struct Recorder: LogHandler {
  let lines: Bench.Lines
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level = .debug
  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }.map { "\($0)=\($1)" }.sorted().joined(separator: " ")
    lines.add("\(event.level) [\(all)] \(event.message)")
  }
}

/// The loop that the tests of this target share.
let sharedLoop: KernelLoop = {
  do { return try KernelLoop.start(name: "tests") } catch { preconditionFailure("\(error)") }
}()
