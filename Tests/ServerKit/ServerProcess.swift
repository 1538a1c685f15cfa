import Foundation
import Synchronization

/// A real server that a test runs for itself, with a folder of its own; both end with this object.
public final class ServerProcess: @unchecked Sendable {
  public let folder: URL
  private var process: Process?

  /// Where a program is, of the places packages put it in; nil where it is not installed.
  public static func find(_ places: [String]) -> String? {
    places.first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  public init(_ name: String) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-\(name)-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  public var isRunning: Bool { process?.isRunning ?? false }
  /// Its configuration file.
  public var conf: String { folder.appendingPathComponent("conf").path }

  public func configure(_ lines: [String]) throws {
    try lines.joined(separator: "\n").write(toFile: conf, atomically: true, encoding: .utf8)
  }

  /// Starts it, again after ``stop()``, and waits until it says `ready` on either output; without, not at all. False: it
  /// could not be started, or ended before.
  @discardableResult
  public func run(_ path: String?, _ arguments: [String], ready: String?) async -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path ?? "/nonexistent")
    process.arguments = arguments
    process.currentDirectoryURL = folder
    let output = Foundation.Pipe()
    process.standardOutput = ready == nil ? FileHandle.nullDevice : output
    process.standardError = ready == nil ? FileHandle.nullDevice : output
    let text = Mutex("")
    let isStarted: Bool = await withCheckedContinuation { continuation in
      let isAnswered = Atomic(false)
      let answer = { @Sendable (yes: Bool) in
        if !isAnswered.exchange(true, ordering: .relaxed) { continuation.resume(returning: yes) }
      }
      if let ready {
        output.fileHandleForReading.readabilityHandler = { handle in
          let data = handle.availableData
          if data.isEmpty {
            handle.readabilityHandler = nil
            return answer(false)
          }
          let isReady = text.withLock {
            $0 += String(decoding: data, as: UTF8.self)
            return $0.contains(ready)
          }
          if isReady { answer(true) }
        }
      }
      do { try process.run() } catch { answer(false) }
      if ready == nil { answer(true) }
    }
    if isStarted { self.process = process }
    return isStarted
  }

  /// Ends it, and waits until it is gone.
  public func stop() async {
    guard let process else { return }
    self.process = nil
    await withCheckedContinuation { continuation in
      let isAnswered = Atomic(false)
      let answer = { @Sendable in
        if !isAnswered.exchange(true, ordering: .relaxed) { continuation.resume() }
      }
      process.terminationHandler = { _ in answer() }
      // A child of a concurrency thread inherits its mask, in which SIGTERM is blocked.
      kill(process.processIdentifier, SIGKILL)
      if !process.isRunning { answer() }
    }
  }

  public func signal(_ number: Int32) {
    if let process { kill(process.processIdentifier, number) }
  }

  deinit {
    if let process, process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: folder)
  }

  /// Certificates and keys that tests use: `ca.pem`, `server.pem`, `server.key`.
  public static let certificates = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../Fixtures/tls").standardizedFileURL.path
}
