import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// A TURN server with TCP allocations in a network of memory, as honest as the test wants it. Confined to its host's loop.
final class FakeRelay: PipeSink, @unchecked Sendable {
  /// Sees each request first; true: it has dealt with it.
  var misbehave: ((FakeRelay, STUNMessage, Line) -> Bool)?
  /// The relayed address it tells of; nil: the real one.
  var claims: Endpoint?
  /// A nonce of each connection's own, as some servers have it.
  var hasNonceForEach = false
  /// The answer to a ConnectionBind and what the peer said before go out in one piece.
  var joins = true
  /// Peers that are not let through are not cut off, as if word of that were lost.
  var keepsStrangers = false

  private(set) var asked: [STUNMethod] = []
  private(set) var lines: [ObjectIdentifier: Line] = [:]
  private(set) var accepted = 0
  private var listener: Pipe?
  private var relayed: Pipe?
  private var owner: Line?
  private var permitted: Set<IPAddress> = []
  private var waiting: [UInt32: Line] = [:]
  private var lastConnection: UInt32 = 0
  let host: MemoryHost
  private let key = STUNKey.longTerm(username: "ann", realm: "test", password: "secret")

  /// One connection.
  final class Line: PipeSink {
    let pipe: Pipe
    unowned let relay: FakeRelay
    let isPeer: Bool
    let nonce: [UInt8]
    var other: Line?
    private var unread: [UInt8] = []

    init(_ pipe: Pipe, _ relay: FakeRelay, isPeer: Bool, nonce: String) {
      self.pipe = pipe
      self.relay = relay
      self.isPeer = isPeer
      self.nonce = Array(nonce.utf8)
    }

    func send(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { pipe.send($0) } }
    func take() -> [UInt8] {
      defer { unread = [] }
      return unread
    }

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      if let other {
        other.send([UInt8](bytes))
        return true
      }
      unread += bytes
      while !isPeer, other == nil, let (frame, length) = try? TURNFrame.next(in: unread[...]) {
        unread.removeFirst(length)
        if case .message(let message) = frame { relay.heard(message, self) }
      }
      return true
    }

