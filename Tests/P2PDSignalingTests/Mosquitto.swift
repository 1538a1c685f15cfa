import Foundation
import ServerKit
import Testing

/// A real mosquitto of this test's own, on 127.0.0.1 and free ports.
final class Mosquitto: @unchecked Sendable {
  let port: UInt16
  let tlsPort: UInt16?
  private let server: ServerProcess

  static let path = ServerProcess.find(["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"])
  static let isMissing = path == nil
  static let whyMissing: Comment = "mosquitto is not installed (Debian: mosquitto); scripts/test installs it"
  static let fixtures = ServerProcess.certificates

  private init(port: UInt16, tlsPort: UInt16?, extra: String) throws {
    self.port = port
    self.tlsPort = tlsPort
    server = try ServerProcess("mosquitto")
    var lines = [
      "per_listener_settings false", "persistence false", "log_dest stderr", "log_type all", "user root",
      "allow_anonymous true", "listener \(port) 127.0.0.1",
    ]
    if let tlsPort {
      lines += [
        "listener \(tlsPort) 127.0.0.1", "certfile \(Self.fixtures)/server.pem", "keyfile \(Self.fixtures)/server.key",
      ]
    }
    try server.configure(lines + [extra])
  }

  /// Starts one and waits until it listens.
  static func start(tls: Bool = false, extra: String = "") async throws -> Mosquitto {
    for _ in 0..<5 {
      let broker = try Mosquitto(port: try FreePort.tcp(), tlsPort: tls ? try FreePort.tcp() : nil, extra: extra)
      if await broker.run() { return broker }
    }
    throw CocoaError(.fileReadUnknown)
  }

  /// Starts it again on the same ports. False: it ended at once.
  @discardableResult
  func run() async -> Bool { await server.run(Self.path, ["-c", server.conf], ready: " running") }

  /// Ends it, and waits until it is gone.
  func stop() async { await server.stop() }

  /// Stops the process as it is: connections stay, nobody answers.
  func freeze() { server.signal(SIGSTOP) }
  func thaw() { server.signal(SIGCONT) }
}
