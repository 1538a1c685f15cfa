import NIOCore

extension OpenRequest {
  /// Connects to the first of several addresses that answers (RFC 8305), and opens that pipe.
  func race(_ endpoints: [Endpoint], name: String?, _ promise: EventLoopPromise<Pipe>) {
    PipeRace(self, name: name, promise).perform(.start(endpoints))
  }
}

/// Drives ``HappyEyeballs`` over TCP connections. Confined to the loop of its request.
private final class PipeRace: @unchecked Sendable {
  private let request: OpenRequest
  private let name: String?
  private let promise: EventLoopPromise<Pipe>
  private var decision = HappyEyeballs<Endpoint>()
  private var pipes: [Int: Pipe] = [:]
  private var alarm: Scheduled<Void>?
  private var deadline: Scheduled<Void>?

  init(_ request: OpenRequest, name: String?, _ promise: EventLoopPromise<Pipe>) {
    self.request = request
    self.name = name
    self.promise = promise
    let timeout = request.conf.conTimeout
    deadline = request.loop.assumeIsolated().scheduleTask(in: timeout) {
      self.perform(.stop(NetError(.timeout, "connect", cause: "no answer in \(Double(timeout.nanoseconds) / 1e9) s")))
    }
  }

  func perform(_ event: HappyEyeballs<Endpoint>.Event) {
    for action in decision.handle(event, now: request.loop.now) {
      switch action {
      case .attempt(let index, let endpoint): attempt(index, endpoint)
      case .cancel(let index): pipes.removeValue(forKey: index)?.end(abruptly: .local)
      case .wake(let time):
        alarm?.cancel()
        alarm = request.loop.assumeIsolated().scheduleTask(deadline: time) { self.perform(.tick) }
      case .succeed(let index):
        finish()
        guard let pipe = pipes.removeValue(forKey: index) else { continue }
        pipe.sink = request.sink
        pipe.opened()
        promise.succeed(pipe)
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
    let made = request.loop.makePromise(of: Pipe.self)
    made.futureResult.assumeIsolated().whenComplete { result in
      switch result {
      case .success: self.perform(.attemptSucceeded(index))
      case .failure(let error): self.perform(.attemptFailed(index, NetError(error, "connect to \(endpoint)")))
      }
    }
    request.connect(to: endpoint, name: name, made: { self.pipes[index] = $0 }, made)
  }

  private func finish() {
    alarm?.cancel()
    deadline?.cancel()
  }
}
