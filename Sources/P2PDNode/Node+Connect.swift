import NIOCore
import NIOSSL
import P2PDNet
import P2PDTraversal

/// The road out: address → plan → race → pipe.
extension Node {
  /// Opens a pipe to the node of an address, itself included.
  ///
  /// - Parameters:
  ///   - name: the protocol to speak; "" is the default one, which every node has.
  ///   - sink: gets the pipe's messages; without one they wait for ``Pipe/receive(from:timeout:_:)``.
  ///   - timeout: for everything: all attempts, their handshakes included.
  ///   - conf: the pipe's settings. Framing and TLS are the node's own.
  /// - Throws: ``NetError``. `noProtocol`: the node does not host it. `wrongKey`, `notP2PD`: something else answered.
  /// `limit`: it takes no
  ///   more pipes. `timeout`, `refused`, `unreachable`: what the attempts met; each is in `attempts`.
  public func connect(
    _ to: NodeAddress, protocol name: String = "", sink: (any PipeSink)? = nil, timeout: TimeAmount = .seconds(10),
    strategies: [ConnectStrategy] = ConnectStrategy.allCases, conf: PipeConf? = nil
  ) async throws -> Pipe {
    let sink = Passed(sink)
    return try await loop.flatSubmit {
      self.connecting(to, protocol: name, sink: sink.value, timeout: timeout, strategies: strategies, conf: conf).pipe
    }.get()
  }

  /// The same for callers on the loop. `cancel` gives it up: the future fails with `cancelled`.
  public func connecting(
    _ to: NodeAddress, protocol name: String = "", sink: (any PipeSink)? = nil, timeout: TimeAmount = .seconds(10),
    strategies: [ConnectStrategy] = ConnectStrategy.allCases, conf: PipeConf? = nil
  ) -> (pipe: EventLoopFuture<Pipe>, cancel: () -> Void) {
    loop.assertInEventLoop()
    let promise = loop.makePromise(of: Pipe.self)
    do {
      if closing != nil { throw NetError(.closed, "connect to node \(to.key.short)", cause: "the node is closed") }
      guard strategies.contains(.direct) else {
        throw NetError(
          .unsupported, "connect to node \(to.key.short)", cause: "this version knows the strategy direct only")
      }
      let dialler = Dialler(
        DialPlan(to: to.routes, from: LocalAddress.all(of: interfaces)), key: to.key, context: try clientContext(name),
        deadline: loop.now + timeout, network: try loop.requireNetwork("connect"), loop: loop
      ) { result in self.dialled(result, name, sink, conf ?? self.defaultConf, promise) }
      let id = ObjectIdentifier(dialler)
      diallers[id] = dialler
      promise.futureResult.assumeIsolated().whenComplete { _ in self.diallers[id] = nil }
      dialler.start()
      return (promise.futureResult, { [weak dialler] in dialler?.cancel() })
    } catch {
      promise.fail(error)
      return (promise.futureResult, {})
    }
  }

  private func dialled(
    _ result: Result<Dialler.Winner, NetError>, _ name: String, _ sink: (any PipeSink)?, _ conf: PipeConf,
    _ promise: EventLoopPromise<Pipe>
  ) {
    do {
      let winner = try result.get()
      if let error = winner.proof.stream.sendPreface(Nomination(.use, SessionID()).bytes) { throw error }
      let pipe = adopt(winner.proof, protocol: name, path: winner.path, conf: conf) { _ in }
      logger.debug(
        "connected",
        metadata: [
          "pipe": "\(pipe.id)", "peer": "\(pipe.peer?.description ?? "")", "key": "\(winner.proof.key.short)",
          "protocol": "\(name)", "path": "\(winner.path.rawValue)",
        ])
      if let sink {
        pipe.sink = sink
        sink.pipeOpened(pipe)
      }
      promise.succeed(pipe)
    } catch {
      promise.fail(NetError(error, "connect"))
    }
  }

  /// A context per protocol's name, kept: making one costs more than a handshake.
  private func clientContext(_ name: String) throws -> NIOSSLContext {
    if let context = clientContexts[name] { return context }
    guard ALPN.isValid(name) else {
      throw NetError(
        .badAddress, "connect", cause: "a protocol's name is 1 to 64 of the characters A-Z a-z 0-9 . _ -, not \(name)")
    }
    if clientContexts.count >= Self.maximumClientContexts { clientContexts.removeAll() }
    let context = try tls.client(protocol: name)
    clientContexts[name] = context
    return context
  }

  private static let maximumClientContexts = 32
}

/// Carries a loop-confined object to its loop.
private struct Passed<T>: @unchecked Sendable {
  let value: T
  init(_ value: T) { self.value = value }
}
