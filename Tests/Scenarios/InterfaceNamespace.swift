import Foundation
import Glibc

/// A network namespace of its own for one test: a thread leaves the host's namespace, and everything the body does on it,
/// child processes and new threads included, happens in an empty network. There is nothing to clean up: the namespace and
/// what was made in it end with the thread and its sockets, however the test ends.
enum InterfaceNamespace {
  /// True where this process may make namespaces and ip(8) is there to furnish them.
  static let isAvailable: Bool = {
    guard geteuid() == 0, ipTool != nil else { return false }
    return (try? runBlocking { true }) ?? false
  }()

  static let whyNot: String = "needs root (CAP_SYS_ADMIN) and iproute2 to make network namespaces"

  /// Runs the body in a new namespace, in which loopback is up.
  static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try enter(body) }) }
    }
  }

  /// Runs ip(8) in the namespace of the calling thread, whose children are in it too: `ip("link set lo up")`.
  @discardableResult
  static func ip(_ words: String) throws -> String {
    guard let ipTool else { throw Failure(text: "there is no ip(8)") }
    return try tool(ipTool, words.split(separator: " ").map(String.init))
  }

  /// Runs a program in the namespace of the calling thread and waits for its end; answers what it said.
  @discardableResult
  static func tool(_ path: String, _ words: [String]) throws -> String {
    let output = temporaryFile()
    defer { unlink(output) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // Sockets of other tests must not live on in the child. Not in Swift's Glibc module.
    typealias CloseFrom = @convention(c) (UnsafeMutableRawPointer, CInt) -> CInt
    if let symbol = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np") {
      _ = unsafeBitCast(symbol, to: CloseFrom.self)(&actions, 3)
    }
    let arguments = [path] + words
    var pointers = arguments.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    var child: pid_t = 0
    guard posix_spawn(&child, path, &actions, nil, &pointers, environ) == 0 else {
      throw Failure(text: "cannot run \(path)")
    }
    var status: CInt = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
    guard status == 0 else { throw Failure(text: "\(arguments.joined(separator: " ")): \(text)") }
    return text
  }

  /// Runs many commands of ip(8) at once, one on each line.
  static func ip(batch lines: [String]) throws {
    let file = temporaryFile()
    defer { unlink(file) }
    try (lines.joined(separator: "\n") + "\n").write(toFile: file, atomically: false, encoding: .utf8)
    try ip("-batch \(file)")
  }

  private static func temporaryFile() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("ip-\(UUID().uuidString)").path
  }

  struct Failure: Error, CustomStringConvertible {
    var text: String
    var description: String { text }
  }

  private static func runBlocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T {
    let done = DispatchSemaphore(value: 0)
    nonisolated(unsafe) var result: Result<T, any Error>?  // written before the signal, read after it
    Thread.detachNewThread {
      result = Result { try enter(body) }
      done.signal()
    }
    done.wait()
    guard let result else { throw Failure(text: "the thread did not run") }
    return try result.get()
  }

  private static func enter<T>(_ body: () throws -> T) throws -> T {
    // unshare(2) is not in Swift's Glibc module.
    typealias Unshare = @convention(c) (CInt) -> CInt
    guard let symbol = dlsym(nil, "unshare") else { throw Failure(text: "there is no unshare(2)") }
    let newNetwork: CInt = 0x4000_0000  // CLONE_NEWNET, linux/sched.h
    guard unsafeBitCast(symbol, to: Unshare.self)(newNetwork) == 0 else {
      throw Failure(text: "unshare: \(String(cString: strerror(errno)))")
    }
    try ip("link set lo up")
    return try body()
  }

  /// Where a program is; nil where it is not installed.
  static func find(_ name: String) -> String? {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"].map { "\($0)/\(name)" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  private static let ipTool: String? = find("ip")
}
