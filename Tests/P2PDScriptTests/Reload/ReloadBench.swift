import Foundation
import Logging
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode
import Testing

@testable import P2PDScript

/// Handlers on a node, and a second node that talks to them. Files are saved and reloaded by hand.
final class ReloadBench: Sendable {
  let bench: Bench
  let node: Node
  let client: Node
  var host: ScriptHost { bench.host }

  /// - Parameter files: names and texts; those that end in `.lua` and hold no "lib" are hosted.
  init(_ files: [(String, String)], _ configure: (inout ScriptOptions) -> Void = { _ in }) async throws {
    bench = try await Bench(configure)
    var paths: [String] = []
    for (name, text) in files {
      let path = try bench.write(name, Self.handler(text, name))
      if name.hasSuffix(".lua"), !name.contains("lib") { paths.append(path) }
    }
    _ = try await bench.host.loadProtocols(paths)
    let quiet = Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
    node = try await Node.start(Bench.loopbackNode, on: bench.host.loop, logger: quiet)
    try await bench.host.attach(node)
    client = try await Node.start(
      Bench.loopbackNode, on: sharedLoop, logger: quiet)
  }

  /// A handler's text is its body; what is a library, or whole already, stays as it is.
  private static func handler(_ text: String, _ name: String) -> String {
    guard name.hasSuffix(".lua"), !name.contains("lib"), !text.contains("return M") else { return text }
    return "local p2pd = require 'p2pd'\nlocal M = {}\n\(text)\nreturn M\n"
  }

  func save(_ name: String, _ text: String) throws { _ = try bench.write(name, Self.handler(text, name)) }

  func path(_ name: String) -> String { bench.folder.appendingPathComponent(name).path }

  /// Saves a handler's body and reloads it.
  @discardableResult
  func reload(_ text: String, _ name: String = "h", dryRun: Bool = false, trigger: String = "api") async throws
    -> ReloadReport
  {
    try save(name + ".lua", text)
    return try await again(name, dryRun: dryRun, trigger: trigger)
  }

  func again(_ name: String = "h", dryRun: Bool = false, trigger: String = "api") async throws -> ReloadReport {
    try #require(await host.reload(name, dryRun: dryRun, trigger: trigger).first)
  }

  func connect(_ name: String = "h") async throws -> P2PDNet.Pipe {
    let address = try await host.loop.submit { self.node.address }.get()
    return try await client.connect(address, protocol: name, timeout: .seconds(10))
  }

  func end() async {
    await client.close()
    await node.close()
    await bench.end()
  }

  /// Comes back when something holds of the host; asks in each turn of its loop.
  func until(_ holds: @escaping @Sendable (ScriptHost) -> Bool) async {
    while await !host.onLoop(holds) {}
  }

  /// The generations that have not been given up.
  var alive: [GenerationInfo] {
    get async { await host.generationList().filter { $0.phase != .retired } }
  }
}

func withHandlers(
  _ files: [(String, String)], _ configure: (inout ScriptOptions) -> Void = { _ in },
  _ body: (ReloadBench) async throws -> Void
) async throws {
  let bench = try await ReloadBench(files, configure)
  try await run({ try await body(bench) }, then: bench.end)
}

/// With one handler, `h`, and a pipe to it.
func withHandler(
  _ text: String, _ configure: (inout ScriptOptions) -> Void = { _ in },
  _ body: (ReloadBench, P2PDNet.Pipe) async throws -> Void
) async throws {
  try await withHandlers([("h.lua", text)], configure) { bench async throws in
    try await body(bench, try await bench.connect())
  }
}

/// Reports of a host, one after the other.
final class Reports: Sendable {
  private let stream: AsyncStream<ReloadReport>

  init(_ host: ScriptHost) {
    let (stream, feed) = AsyncStream.makeStream(of: ReloadReport.self)
    self.stream = stream
    host.onReload { feed.yield($0) }
  }

  func next(_ wanted: (ReloadReport) -> Bool) async -> ReloadReport {
    for await report in stream where wanted(report) { return report }
    return ReloadReport(protocolName: "", path: "", trigger: "")
  }
}

/// A TCP client that speaks lines, to `ip:port`.
func plainClient(_ place: String) async throws -> P2PDNet.Pipe {
  var conf = PipeConf()
  conf.framing = .line
  let parts = place.split(separator: ":")
  let endpoint = Endpoint(ip: try #require(IPAddress(String(parts[0]))), port: try #require(UInt16(parts[1])))
  return try await PipeOpener.open(
    .tcp, to: .endpoint(endpoint), conf: conf, sink: nil, on: sharedLoop
  ).get()
}
