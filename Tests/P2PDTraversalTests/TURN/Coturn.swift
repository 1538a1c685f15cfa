import Foundation
import P2PDNet
import Synchronization
import Testing

/// A real coturn of this test's own, on 127.0.0.1 and free ports.
final class Coturn: @unchecked Sendable {
  let port: UInt16
  let tlsPort: UInt16
  private let folder: URL
  private var process: Process?

  static let path = ["/usr/bin/turnserver", "/usr/local/bin/turnserver", "/opt/homebrew/bin/turnserver"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }
  static let isMissing = path == nil
  static let whyMissing: Comment = "coturn is not installed (Debian: coturn); scripts/test installs it"

  private init(_ lines: [String]) throws {
    port = try Self.freePort()
    tlsPort = try Self.freePort()
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-coturn-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Fixtures/tls").standardizedFileURL.path
    let all =
      [
        "listening-port=\(port)", "tls-listening-port=\(tlsPort)", "listening-ip=127.0.0.1", "relay-ip=127.0.0.1",
        "allow-loopback-peers", "no-cli", "no-dtls", "fingerprint", "simple-log", "log-file=stdout", "realm=test",
        "relay-threads=1", "cert=\(fixtures)/server.pem", "pkey=\(fixtures)/server.key",
        "pidfile=\(folder.path)/pid", "userdb=\(folder.path)/db",
      ] + lines
    try all.joined(separator: "\n").write(to: folder.appendingPathComponent("conf"), atomically: true, encoding: .utf8)
  }

  /// Starts one and waits until it listens.
  /// - Parameter lines: of its configuration file; by themselves the user `ann` with the password `secret`.
  static func start(_ lines: [String] = ["lt-cred-mech", "user=ann:secret"]) async throws -> Coturn {
    // Between finding a free port and coturn's bind another process may take it.
    for _ in 0..<5 {
      let server = try Coturn(lines)
      if await server.run() { return server }
    }
    throw CocoaError(.fileReadUnknown)
  }

  private func run() async -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Self.path ?? "/nonexistent")
    process.arguments = ["-c", folder.appendingPathComponent("conf").path]
    process.currentDirectoryURL = folder
    let output = Foundation.Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
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
        // Said when it listens.
        let isRunning = text.withLock {
          $0 += String(decoding: data, as: UTF8.self)
          return $0.contains("Total General servers")
        }
        if isRunning { answer(true) }
      }
      do { try process.run() } catch { answer(false) }
    }
    if started { self.process = process }
    return started
  }

  /// `turn:ann:secret@127.0.0.1:PORT`, or over TLS at the certificate's name.
  func url(tls: Bool = false, user: String? = "ann", password: String? = "secret", secret: String? = nil) -> ServerURL {
    ServerURL(
      tls ? .turns : .turn, host: tls ? "localhost" : "127.0.0.1", port: tls ? tlsPort : port, user: user,
      password: password, secret: secret)
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

  deinit {
    if let process, process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: folder)
  }

  private static func freePort() throws -> UInt16 {
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
