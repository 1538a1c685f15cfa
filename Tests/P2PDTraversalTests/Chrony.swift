import Foundation
import Testing

/// A real time server of this test's own, on 127.0.0.1 and a free port: chrony, which serves this machine's clock and
/// leaves it alone (-x).
final class Chrony: @unchecked Sendable {
  let port: UInt16
  private let folder: URL
  private let process = Process()

  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../..").standardizedFileURL.path
  /// Where packages put it, and where scripts/dev/install does.
  static let path = ["/usr/sbin", "/usr/local/sbin", root + "/.build/chrony/usr/sbin"].map { $0 + "/chronyd" }
    .first { FileManager.default.isExecutableFile(atPath: $0) }
  static let isMissing = path == nil
  static let whyMissing: Comment = "chronyd is not there (Debian: chrony); scripts/test unpacks it"

  private init(port: UInt16, isSynchronised: Bool) throws {
    self.port = port
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-chrony-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var lines = [
      "port \(port)", "bindaddress 127.0.0.1", "allow 127.0.0.0/8", "cmdport 0", "bindcmdaddress /",
      "pidfile \(folder.path)/pid",
    ]
    if isSynchronised { lines.append("local stratum 8") }
    try lines.joined(separator: "\n").write(
      to: folder.appendingPathComponent("conf"), atomically: true, encoding: .utf8)
  }

  /// Starts one and waits until it serves.
  static func start(isSynchronised: Bool = true) async throws -> Chrony {
    // Between finding a free port and its bind another process may take it.
    for _ in 0..<5 {
      let server = try Chrony(port: try freePort(), isSynchronised: isSynchronised)
      if try await server.run() { return server }
    }
    throw CocoaError(.fileReadUnknown)
  }

  private func run() async throws -> Bool {
    process.executableURL = URL(fileURLWithPath: Self.path ?? "/nonexistent")
    process.arguments = ["-x", "-d", "-u", NSUserName(), "-f", folder.appendingPathComponent("conf").path]
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
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
    for _ in 0..<50 where process.isRunning {
      let sent = withUnsafePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(socket, question, question.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      if sent == question.count, recv(socket, &answer, answer.count, 0) >= 48 { return true }
      // Refused: nobody listens yet.
      try await Task.sleep(for: .milliseconds(20))
    }
    stop()
    return false
  }

  func stop() {
    // A child of a concurrency thread inherits its mask, in which SIGTERM is blocked.
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: folder)
  }

  private static func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
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
