import NIOCore
import NIOSSL
import P2PDNet
import P2PDTraversal

/// The road in: a stranger's connection, or one that this node has opened because another one asked it to → limits →
/// handshake and nomination → limits → pipe → the protocol's sink.
extension Node {
  func shouldAccept(_ peer: Endpoint) -> Bool {
    guard closing == nil else { return false }
    guard let limit = counter.admit(peer.ip) else { return true }
    refused(limit, peer, key: nil)
    return false
  }

  func acceptFailed(_ peer: Endpoint, _ error: NetError) {
    counter.failed(peer.ip)
    // Scanners knock all day: no more than a debug line.
    logger.debug("a connection became no pipe", metadata: ["peer": "\(peer)", "error": "\(error)"])
  }

  func accepted(_ peer: Endpoint, _ guest: Arrival.Guest) {
    if case .reversed = guest.proof.agreed { return reversed(guest.proof, from: peer) }
    take(guest, from: peer, by: PathRace.Way(.direct, path(of: peer.ip), peer))
  }

  /// Somebody dials back. Streams of one node are all as good: the connect that waits longest gets this one.
  private func reversed(_ proof: HandshakeGate.Proof, from peer: Endpoint) {
    // A pipe that this node wants itself does not count.
    counter.failed(peer.ip)
    let waiting = connectors.values.filter { $0.key == proof.key && $0.awaitsReverse }
    guard closing == nil, let connector = waiting.min(by: { $0.number < $1.number }) else {
      logger.debug(
        "a node dials back, and no connect waits for it", metadata: ["peer": "\(peer)", "key": "\(proof.key.short)"])
      return proof.stream.abort()
    }
    connector.reversed(proof, from: peer, by: path(of: peer.ip))
  }

  /// Leads a stream that this node has opened because the other one asked it to.
  /// - Parameter done: called once: nil when the stream was nominated, or why it was not.
  func receive(
    _ stream: Transport, by way: PathRace.Way, from key: NodeKey, isServer: Bool, within time: TimeAmount,
    done: @escaping (NetError?) -> Void
  ) throws(NetError) -> Arrival {
    let peer = way.remote ?? stream.remoteEndpoint ?? Endpoint(ip: .wildcard(.v4), port: 0)
    let context: NIOSSLContext
    do { context = try isServer ? serverContext : reverseContext() } catch { throw NetError(error, "answer") }
    guard shouldAccept(peer) else { throw NetError(.limit, "answer", cause: "this node takes no more pipes") }
    var id: ObjectIdentifier?
    let arrival = Arrival("\(way.strategy.rawValue) \(peer)", expected: key) { result in
      if let id { self.arrivals[id] = nil }
      switch result {
      case .success(let guest):
        self.take(guest, from: peer, by: way)
        done(nil)
      case .failure(let error):
        self.acceptFailed(peer, error)
        done(error)
      }
    }
    let known = ObjectIdentifier(arrival)
    id = known
    arrivals[known] = arrival
    arrival.start(over: stream, context: context, isServer: isServer, time: time, on: loop)
    return arrival
  }

