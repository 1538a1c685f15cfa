import NIOCore

/// One attempt to open a stream: the connection, then TLS where it is asked for, both within `conTimeout`. Confined to its
/// loop.
final class StreamOpening: @unchecked Sendable {
  private let request: OpenRequest
  private let network: any Network
  private let name: String?
  private let what: String
  private var done: ((Result<Transport, NetError>) -> Void)?
  private var deadline: Scheduled<Void>?
  private var attempt: (any StreamAttempt)?
  private var tls: TLSTransport?

  /// - Parameters:
  ///   - name: what TLS expects to find at the other end.
  ///   - done: called once, not after ``cancel()``, and not before this returns. The stream reads nothing yet.
  init(
    _ request: OpenRequest, _ network: any Network, to address: StreamAddress, name: String?,
    _ done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    self.request = request
    self.network = network
    self.name = name
    what = "connect to \(address)"
    self.done = done
    let timeout = request.conf.conTimeout
    deadline = request.loop.assumeIsolated().scheduleTask(in: timeout) {
      self.finish(
        .failure(NetError(.timeout, self.what, cause: "no answer in \(Double(timeout.nanoseconds) / 1e9) s")))
    }
    var options = request.streamOptions
    if case .ip(let endpoint) = address, request.bind?.ip.family == endpoint.ip.family { options.bind = request.bind }
    attempt = network.connectStream(to: address, options) { self.connected($0) }
  }

  /// The connection stands and TLS is being made.
  var isInHandshake: Bool { tls != nil }

  func cancel() {
    done = nil
    clean()
  }

  private func connected(_ result: Result<Transport, NetError>) {
    attempt = nil
    guard case .success(let stream) = result, let setup = request.conf.tls else { return finish(result) }
    let serverName = (setup.serverName ?? name).flatMap { IPAddress($0) == nil ? $0 : nil }
    do throws(NetError) {
      tls = try TLSTransport.client(
        over: stream, context: setup.context, serverName: serverName, on: request.loop
      ) { result in
        self.tls = nil
        self.finish(result.map { $0 as Transport }.mapError { Self.handshakeFailure($0) })
      }
    } catch {
      finish(.failure(error))
    }
  }

  private func finish(_ result: Result<Transport, NetError>) {
    guard let done else { return clean() }
    self.done = nil
    clean()
    done(
      result.mapError { NetError($0.code, what, cause: $0.cause.isEmpty ? $0.description : $0.cause) })
  }

  private func clean() {
    deadline?.cancel()
    deadline = nil
    attempt?.cancel()
    attempt = nil
    tls?.close(linger: false)
    tls = nil
  }

  static func handshakeFailure(_ error: any Error) -> NetError {
    (error as? NetError) ?? NetError(.tls, "TLS handshake", cause: TLSSetup.explain(error))
  }
}