    func pipeEnded(_ pipe: Pipe, reason: EndReason) {
      other?.pipe.close()
      other = nil
      relay.ended(self)
    }
  }

  init(_ host: MemoryHost) { self.host = host }

  func start() async throws {
    listener = try await PipeOpener.open(
      .tcp, bind: Endpoint(ip: .wildcard(.v4), port: 0), sink: self, on: host.loop
    ).get()
  }

  var place: Endpoint { Endpoint(ip: host.addresses[0], port: listener?.localEndpoint?.port ?? 0) }
  var url: ServerURL {
    ServerURL(.turn, host: place.ip.description, port: place.port, user: "ann", password: "secret")
  }
  var hasAllocation: Bool { relayed != nil }

  func close() {
    listener?.close(flush: .zero)
    relayed?.close(flush: .zero)
    for line in lines.values { line.pipe.close(flush: .zero) }
  }

  /// Drops every connection of clients, as a server that is restarted.
  func dropClients() { for line in lines.values where !line.isPeer { line.pipe.close(flush: .zero) } }

  // MARK: Connections

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    accepted += 1
    let isPeer = server === relayed
    let line = Line(pipe, self, isPeer: isPeer, nonce: hasNonceForEach ? "n\(accepted)" : "n")
    if isPeer {
      guard let peer = pipe.peer?.endpoint, permitted.contains(peer.ip) else { return keepsStrangers ? line : nil }
      lastConnection += 1
      waiting[lastConnection] = line
      attempt(lastConnection, peer)
    }
    lines[ObjectIdentifier(line)] = line
    return line
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }

  func ended(_ line: Line) {
    lines[ObjectIdentifier(line)] = nil
    for (id, waiter) in waiting where waiter === line { waiting[id] = nil }
    guard line === owner else { return }
    owner = nil
    relayed?.close(flush: .zero)
    relayed = nil
    for line in lines.values where line.isPeer { line.pipe.close(flush: .zero) }
  }

  func attempt(_ id: UInt32, _ peer: Endpoint) {
    let word = STUNMessage(.indication, .connectionAttempt, attributes: [.xorPeerAddress(peer), .connectionID(id)])
    owner?.send((try? word.encoded()) ?? [])
  }

  // MARK: Requests

  private func heard(_ request: STUNMessage, _ line: Line) {
    asked.append(request.method)
    if let misbehave, misbehave(self, request, line) { return }
    guard let key, request.isAuthentic(key), request.nonce == line.nonce else { return challenge(request, line) }
    switch request.method {
    case .allocate:
      owner = line
      PipeOpener.open(
        .tcp, bind: Endpoint(ip: .wildcard(.v4), port: 0), conf: Self.resetting, sink: self, on: host.loop
      )
      .assumeIsolated().whenSuccess { pipe in
        self.relayed = pipe
        let real = Endpoint(ip: self.host.addresses[0], port: pipe.localEndpoint?.port ?? 0)
        self.answer(request, line, [.xorRelayedAddress(self.claims ?? real), .lifetime(600)])
      }
    case .refresh:
      if request.lifetime == 0 {
        relayed?.close(flush: .zero)
        relayed = nil
      }
      answer(request, line, [.lifetime(request.lifetime ?? 600)])
    case .createPermission:
      if let ip = request.peer?.ip { permitted.insert(ip) }
      answer(request, line, [])
    case .connectionBind:
      guard let id = request.connectionID, let peer = waiting.removeValue(forKey: id) else {
        return refuse(request, line, 400)
      }
      let answer = encoded(request, [])
      let early = peer.take()
      if joins {
        line.send(answer + early)
      } else {
        line.send(answer)
        line.send(early)
      }
      (line.other, peer.other) = (peer, line)
    case .connect: connect(request, line)
    default: refuse(request, line, 400)
    }
  }

  /// RFC 6062 §5.2.
  private func connect(_ request: STUNMessage, _ line: Line) {
    guard line === owner, relayed != nil else { return refuse(request, line, 437) }
    guard let peer = request.peer else { return refuse(request, line, 400) }
    guard !lines.values.contains(where: { $0.isPeer && $0.pipe.peer?.endpoint == peer }) else {
      return refuse(request, line, 446)
    }
    PipeOpener.open(.tcp, to: .endpoint(peer), conf: Self.resetting, on: host.loop).assumeIsolated().whenComplete {
      switch $0 {
      case .failure: self.refuse(request, line, 447)
      case .success(let pipe):
        guard self.relayed != nil else {
          pipe.close(flush: .zero)
          return
        }
        let far = Line(pipe, self, isPeer: true, nonce: "")
        pipe.sink = far
        self.lines[ObjectIdentifier(far)] = far
        self.lastConnection += 1
        self.waiting[self.lastConnection] = far
        self.answer(request, line, [.connectionID(self.lastConnection)])
      }
    }
  }

  func challenge(_ request: STUNMessage, _ line: Line, code: Int = 401, nonce: String? = nil, realm: String = "test") {
    let attributes: [STUNAttribute] = [
      .errorCode(code, ""), .realm(realm), .nonce(nonce.map { Array($0.utf8) } ?? line.nonce),
    ]
    line.send(
      (try? STUNMessage(.failure, request.method, transaction: request.transaction, attributes: attributes).encoded())
        ?? [])
  }

  func refuse(_ request: STUNMessage, _ line: Line, _ code: Int, _ more: [STUNAttribute] = []) {
    let attributes: [STUNAttribute] = [.errorCode(code, "")] + more
    let answer = STUNMessage(.failure, request.method, transaction: request.transaction, attributes: attributes)
    line.send((try? answer.encoded(key: key)) ?? [])
  }

  func answer(_ request: STUNMessage, _ line: Line, _ attributes: [STUNAttribute]) {
    line.send(encoded(request, attributes))
  }

  private func encoded(_ request: STUNMessage, _ attributes: [STUNAttribute]) -> [UInt8] {
    let answer = STUNMessage(.success, request.method, transaction: request.transaction, attributes: attributes)
    return (try? answer.encoded(key: key)) ?? []
  }

  private static let resetting: PipeConf = {
    var conf = PipeConf()
    conf.linger = 0
    return conf
  }()
}

/// Two peers and a relay, each on a host of its own.
final class RelayWorld: @unchecked Sendable {
  let time: VirtualTime
  let net: MemoryNetwork
  let near, far: MemoryHost
  let relay: FakeRelay

  init() throws {
    time = try VirtualTime()
    net = MemoryNetwork(time, seed: 1)
    near = net.addHost("near")
    far = net.addHost("far")
    relay = FakeRelay(net.addHost("relay"))
    // Round trips of 40 and 60 ms.
    net.change(near, relay.host) { $0.latency = .milliseconds(20) }
    net.change(far, relay.host) { $0.latency = .milliseconds(30) }
  }

  /// Runs a whole test on the world's thread, so that no time passes but where it waits.
  func run(_ body: @escaping @Sendable (RelayWorld) async throws -> Void) async throws {
    defer { time.stop() }
    try await near.loop.run {
      try await self.relay.start()
      try await body(self)
      self.relay.close()
      self.net.reset(seed: 0)
    }.get()
  }

  /// Milliseconds since a moment.
  func since(_ moment: NIODeadline) -> Int64 { (time.now - moment).nanoseconds / 1_000_000 }

  func path(_ servers: [ServerURL]? = nil) -> RelayPath { RelayPath(servers: servers ?? [relay.url], on: near.loop) }

  func sleep(_ time: TimeAmount) async throws { try await near.loop.scheduleTask(in: time) {}.futureResult.get() }

  /// What `open()` fails with; nil if it does not.
  func failure(_ servers: [ServerURL]? = nil) async throws -> NetError? {
    let path = path(servers)
    do {
      _ = try await path.open().get()
      try await path.close().get()
      return nil
    } catch {
      return error as? NetError
    }
  }
}
