import NIOCore
import P2PDNet

@testable import P2PDNames

/// Name servers on simulated hosts, each with its way of answering, and a host that asks them.
final class NameWorld: @unchecked Sendable {
  static let wallClock: UInt64 = 1_800_000_000

  let time: VirtualTime
  let net: MemoryNetwork
  let home: MemoryHost
  var servers: [ScriptedServer] = []
  private let began: NIODeadline

  /// - Parameter latency: one way.
  init(servers count: Int = 3, latency: TimeAmount = .milliseconds(20)) throws {
    time = try VirtualTime()
    net = MemoryNetwork(time, seed: 1)
    net.standard.latency = latency
    home = net.addHost("home")
    began = time.now
    for index in 0..<count { servers.append(ScriptedServer(net.addHost("server\(index)"), self)) }
  }

  /// Runs on the network's thread.
  func run<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
    defer { time.stop() }
    return try await home.loop.run {
      for server in self.servers { try await server.start() }
      let result = try await body()
      self.net.reset(seed: 0)
      return result
    }.get()
  }

  var clock: UInt64 { Self.wallClock + UInt64((time.now - began).nanoseconds / 1_000_000_000) }

  var set: NameSet {
    get throws { try NameSet(tld: "peer", servers: servers.map { try NameServerURL("http://\($0.host.name)") }) }
  }

  func client(patience: TimeAmount = .seconds(4)) throws -> NameClient {
    var conf = NameClientConf()
    conf.patience = patience
    conf.clock = { self.clock }
    return NameClient(sets: [try set], conf: conf, on: home.loop)
  }
}

/// A server that keeps names as the API says, or does something else.
final class ScriptedServer: PipeSink, @unchecked Sendable {
  enum Way {
    case honest
    /// Takes requests and never answers.
    case silent
    case slow(TimeAmount)
    /// Says of every name that this record is it, and that every push was taken.
    case liar(NameRecord)
    /// Answers with the first record it ever had of a name; takes everything.
    case replayer
    /// These bytes, whatever was asked; then it hangs up, or not.
    case bytes([UInt8], hangsUp: Bool)
    /// A body without an end.
    case endless
    /// Hangs up after each answer without having said so before.
    case hangsUp
    case full
  }

  let host: MemoryHost
  var way = Way.honest
  var records: [String: NameRecord] = [:]
  private var first: [String: NameRecord] = [:]
  private(set) var requests: [String] = []
  private(set) var connections = 0
  private unowned let world: NameWorld
  private var listener: Pipe?

  init(_ host: MemoryHost, _ world: NameWorld) { (self.host, self.world) = (host, world) }

  func start(port: UInt16 = 80, tls: TLSSetup? = nil) async throws {
    var conf = PipeConf()
    conf.dualStack = true
    conf.tls = tls
    listener = try await PipeOpener.open(
      .tcp, bind: Endpoint(ip: .wildcard(.v6), port: port), conf: conf, sink: self, on: host.loop
    ).get()
  }

  func stop() { _ = listener?.close(flush: .zero) }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }
  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    connections += 1
    return ScriptedConnection(self)
  }

  fileprivate func asked(_ method: String, _ path: String, _ body: [UInt8], _ pipe: Pipe) {
    requests.append("\(method) \(path)")
    switch way {
    case .silent: return
    case .bytes(let bytes, let hangsUp):
      Self.send(bytes, pipe)
      if hangsUp { _ = pipe.close(flush: .seconds(1)) }
    case .endless:
      Self.send(Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".utf8), pipe)
      flood(pipe)
    case .slow(let time):
      host.loop.assumeIsolated().scheduleTask(in: time) { self.answer(method, path, body, pipe) }
    default:
      answer(method, path, body, pipe)
      if case .hangsUp = way { _ = pipe.close(flush: .seconds(1)) }
    }
  }

  private func flood(_ pipe: Pipe) {
    guard pipe.isOpen else { return }
    Self.send(Array("400\r\n".utf8) + [UInt8](repeating: 0x20, count: 1024) + [13, 10], pipe)
    host.loop.assumeIsolated().scheduleTask(in: .milliseconds(10)) { self.flood(pipe) }
  }

  private func answer(_ method: String, _ path: String, _ body: [UInt8], _ pipe: Pipe) {
    let (status, json) = result(method, path, body)
    let head = "HTTP/1.1 \(status) X\r\nContent-Type: application/json\r\nContent-Length: \(json.count)\r\n\r\n"
    Self.send(Array(head.utf8) + json, pipe)
  }

  private func result(_ method: String, _ path: String, _ body: [UInt8]) -> (Int, [UInt8]) {
    func error(_ status: Int, _ code: String, _ more: String = "") -> (Int, [UInt8]) {
      (status, Array("{\"error\":{\"code\":\"\(code)\",\"message\":\"m\"}\(more)}".utf8))
    }
    let name = String(path.dropFirst("/v1/names/".count))
    if case .liar(let record) = way { return (200, record.json) }
    if case .replayer = way, let old = first[name] { return (200, old.json) }
    if case .full = way, method != "GET" { return error(429, "limit") }
    let kept = records[name]
    if method == "GET" { return kept.map { (200, $0.json) } ?? error(404, "not_found") }
    guard let record = try? NameRecord(json: body), (try? record.check(now: world.clock)) != nil else {
      return error(400, "bad_record")
    }
    if first[name] == nil { first[name] = record }
    guard let kept, !kept.isExpired(now: world.clock), !kept.isDeleted || kept.key == record.key else {
      if record.isDeleted { return error(404, "not_found") }
      records[name] = record
      return (201, record.json)
    }
    if kept.key != record.key { return error(403, "wrong_key") }
    if kept == record { return (200, record.json) }
    guard record.isNewer(than: kept) else {
      return error(409, "stale", ",\"record\":" + String(decoding: kept.json, as: UTF8.self))
    }
    records[name] = record
    return (200, record.json)
  }

  fileprivate static func send(_ bytes: [UInt8], _ pipe: Pipe) { _ = bytes.withUnsafeBytes { pipe.send($0) } }
}

/// Cuts a connection's bytes into requests.
private final class ScriptedConnection: PipeSink {
  private let server: ScriptedServer
  private var bytes: [UInt8] = []

  init(_ server: ScriptedServer) { self.server = server }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    bytes += message
    while let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) {
      let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
      let length = lines.first { $0.hasPrefix("Content-Length: ") }.flatMap { Int($0.dropFirst(16)) } ?? 0
      guard bytes.count - end.upperBound >= length, let words = lines.first?.split(separator: " "), words.count == 3
      else {
        break
      }
      let body = Array(bytes[end.upperBound..<end.upperBound + length])
      bytes.removeFirst(end.upperBound + length)
      server.asked(String(words[0]), String(words[1]), body, pipe)
    }
    return true
  }
}
