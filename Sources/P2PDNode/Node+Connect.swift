import NIOCore
import NIOSSL
import P2PDNet
import P2PDTraversal

/// The ways to come to a pipe.
public typealias ConnectStrategy = P2PDTraversal.ConnectStrategy

/// The road out: address → plan → race → pipe.
extension Node {
  /// Opens a pipe to the node of an address, itself included.
  ///
  /// - Parameters:
  ///   - name: the protocol to speak; "" is the default one, which every node has.
  ///   - sink: gets the pipe's messages; without one they wait for ``Pipe/receive(from:timeout:_:)``.
  ///   - timeout: for everything: all attempts, their handshakes included.
  ///   - strategies: the ways to try; all at once. Those that need the other node to take part need a broker that both
  ///     reach.
  ///   - conf: the pipe's settings. Framing and TLS are the node's own.
  ///   - watch: is told each step in words, on the loop, until there is nothing more to try.
  /// - Throws: ``NetError``. `noProtocol`: the node does not host it. `wrongKey`, `notP2PD`: something else answered.
  /// `limit`: it takes no
  ///   more pipes. `timeout`, `refused`, `unreachable`: what the attempts met; each is in `attempts`.
  public func connect(
    _ to: NodeAddress, protocol name: String = "", sink: (any PipeSink)? = nil,
    timeout: TimeAmount = Node.connectTimeout,
    strategies: [ConnectStrategy] = ConnectStrategy.allCases, conf: PipeConf? = nil,
    watch: (@Sendable (String) -> Void)? = nil
  ) async throws -> Pipe {
    let passed = Passed((sink, watch))
    return try await loop.flatSubmit {
      self.connecting(
        to, protocol: name, sink: passed.value.0, timeout: timeout, strategies: strategies, conf: conf,
        watch: passed.value.1
      ).pipe
    }.get()
  }

  /// The same for callers on the loop. `cancel` gives it up: the future fails with `cancelled`.
  public func connecting(
    _ to: NodeAddress, protocol name: String = "", sink: (any PipeSink)? = nil,
    timeout: TimeAmount = Node.connectTimeout,
    strategies: [ConnectStrategy] = ConnectStrategy.allCases, conf: PipeConf? = nil, watch: ((String) -> Void)? = nil
  ) -> (pipe: EventLoopFuture<Pipe>, cancel: () -> Void) {
    loop.assertInEventLoop()
    let promise = loop.makePromise(of: Pipe.self)
    let what = "connect to node \(to.key.short)"
    do {
      if closing != nil { throw NetError(.closed, what, cause: "the node is closed") }
      if strategies.isEmpty { throw NetError(.unsupported, what, cause: "no strategy is allowed") }
      let messenger = messenger(to: to)
      var plan = RacePlan(
        Set(strategies), DirectPlan(to: to.routes.map(\.path), from: LocalAddress.all(of: interfaces)),
        noSignalling: messenger == nil ? whyNoSignal(to) : nil)
      plan.expectsReverse = side(punch: nil).paths.contains { $0.external.map { $0.port != 0 } ?? false }
      plan.opensRelayEarly = !configuration.servers.turn.isEmpty && isHardToPunch
      var made: Connector?
      let connector = try connector(to: to.key, name, plan, timeout: timeout, messenger, watch: watch) { result in
        self.connected(made, result, to, name, strategies, sink, conf ?? self.defaultConf, promise)
      } ended: {
        made.flatMap { self.improvements[$0.session] }?.tried()
        made = nil
      }
      made = connector
      connector.start()
      return (promise.futureResult, { [weak connector] in connector?.cancel() })
    } catch {
      promise.fail(error)
      return (promise.futureResult, {})
    }
  }

  /// One that is kept until its end.
  private func connector(
    _ session: SessionID = SessionID(), to key: NodeKey, _ name: String, _ plan: RacePlan, timeout: TimeAmount,
    _ messenger: (any Messenger)?, watch: ((String) -> Void)? = nil,
    won: @escaping (Result<Connector.Won, NetError>) -> Void, ended: @escaping () -> Void
  ) throws -> Connector {
    connects &+= 1
    var id: ObjectIdentifier?
    let connector = try Connector(
      connects, session: session, to: key, protocol: name, plan, deadline: loop.now + timeout,
      context: try clientContext(name), messenger: messenger, of: self, watch: watch ?? traced(session), won: won
    ) {
      if let id { self.connectors[id] = nil }
      ended()
    }
    let known = ObjectIdentifier(connector)
    id = known
    connectors[known] = connector
    return connector
  }

