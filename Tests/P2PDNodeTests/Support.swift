import Glibc
import Logging
import NIOConcurrencyHelpers
import NIOCore
import P2PDNet
import Testing

@testable import P2PDNode

/// Puts a node, or several, on 127.0.0.1 for one test, and takes them down after it.
func withNodes<T>(
  _ count: Int = 2, _ change: (Int, inout NodeConfiguration) -> Void = { _, _ in }, log: LogLines = LogLines(),
  _ body: ([Node]) async throws -> T
) async throws -> T {
  let loop = try KernelLoop.start(name: "nodes")
  var nodes: [Node] = []
  do {
    for index in 0..<count {
      var configuration = NodeConfiguration()
      configuration.ephemeral = true
      configuration.listen = [.loopback(.v4)]
      change(index, &configuration)
      nodes.append(try await Node.start(configuration, on: loop, logger: log.logger))
    }
    let result = try await body(nodes)
    for node in nodes { await node.close(flush: .milliseconds(500)) }
    try await loop.shutdownGracefully()
    return result
  } catch {
    for node in nodes { await node.close(flush: .zero) }
    try? await loop.shutdownGracefully()
    throw error
  }
}

/// Keeps what a sink hears; a test waits for the first message that fits.
final class Recorder: PipeSink, NodeProtocol, @unchecked Sendable {
  private struct State {
    var messages: [String] = []
    var opened: [Pipe] = []
    var ends: [String] = []
    var waiters: [(isDone: (Recorder.View) -> Bool, continuation: CheckedContinuation<Void, Never>)] = []
  }

  struct View {
    let messages: [String]
    let opened: [Pipe]
    let ends: [String]
  }

  private let state = NIOLockedValueBox(State())

  var view: View { state.withLockedValue { View(messages: $0.messages, opened: $0.opened, ends: $0.ends) } }

  /// Returns when what was heard satisfies the condition. Under ``guarded`` it cannot wait for ever.
  func wait(until isDone: @escaping @Sendable (View) -> Bool) async {
    await withCheckedContinuation { continuation in
      let now = state.withLockedValue { state -> Bool in
        let view = View(messages: state.messages, opened: state.opened, ends: state.ends)
        if isDone(view) { return true }
        state.waiters.append((isDone, continuation))
        return false
      }
      if now { continuation.resume() }
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let ready = state.withLockedValue { state -> [CheckedContinuation<Void, Never>] in
      body(&state)
      let view = View(messages: state.messages, opened: state.opened, ends: state.ends)
      let done = state.waiters.filter { $0.isDone(view) }.map(\.continuation)
      state.waiters.removeAll { $0.isDone(view) }
      return done
    }
    for continuation in ready { continuation.resume() }
  }

  func nodePipe(_ pipe: Pipe) -> (any PipeSink)? { self }
  func pipeOpened(_ pipe: Pipe) { change { $0.opened.append(pipe) } }
  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    change { $0.messages.append(String(decoding: message, as: UTF8.self)) }
    return true
  }
  func pipeEnded(_ pipe: Pipe, reason: EndReason) { change { $0.ends.append("\(reason)") } }
}

/// A logger whose lines a test can read.
final class LogLines: Sendable {
  private let lines = NIOLockedValueBox<[String]>([])

  var all: [String] { lines.withLockedValue { $0 } }
  var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(lines: self) }
    logger.logLevel = .debug
    return logger
  }

  private struct Handler: LogHandler {
    let lines: LogLines
    var metadata = Logger.Metadata()
    var logLevel = Logger.Level.debug
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) {
      lines.lines.withLockedValue { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
    }
  }
}

extension Pipe {
  func say(_ text: String) async throws {
    try await loop.submit {
      if case .failed(let error) = Array(text.utf8).withUnsafeBytes({ self.send($0) }) { throw error }
    }.get()
  }

  func hear(_ timeout: TimeAmount = .seconds(5)) async throws -> String {
    let message = try await loop.flatSubmit {
      let promise = self.loop.makePromise(of: ByteBuffer.self)
      _ = self.receive(timeout: timeout) { promise.completeWith($0.map(\.bytes).mapError { $0 }) }
      return promise.futureResult
    }.get()
    return String(buffer: message)
  }

  func end() async { _ = try? await loop.flatSubmit { self.close() }.get() }
}

extension Node {
  func hosting(_ name: String, _ sink: any NodeProtocol & Sendable) async throws {
    try await loop.submit { try self.host(protocol: name, sink: sink) }.get()
  }

  func onLoop<T: Sendable>(_ body: @escaping @Sendable (Node) throws -> T) async throws -> T {
    try await loop.submit { try body(self) }.get()
  }
}

/// The ``NetError`` that the body throws.
func failure<T>(_ body: () async throws -> T, sourceLocation: SourceLocation = #_sourceLocation) async throws
  -> NetError
{
  do {
    _ = try await body()
  } catch let error as NetError {
    return error
  }
  Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  throw NetError(.io, "nothing was thrown")
}

/// A folder of this test's own, gone after it.
func withTemporaryFolder<T>(_ body: (String) async throws -> T) async throws -> T {
  var template = Array("/tmp/p2pd-test-XXXXXX".utf8CString)
  let path = String(cString: try #require(mkdtemp(&template)))
  defer { remove(folder: path) }
  return try await body(path)
}

private func remove(folder: String) {
  chmod(folder, 0o700)
  guard let stream = opendir(folder) else { return }
  while let entry = readdir(stream) {
    let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name == "." || name == ".." { continue }
    if entry.pointee.d_type == UInt8(DT_DIR) {
      remove(folder: "\(folder)/\(name)")
    } else {
      unlink("\(folder)/\(name)")
    }
  }
  closedir(stream)
  rmdir(folder)
}
