import Foundation
import P2PDNet
import ServerKit
import Testing

/// A real coturn of this test's own, on 127.0.0.1 and free ports.
final class Coturn: @unchecked Sendable {
  let port: UInt16
  let tlsPort: UInt16
  private let server: ServerProcess

  static let path = ServerProcess.find(
    ["/usr/bin/turnserver", "/usr/local/bin/turnserver", "/opt/homebrew/bin/turnserver"])
  static let isMissing = path == nil
  static let whyMissing: Comment = "coturn is not installed (Debian: coturn); scripts/test installs it"

  private init(_ lines: [String]) throws {
    port = try FreePort.tcp()
    tlsPort = try FreePort.tcp()
    server = try ServerProcess("coturn")
    let fixtures = ServerProcess.certificates
    try server.configure(
      [
        "listening-port=\(port)", "tls-listening-port=\(tlsPort)", "listening-ip=127.0.0.1", "relay-ip=127.0.0.1",
        "allow-loopback-peers", "no-cli", "no-dtls", "fingerprint", "simple-log", "log-file=stdout", "realm=test",
        "relay-threads=1", "cert=\(fixtures)/server.pem", "pkey=\(fixtures)/server.key",
        "pidfile=\(server.folder.path)/pid", "userdb=\(server.folder.path)/db",
      ] + lines)
  }

  /// Starts one and waits until it listens.
  /// - Parameter lines: of its configuration file; by themselves the user `ann` with the password `secret`.
  static func start(_ lines: [String] = ["lt-cred-mech", "user=ann:secret"]) async throws -> Coturn {
    for _ in 0..<5 {
      let server = try Coturn(lines)
      if await server.run() { return server }
    }
    throw CocoaError(.fileReadUnknown)
  }

  private func run() async -> Bool {
    await server.run(Self.path, ["-c", server.conf], ready: "Total General servers")
  }

  /// `turn:ann:secret@127.0.0.1:PORT`, or over TLS at the certificate's name.
  func url(tls: Bool = false, user: String? = "ann", password: String? = "secret", secret: String? = nil) -> ServerURL {
    ServerURL(
      tls ? .turns : .turn, host: tls ? "localhost" : "127.0.0.1", port: tls ? tlsPort : port, user: user,
      password: password, secret: secret)
  }

  /// Ends it, and waits until it is gone.
  func stop() async { await server.stop() }
}
