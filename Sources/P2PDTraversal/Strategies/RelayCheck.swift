import NIOCore
import P2PDNet

/// Looks at one relay once, as a node would use it: over TCP or TLS, with the configured password. A Binding tells whether
/// it is there and how fast, an allocation, given back at once, whether it relays for this host. Confined to its loop.
public enum RelayCheck {
  /// - Parameters:
  ///   - tls: for `turns:`.
  ///   - patience: for all of it.
  /// - Returns: never fails: what went wrong is what is told.
  public static func run(
    _ server: ServerURL, tls: TLSSetup?, patience: TimeAmount, on loop: any EventLoop
  ) -> EventLoopFuture<ServerFinding> {
    // Whatever transport the URL names: streams are relayed over nothing else (RFC 6062 §4.1).
    let spoken = ServerURL(server.scheme, host: server.host, port: server.port, transport: .tcp)
    let binding = STUNServerCheck.run(spoken, tls: tls, patience: patience, on: loop)
    guard server.user != nil || server.secret != nil else {
      return binding.map { judge(server, $0, nil) }
    }
    let allocated = allocate(server, tls, patience, loop)
    return binding.flatMap { found in allocated.map { judge(server, found, $0) } }
  }

  private static func allocate(
    _ server: ServerURL, _ tls: TLSSetup?, _ patience: TimeAmount, _ loop: any EventLoop
  ) -> EventLoopFuture<Result<Endpoint, NetError>> {
    let path = RelayPath(servers: [server], tls: tls.map { ServerTLS($0, on: loop) }, on: loop)
    let opened = path.open()
    let promise = loop.makePromise(of: Result<Endpoint, NetError>.self)
    let seconds = Double(patience.nanoseconds / 100_000_000) / 10
    let deadline = loop.assumeIsolated().scheduleTask(in: patience) {
      promise.succeed(.failure(NetError(.timeout, "allocate", cause: "no allocation in \(seconds) s")))
      path.close()
    }
    opened.assumeIsolated().whenComplete { result in
      deadline.cancel()
      switch result {
      case .success(let endpoint):
        // Given back before it is told of: nothing stays at the server.
        path.close().assumeIsolated().whenComplete { _ in promise.succeed(.success(endpoint)) }
      case .failure(let error):
        promise.succeed(.failure(NetError(error, "allocate")))
        path.close()
      }
    }
    return promise.futureResult
  }

  /// - Parameter allocation: nil where there is no password to ask with.
  static func judge(_ server: ServerURL, _ binding: ServerFinding, _ allocation: Result<Endpoint, NetError>?)
    -> ServerFinding
  {
    var finding = ServerFinding(server.description, binding.outcome)
    (finding.setup, finding.roundTrip, finding.problem) = (binding.setup, binding.roundTrip, binding.problem)
    guard binding.outcome == .answered else { return finding }
    switch allocation {
    case .success(let endpoint)?: finding.address = endpoint
    case .failure(let error)?:
      let failed = ServerFinding(server.description, failed: error)
      // It answers, so what else it met is its refusal.
      finding.outcome = failed.outcome == .silent ? .silent : .rejected
      finding.problem = failed.problem
    case nil:
      finding.outcome = .rejected
      finding.problem = "no user and password are configured, and relays want them"
    }
    return finding
  }
}
