import NIOCore

/// Takes the connections of a TCP server pipe. The listener holds it until it closes.
final class PipeServer: ListenerOwner {
  private let conf: PipeConf
  private let server: Pipe
  /// The caller asked about last.
  private var caller: Peer?

  init(_ server: Pipe, _ conf: PipeConf) {
    self.server = server
    self.conf = conf
  }

  func refusal(of endpoint: Endpoint?) -> [UInt8]? {
    let peer = endpoint.map { Peer($0) } ?? Peer(unixPath: "")
    guard server.isOpen, let sink = server.sink, sink.pipeShouldAccept(from: peer, by: server) else { return [] }
    caller = peer
    return nil
  }

  func accepted(_ stream: Transport) {
    guard let peer = caller else { return stream.close(linger: false) }
    caller = nil
    guard let setup = conf.tls else { return take(stream, from: peer) }
    var deadline: Scheduled<Void>?
    let tls = TLSTransport.server(over: stream, context: setup.context, on: server.loop) { result in
      deadline?.cancel()
      switch result {
      case .success(let tls): self.take(tls, from: peer)
      case .failure(let error): self.failed(StreamOpening.handshakeFailure(error), peer)
      }
    }
    deadline = server.loop.assumeIsolated().scheduleTask(in: conf.conTimeout) {
      tls.close(linger: false)
      self.failed(NetError(.timeout, "TLS handshake with \(peer)"), peer)
    }
  }

  private func failed(_ error: NetError, _ peer: Peer) {
    server.sink?.pipeAcceptFailed(from: peer, error: error, by: server)
  }

  private func take(_ transport: Transport, from peer: Peer) {
    guard server.isOpen, let acceptor = server.sink else { return transport.close(linger: false) }
    let pipe = Pipe(proto: .tcp, isServer: false, loop: server.loop, conf: conf, transport: transport)
    pipe.peer = peer
    pipe.route = server.route
    guard let sink = acceptor.pipeAccepted(pipe, by: server) else { return pipe.end(abruptly: .local) }
    pipe.sink = sink
    pipe.server = server
    server.clients[pipe.id] = pipe
    pipe.opened()
  }
}
