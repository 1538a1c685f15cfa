import Foundation
import Synchronization
import Testing

/// A real mosquitto of this test's own, on 127.0.0.1 and free ports.
final class Mosquitto: @unchecked Sendable {
  let port: UInt16
  let tlsPort: UInt16?
  private let folder: URL
  private var process: Process?

  static let path = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }
  static let isMissing = path == nil
  static let whyMissing: Comment = "mosquitto is not installed (Debian: mosquitto); scripts/test installs it"

  private init(port: UInt16, tlsPort: UInt16?, extra: String) throws {
    self.port = port
    self.tlsPort = tlsPort
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-mosquitto-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let fixtures = Self.fixtures
    var lines = [
      "per_listener_settings false", "persistence false", "log_dest stderr", "log_type all", "user root",
      "allow_anonymous true", "listener \(port) 127.0.0.1",
    ]
    if let tlsPort {
      lines += [
        "listener \(tlsPort) 127.0.0.1", "certfile \(fixtures)/server.pem", "keyfile \(fixtures)/server.key",
      ]
    }
    lines.append(extra)
    try lines.joined(separator: "\n").write(
      to: folder.appendingPathComponent("conf"), atomically: true, encoding: .utf8)
  }

  /// Starts one and waits until it listens.
  static func start(tls: Bool = false, extra: String = "") async throws -> Mosquitto {
    // Between finding a free port and mosquitto's bind another process may take it.
    for _ in 0..<5 {
      let broker = try Mosquitto(port: try freePort(), tlsPort: tls ? try freePort() : nil, extra: extra)
      if await broker.run() { return broker }
    }
    throw CocoaError(.fileReadUnknown)
  }

  /// Starts it again on the same ports. False: it ended at once.
  @discardableResult
  func run() async -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Self.path ?? "/nonexistent")
    process.arguments = ["-c", folder.appendingPathComponent("conf").path]
    let output = Foundation.Pipe()
    process.standardError = output
    process.standardOutput = FileHandle.nullDevice
    let text = Mutex("")
    let started: Bool = await withCheckedContinuation { continuation in
      let answered = Atomic(false)
      let answer = { @Sendable (yes: Bool) in
        if !answered.exchange(true, ordering: .relaxed) { continuation.resume(returning: yes) }
      }
      output.fileHandleForReading.readabilityHandler = { handle in
        let data = handle.availableData
        if data.isEmpty {
          handle.readabilityHandler = nil
          return answer(false)
        }
        let isRunning = text.withLock {
          $0 += String(decoding: data, as: UTF8.self)
          return $0.contains(" running")
        }
        if isRunning { answer(true) }
      }
      do { try process.run() } catch { answer(false) }
    }
    if started { self.process = process }
    return started
  }

  /// Ends it, and waits until it is gone.
  func stop() async {
    guard let process else { return }
    self.process = nil
    await withCheckedContinuation { continuation in
      let answered = Atomic(false)
      let answer = { @Sendable in
        if !answered.exchange(true, ordering: .relaxed) { continuation.resume() }
      }
      process.terminationHandler = { _ in answer() }
      // A child of a concurrency thread inherits its mask, in which SIGTERM is blocked.
      kill(process.processIdentifier, SIGKILL)
      if !process.isRunning { answer() }
    }
  }

  /// Stops the process as it is: connections stay, nobody answers.
  func freeze() { if let process { kill(process.processIdentifier, SIGSTOP) } }
  func thaw() { if let process { kill(process.processIdentifier, SIGCONT) } }

  deinit {
    if let process, process.isRunning {
      kill(process.processIdentifier, SIGKILL)
    }
    try? FileManager.default.removeItem(at: folder)
  }

  static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../Fixtures/tls").standardizedFileURL.path

  static func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    guard descriptor >= 0, result == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
    return UInt16(bigEndian: address.sin_port)
  }
}