  /// Makes a nominated stream the pipe it is to be.
  private func take(_ guest: Arrival.Guest, from peer: Endpoint, by way: PathRace.Way) {
    let proof = guest.proof
    let session = guest.nomination.map { Responder.Session(key: proof.key, id: $0.session) }
    if let session, guest.nomination?.kind == .move {
      // The pipe is counted already.
      counter.failed(peer.ip)
      if let pipe = relayed[session] {
        responders[session]?.chosen(way.strategy)
        return pipe.move(to: proof.stream, way)
      }
      // The way over the relay is the longer one: the pipe may be about to come.
      guard let responder = responders[session] else { return proof.stream.abort() }
      return responder.hold(proof.stream, way)
    }
    if let limit = counter.proven(peer.ip, proof.key) {
      refused(limit, peer, key: proof.key)
      return dismiss(proof, .limit, "this node takes no more pipes of one key")
    }
    let key = proof.key
    guard closing == nil, let session, let name = name(of: proof, session) else {
      counter.ended(peer.ip, key)
      logger.debug("a node asked for a protocol not hosted", metadata: ["peer": "\(peer)", "key": "\(key.short)"])
      return proof.stream.close(linger: true)
    }
    let pipe = pipe(of: proof, by: way, protocol: name, conf: defaultConf, relayed: { relayed[session] = $0 }) { pipe in
      if name.isEmpty { pipe.intercept = Node.echo }
    }
    pipe.ended.assumeIsolated().whenComplete { _ in
      self.counter.ended(peer.ip, key)
      if self.relayed.removeValue(forKey: session) != nil { self.responders[session]?.cancel() }
    }
    responders.note(used: session.id)
    if let responder = responders[session] {
      if let (stream, better) = responder.takeHeld() {
        relayed[session]?.move(to: stream, better)
        responder.chosen(better.strategy)
      } else {
        responder.chosen(way.strategy)
      }
    }
    logger.debug(
      "accepted",
      metadata: [
        "pipe": "\(pipe.id)", "peer": "\(peer)", "key": "\(key.short)", "protocol": "\(name)",
        "strategy": "\(way.strategy.rawValue)",
      ])
    let sink: (any PipeSink)?
    if let hosted = hosted[name] { sink = hosted.nodePipe(pipe) } else { sink = name.isEmpty ? EchoOnly.shared : nil }
    guard pipe.isOpen else { return }
    guard let sink else { return pipe.close(.closed, saying: "the protocol does not take this pipe") }
    pipe.sink = sink
    sink.pipeOpened(pipe)
  }

  /// What the pipe speaks: what TLS agreed on, or, where this node was TLS's client, what it was asked for. nil: a stream
  /// that can be no pipe.
  private func name(of proof: HandshakeGate.Proof, _ session: Responder.Session) -> String? {
    switch proof.agreed {
    case .hosted(let name): name
    case .reversed: responders[session]?.name
    case .notHosted, .notANode: nil
    }
  }

  /// Ends a connection that was proven but is not wanted, with words for the other side.
  private func dismiss(_ proof: HandshakeGate.Proof, _ code: NetError.Code, _ words: String) {
    var conf = defaultConf
    conf.framing = .message
    let pipe = Pipe.adopt(proof.stream, conf: conf, sink: nil, on: loop)
    pipe.close(code, saying: words)
  }

  private func refused(_ limit: AcceptLimit, _ peer: Endpoint, key: NodeKey?) {
    guard let unsaid = refusals.refused(limit, now: loop.now) else { return }
    logger.warning(
      "refused a connection: the limit of \(limit.rawValue) is reached",
      metadata: [
        "limit": "\(limit.rawValue)", "peer": "\(peer)", "key": "\(key?.short ?? "not asked for")",
        "unsaid": "\(unsaid)",
      ])
  }

  /// What kind of way leads to an address.
  func path(of ip: IPAddress) -> DialPath {
    let path = PeerPath(interface: 0, local: Endpoint(ip: ip.unmapped, port: 1))
    return DirectPlan(to: [path], from: LocalAddress.all(of: interfaces)).candidates.first?.path
      ?? (ip.family == .v6 ? .ipv6 : .ipv4)
  }

  // MARK: The built-in echo

  /// On the default protocol a message `ECHO x` comes back as `x`; no handler sees it.
  static func echo(_ message: UnsafeRawBufferPointer, _ pipe: Pipe) -> Bool {
    guard message.count >= echoMark.count, message.prefix(echoMark.count).elementsEqual(echoMark) else { return false }
    if case .full = pipe.send(UnsafeRawBufferPointer(rebasing: message.dropFirst(echoMark.count))) {
      // Who does not read its echoes sends no more of them.
      pipe.pause()
      pipe.whenWritable { _ in pipe.resume() }
    }
    return true
  }

  private static let echoMark = Array("ECHO ".utf8)
}

/// The default protocol of a node that hosts none: it echoes, and hears the rest without a word.
private final class EchoOnly: PipeSink, Sendable {
  static let shared = EchoOnly()
  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }
}
