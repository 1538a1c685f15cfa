import CNet
import Glibc
import P2PDNet

/// A connection to the control socket of a running node, for commands: blocking, one thread.
final class ControlLink {
  /// What the node said of itself.
  struct Greeting: Sendable {
    var name: String
    var key: String
    var pid: Int
    var version: String

    /// Enough of the key to name the node by.
    var short: String { String(key.prefix(10)) }
  }

  private(set) var greeting: Greeting
  let path: String
  let descriptor: Int32
  private var input: ControlInput
  private var lastRequest = 0

  /// Connects and hears who is there.
  /// - Throws: ``LinkFailure``, which knows a socket that nobody listens at any more.
  static func open(_ path: String) throws(LinkFailure) -> ControlLink {
    let descriptor = cnet_unix_connect(path, patience)
    guard descriptor >= 0 else {
      throw LinkFailure(
        isStale: descriptor == -ECONNREFUSED,
        failure: Failure("cannot reach \(path): \(String(cString: strerror(-descriptor)))"))
    }
    do {
      return try ControlLink(path, descriptor)
    } catch {
      throw LinkFailure(isStale: false, failure: error as? Failure ?? Failure("\(error)"))
    }
  }

  struct LinkFailure: Error {
    /// The socket is what a killed node left behind.
    let isStale: Bool
    let failure: Failure
  }

  private init(_ path: String, _ descriptor: Int32) throws {
    (self.path, self.descriptor) = (path, descriptor)
    // An answer may be long: the report of thousands of pipes.
    input = ControlInput(limit: Self.longestAnswer)
    greeting = Greeting(name: "", key: "", pid: 0, version: "")
    // Everything is set: where this throws, deinit closes the descriptor.
    greeting = try Self.greeting(path, descriptor, &input)
  }

  deinit { close(descriptor) }

  private static func greeting(_ path: String, _ descriptor: Int32, _ input: inout ControlInput) throws -> Greeting {
    guard let hello = try next(descriptor, &input, patience: patience) else {
      throw Failure("what listens at \(path) said nothing and hung up")
    }
    if let error = hello["error"] { throw failure(error) }
    guard let version = hello["p2pd_control"]?.int, let name = hello["name"]?.string, let key = hello["key"]?.string
    else {
      throw Failure("what listens at \(path) is no p2pd-lua node")
    }
    guard version == ControlProtocol.version else {
      throw Failure(
        "the node \(name) speaks version \(version) of the control protocol, this program \(ControlProtocol.version)",
        remedy: "Use the p2pd-lua that started it.")
    }
    // The kernel knows better than the node: its number as seen from here.
    var (uid, pid) = (UInt32(0), Int32(0))
    let isKnown = cnet_unix_peer(descriptor, &uid, &pid) == 0
    return Greeting(
      name: name, key: key, pid: isKnown ? Int(pid) : hello["pid"]?.int ?? 0,
      version: hello["version"]?.string ?? "")
  }

  // MARK: Requests

  /// Sends a request; its number.
  @discardableResult
  func send(_ operation: String, _ members: [(String, JSONText)] = []) throws -> Int {
    lastRequest += 1
    let head: [(String, JSONText)] = [
      ("v", .int(ControlProtocol.version)), ("id", .int(lastRequest)), ("op", .string(operation)),
    ]
    guard Files.writeAll(Array((JSONText.object(head + members).text + "\n").utf8), to: descriptor) else {
      throw gone
    }
    return lastRequest
  }

  /// Sends a request and waits for its answer; events in between go to `event`.
  func call(
    _ operation: String, _ members: [(String, JSONText)] = [], seconds: Double? = 15,
    event: (JSONText) -> Void = { _ in }
  ) throws -> JSONText {
    let request = try send(operation, members)
    return try answer(to: request, seconds: seconds, event: event)
  }

  /// Waits for the answer to a request.
  /// - Parameter seconds: how long the node may be silent; nil waits for ever.
  func answer(to request: Int, seconds: Double? = 15, event: (JSONText) throws -> Void) throws -> JSONText {
    while true {
      guard let line = try next(seconds: seconds) else { throw gone }
      guard let id = line["id"]?.int else { return try Self.result(line) }
      guard id == request else { continue }
      if line["event"] != nil { try event(line) } else { return try Self.result(line) }
    }
  }

  /// What an answer holds; throws the failure it tells of.
  static func result(_ answer: JSONText) throws -> JSONText {
    if let error = answer["error"] { throw failure(error) }
    return answer["result"] ?? .object([])
  }

  private static func failure(_ error: JSONText) -> Failure {
    Failure(
      Printable.message(Array((error["message"]?.string ?? "the node refused").utf8)), remedy: error["remedy"]?.string)
  }

  /// The node closed the connection.
  var gone: Failure { Failure("the node \(greeting.name) (pid \(greeting.pid)) has ended") }

  // MARK: Reading

  /// The next line; nil at the node's end. Throws when `seconds` are over.
  func next(seconds: Double?) throws -> JSONText? {
    try Self.next(descriptor, &input, patience: seconds.map { Int32(clamping: Int($0 * 1000)) } ?? -1)
  }

  /// A line that is here already, without waiting.
  func buffered() throws -> JSONText? {
    if case .line(let line) = input.next() { return try Self.read(line) }
    return nil
  }

  /// Takes what the socket has. False: the node has closed the connection.
  func fill() -> Bool { Self.fill(descriptor, &input) }

  private static func next(_ descriptor: Int32, _ input: inout ControlInput, patience: Int32) throws -> JSONText? {
    while true {
      switch input.next() {
      case .line(let line): return try read(line)
      case .tooLong: throw Failure("the node's answer is longer than \(longestAnswer >> 20) MiB")
      case .incomplete: break
      }
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let count = poll(&ready, 1, patience)
      if count < 0, errno == EINTR { continue }
      guard count != 0 else {
        throw Failure(
          "the node does not answer: its event loop has been busy for \(patience / 1000) s",
          remedy: "Its log may say with what. SIGTERM asks it to end.")
      }
      if !fill(descriptor, &input) { return nil }
    }
  }

  private static func read(_ line: [UInt8]) throws -> JSONText {
    do {
      return try JSONReader.read(line)
    } catch {
      throw Failure("the node's answer cannot be read: \(error)")
    }
  }

  private static func fill(_ descriptor: Int32, _ input: inout ControlInput) -> Bool {
    var count = 0
    let piece = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, filled in
      repeat { count = Glibc.read(descriptor, buffer.baseAddress, buffer.count) } while count < 0 && errno == EINTR
      filled = max(0, count)
    }
    input.add(piece)
    return count > 0
  }

  private static let patience: Int32 = 5000
  private static let longestAnswer = 64 << 20
}
