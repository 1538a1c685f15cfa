import NIOCore

extension OpenRequest {
  /// Connects to the first of several addresses that answers (RFC 8305), and opens that pipe.
  func race(_ network: any Network, _ endpoints: [Endpoint], name: String?, _ promise: EventLoopPromise<Pipe>) {
    PipeRace(self, network, name: name, promise).perform(.start(endpoints))
  }
}

/// Drives ``HappyEyeballs`` over TCP connections. Confined to the loop of its request.
private final class PipeRace: @unchecked Sendable {
  private let request: OpenRequest
  private let network: any Network
  private let name: String?
  private let promise: EventLoopPromise<Pipe>
  private var decision = HappyEyeballs<Endpoint>()
  private var openings: [Int: StreamOpening] = [:]
  private var streams: [Int: (Transport, Endpoint)] = [:]
  private var alarm: Scheduled<Void>?
  private var deadline: Scheduled<Void>?

  init(_ request: OpenRequest, _ network: any Network, name: String?, _ promise: EventLoopPromise<Pipe>) {
    self.request = request
    self.network = network
    self.name = name
    self.promise = promise
    request.ticket?.watch { self.perform(.stop($0)) }
    let timeout = request.conf.conTimeout
    deadline = request.loop.assumeIsolated().scheduleTask(in: timeout) {
      let seconds = "\(Double(timeout.nanoseconds) / 1e9) s"
      let isHalfDone = self.openings.values.contains(where: \.isInHandshake)
      let cause = isHalfDone ? "it took the connection, but TLS was not done in \(seconds)" : "no answer in \(seconds)"
      self.perform(.stop(NetError(.timeout, "connect", cause: cause)))
    }
  }

  func perform(_ event: HappyEyeballs<Endpoint>.Event) {
    for action in decision.handle(event, now: request.loop.now) {
      switch action {
      case .attempt(let index, let endpoint): attempt(index, endpoint)
      case .cancel(let index):
        openings.removeValue(forKey: index)?.cancel()
        streams.removeValue(forKey: index)?.0.close(linger: false)
      case .wake(let time):
        alarm?.cancel()
        alarm = request.loop.assumeIsolated().scheduleTask(deadline: time) { self.perform(.tick) }
      case .succeed(let index):
        finish()
        guard let (stream, endpoint) = streams.removeValue(forKey: index) else { continue }
        promise.succeed(request.pipe(stream, to: Peer(endpoint)))
      case .fail(let errors):
        finish()
        if errors.count == 1, let only = errors.first {
          promise.fail(only)
        } else {
          promise.fail(NetError("connect to \(name ?? "the peer")", attempts: errors))
        }
      }
    }
  }

  private func attempt(_ index: Int, _ endpoint: Endpoint) {
    openings[index] = StreamOpening(request, network, to: .ip(endpoint), name: name) { result in
      self.openings[index] = nil
      switch result {
      case .success(let stream):
        self.streams[index] = (stream, endpoint)
        self.perform(.attemptSucceeded(index))
      case .failure(let error): self.perform(.attemptFailed(index, error))
      }
    }
  }

  private func finish() {
    request.ticket?.watch(nil)
    alarm?.cancel()
    deadline?.cancel()
  }
}
