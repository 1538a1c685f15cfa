import NIOCore
import P2PDNet

/// Looks at one STUN or TURN server once, over the transport that it is configured for: one Binding, which both kinds
/// answer without credentials (RFC 8656 §5), and its round trip. Confined to its loop.
public final class STUNServerCheck: @unchecked Sendable {
  private let server: ServerURL
  private let loop: any EventLoop
  private let began: NIODeadline
  private let promise: EventLoopPromise<ServerFinding>
  private var deadline: Scheduled<Void>?
  private var close: (() -> Void)?
  private var isOver = false

  /// - Parameters:
  ///   - tls: for a server that wants it.
  ///   - patience: for all of it.
  /// - Returns: never fails: what went wrong is what is told.
  public static func run(
    _ server: ServerURL, tls: TLSSetup?, patience: TimeAmount, on loop: any EventLoop
  ) -> EventLoopFuture<ServerFinding> {
    let check = STUNServerCheck(server, on: loop)
    check.start(tls, patience)
    return check.promise.futureResult
  }

  private init(_ server: ServerURL, on loop: any EventLoop) {
    self.server = server
    self.loop = loop
    began = loop.now
    promise = loop.makePromise()
  }

  private func start(_ tls: TLSSetup?, _ patience: TimeAmount) {
    deadline = loop.assumeIsolated().scheduleTask(in: patience) {
      let seconds = Double(patience.nanoseconds / 100_000_000) / 10
      self.finish(.failure(NetError(.timeout, "ask \(self.server)", cause: "no answer in \(seconds) s")))
    }
    do throws(NetError) {
      let network = try loop.requireNetwork("ask \(server)")
      network.resolve(server.host, families: [.v4, .v6], timeout: patience).assumeIsolated().whenComplete { result in
        switch result {
        case .failure(let error): self.finish(.failure(NetError(error, "ask \(self.server)")))
        case .success(let found):
          // IPv4 first: a server without it is rare, a host without IPv6 is not.
          let places = [AddressFamily.v4, .v6].compactMap { family in found.first { $0.family == family } }
          self.ask(places.map { Endpoint(ip: $0, port: self.server.port) }[...], tls)
        }
      }
    } catch {
      finish(.failure(error))
    }
  }

  private func ask(_ places: ArraySlice<Endpoint>, _ tls: TLSSetup?) {
    guard !isOver else { return }
    guard let place = places.first else {
      return finish(.failure(NetError(.dns, "ask \(server)", cause: "its name has no address")))
    }
    let failed = { (error: any Error) in
      let error = NetError(error, "ask \(place)")
      if places.count > 1, error.code == .unreachable || error.code == .unsupported {
        self.ask(places.dropFirst(), tls)
      } else {
        self.finish(.failure(error))
      }
    }
    if server.transport == .udp {
      STUNSocket.open(bind: Endpoint(ip: .wildcard(place.ip.family), port: 0), on: loop)
        .assumeIsolated().whenComplete { result in
          switch result {
          case .failure(let error): failed(error)
          case .success(let socket):
            guard self.keep({ socket.close() }) else { return }
            socket.bind(place) { self.finish($0) }
          }
        }
    } else {
      var setup = server.scheme.isTLS ? tls : nil
      setup?.serverName = server.host
      STUNStream.connect(place, tls: setup, timeout: Self.connectPatience, on: loop)
        .assumeIsolated().whenComplete { result in
          switch result {
          case .failure(let error): failed(error)
          case .success(let stream):
            guard self.keep({ stream.close() }) else { return }
            stream.bind { self.finish($0) }
          }
        }
    }
  }

  /// False where it came too late, and was closed.
  private func keep(_ close: @escaping () -> Void) -> Bool {
    guard !isOver else {
      close()
      return false
    }
    self.close = close
    return true
  }

  private func finish(_ result: Result<STUNAnswer, NetError>) {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    deadline = nil
    promise.succeed(finding(result))
    // On the next turn: this may be called from within the answer.
    guard let close else { return }
    self.close = nil
    loop.assumeIsolated().execute { close() }
  }

  private func finding(_ result: Result<STUNAnswer, NetError>) -> ServerFinding {
    switch result {
    case .failure(let error): return ServerFinding(server.description, failed: error)
    case .success(let answer):
      guard answer.message.kind == .success, answer.message.mapped != nil else {
        var finding = ServerFinding(server.description, .rejected)
        finding.problem =
          answer.message.error.map { "error \($0.code) \($0.reason.prefix(80))" } ?? "it tells no address"
        return finding
      }
      var finding = ServerFinding(server.description, .answered)
      finding.setup = loop.now - began
      if answer.isRoundTrip { finding.roundTrip = answer.time }
      return finding
    }
  }

  private static let connectPatience: TimeAmount = .seconds(4)
}