  /// The steps of a connect that nobody watches, for the log.
  private func traced(_ session: SessionID) -> ((String) -> Void)? {
    guard logger.logLevel <= .trace else { return nil }
    return { [logger] step in logger.trace("connect", metadata: ["session": "\(session)", "step": "\(step)"]) }
  }

  private func whyNoSignal(_ to: NodeAddress) -> NetError {
    let cause = signalling == nil ? "this node is offline" : "the other node's address names no broker"
    return NetError(.unsupported, "signal", cause: cause)
  }

  private func connected(
    _ connector: Connector?, _ result: Result<Connector.Won, NetError>, _ to: NodeAddress, _ name: String,
    _ strategies: [ConnectStrategy], _ sink: (any PipeSink)?, _ conf: PipeConf, _ promise: EventLoopPromise<Pipe>
  ) {
    do {
      let won = try result.get()
      var relayed: RelayedPipe?
      let pipe = pipe(of: won.proof, by: won.way, protocol: name, conf: conf, relayed: { relayed = $0 }) { _ in }
      if let relayed, let connector { improve(pipe, relayed, connector, to, name, strategies) }
      logger.debug(
        "connected",
        metadata: [
          "pipe": "\(pipe.id)", "peer": "\(pipe.peer?.description ?? "")", "key": "\(won.proof.key.short)",
          "protocol": "\(name)", "strategy": "\(won.way.strategy.rawValue)", "path": "\(won.way.path.rawValue)",
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

  /// Lets a relayed pipe move to a better way: the race goes on, and there will be others.
  private func improve(
    _ pipe: Pipe, _ relayed: RelayedPipe, _ connector: Connector, _ to: NodeAddress, _ name: String,
    _ strategies: [ConnectStrategy]
  ) {
    connector.handedOut(relayed)
    let session = connector.session
    let improvement = Improvement(of: pipe, after: connector) { [weak self] improvement in
      guard let self, closing == nil else { return nil }
      let messenger = messenger(to: to)
      let plan = RacePlan(
        Set(strategies), DirectPlan(to: to.routes.map(\.path), from: LocalAddress.all(of: interfaces)),
        noSignalling: messenger == nil ? whyNoSignal(to) : nil, isRelayed: true)
      let next = try? self.connector(
        session, to: to.key, name, plan, timeout: Self.timeToImprove, messenger, won: { _ in },
        ended: { [weak improvement] in improvement?.tried() })
      next?.handedOut(relayed)
      return next
    }
    improvements[session] = improvement
    pipe.ended.assumeIsolated().whenComplete { _ in
      improvement.end()
      self.improvements[session] = nil
    }
  }

  /// When the search for a way without a relay, which goes on beside a relayed pipe, is over for now: then
  /// ``Pipe/whyNoBetter`` says what it met, or the pipe is about to move. At once for other pipes. On the loop.
  public func searched(for pipe: Pipe) -> EventLoopFuture<Void> {
    improvements.values.first { $0.isOf(pipe) }?.searched ?? loop.makeSucceededVoidFuture()
  }

  /// Of no way out is it known at which port a peer would see it.
  private var isHardToPunch: Bool {
    let known = knowledge.reports.values.filter { $0.tcp.mapping != nil }
    return !known.isEmpty
      && known.allSatisfy { report in
        if case .sequential? = report.tcp.allocation { return false }
        return report.tcp.mapping?.isPredictable == false
      }
  }

  /// What a connect gets where nobody says: twice what the slowest strategy takes.
  public static let connectTimeout = TimeAmount.seconds(10)
  private static let timeToImprove = TimeAmount.seconds(10)

  func reverseContext() throws -> NIOSSLContext {
    if let reversing { return reversing }
    let made = try tls.reverse()
    reversing = made
    return made
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
