import NIOCore
import P2PDNet

/// The road in: a stranger's connection → limits → handshake → limits → pipe → the protocol's sink.
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
    logger.debug("a connection proved no key", metadata: ["peer": "\(peer)", "error": "\(error)"])
  }

  func accepted(_ peer: Endpoint, _ guest: Arrival.Guest) {
    let proof = guest.proof
    if let limit = counter.proven(peer.ip, proof.key) {
      refused(limit, peer, key: proof.key)
      return dismiss(proof, .limit, "this node takes no more pipes of one key")
    }
    let key = proof.key
    guard closing == nil, case .hosted(let name) = proof.agreed, guest.nomination?.kind == .use else {
      counter.ended(peer.ip, key)
      logger.debug("a node asked for a protocol not hosted", metadata: ["peer": "\(peer)", "key": "\(key.short)"])
      return proof.stream.close(linger: true)
    }
    let pipe = adopt(proof, protocol: name, path: path(of: peer.ip), conf: defaultConf) { pipe in
      if name.isEmpty { pipe.intercept = Node.echo }
    }
    pipe.ended.assumeIsolated().whenComplete { _ in self.counter.ended(peer.ip, key) }
    logger.debug(
      "accepted", metadata: ["pipe": "\(pipe.id)", "peer": "\(peer)", "key": "\(key.short)", "protocol": "\(name)"])
    let sink: (any PipeSink)?
    if let hosted = hosted[name] { sink = hosted.nodePipe(pipe) } else { sink = name.isEmpty ? EchoOnly.shared : nil }
    guard pipe.isOpen else { return }
    guard let sink else { return pipe.close(.closed, saying: "the protocol does not take this pipe") }
    pipe.sink = sink
    sink.pipeOpened(pipe)
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

  /// What kind of way an accepted connection came.
  private func path(of ip: IPAddress) -> DialPath {
    let route = NodeRoute(interface: 0, nic: ip.unmapped, port: 1)
    return DialPlan(to: [route], from: LocalAddress.all(of: interfaces)).candidates.first?.path
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
