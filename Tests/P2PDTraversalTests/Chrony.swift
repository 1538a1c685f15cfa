import Foundation
import ServerKit
import Testing

/// A real time server of this test's own, on 127.0.0.1 and a free port: chrony, which serves this machine's clock and
/// leaves it alone (-x).
final class Chrony: @unchecked Sendable {
  let port: UInt16
  private let server: ServerProcess

  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../..").standardizedFileURL.path
  /// Where packages put it, and where scripts/dev/install does.
  static let path = ServerProcess.find(
    ["/usr/sbin", "/usr/local/sbin", root + "/.build/chrony/usr/sbin"].map { $0 + "/chronyd" })
  static let isMissing = path == nil
  static let whyMissing: Comment = "chronyd is not there (Debian: chrony); scripts/test unpacks it"

  private init(port: UInt16, isSynchronised: Bool) throws {
    self.port = port
    server = try ServerProcess("chrony")
    var lines = [
      "port \(port)", "bindaddress 127.0.0.1", "allow 127.0.0.0/8", "cmdport 0", "bindcmdaddress /",
      "pidfile \(server.folder.path)/pid",
    ]
    if isSynchronised { lines.append("local stratum 8") }
    try server.configure(lines)
  }

  /// Starts one and waits until it serves.
  static func start(isSynchronised: Bool = true) async throws -> Chrony {
    for _ in 0..<5 {
      let server = try Chrony(port: try FreePort.udp(), isSynchronised: isSynchronised)
      if try await server.run() { return server }
    }
    throw CocoaError(.fileReadUnknown)
  }

  private func run() async throws -> Bool {
    guard await server.run(Self.path, ["-x", "-d", "-u", NSUserName(), "-f", server.conf], ready: nil) else {
      return false
    }
    // It says nothing when it is ready: it is when it answers.
    let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(socket) }
    var patience = timeval(tv_sec: 0, tv_usec: 100_000)
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    (place.sin_port, place.sin_addr.s_addr) = (port.bigEndian, UInt32(0x7f00_0001).bigEndian)
    let question: [UInt8] = [0x23] + [UInt8](repeating: 0, count: 46) + [1]
    var answer = [UInt8](repeating: 0, count: 100)
    for _ in 0..<50 where server.isRunning {
      let sent = withUnsafePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(socket, question, question.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      if sent == question.count, recv(socket, &answer, answer.count, 0) >= 48 { return true }
      // Refused: nobody listens yet.
      try await Task.sleep(for: .milliseconds(20))
    }
    await stop()
    return false
  }

  func stop() async { await server.stop() }
}
