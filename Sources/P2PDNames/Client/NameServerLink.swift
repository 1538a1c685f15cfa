import NIOCore
import P2PDNet

/// The connections to one name server: a few, kept open for a while, and a queue in front of them. Confined to its loop.
final class NameServerLink: HTTPLineOwner, @unchecked Sendable {
  let server: NameServerURL
  private let loop: any EventLoop
  private let settings: (NameServerURL) -> EventLoopFuture<PipeConf>
  private var lines: [HTTPLine] = []
  /// Lines that wait for their settings.
  private var opening = 0
  private var queue: CircularBuffer<HTTPCall> = []
  private var isClosed = false

  init(
    _ server: NameServerURL, on loop: any EventLoop, _ settings: @escaping (NameServerURL) -> EventLoopFuture<PipeConf>
  ) {
    (self.server, self.loop, self.settings) = (server, loop, settings)
  }

  /// Sends a request. `done` comes once, on a later turn.
  /// - Parameter patience: for all of it.
  func ask(
    _ request: [UInt8], patience: TimeAmount, _ done: @escaping (Result<HTTPAnswer, NetError>) -> Void
  ) {
    let call = HTTPCall(request, done)
    guard !isClosed, queue.count < Self.longestQueue else {
      let error =
        isClosed
        ? NetError(.closed, "ask \(server)", cause: "the client was closed")
        : NetError(.limit, "ask \(server)", cause: "\(queue.count) requests wait for it already")
      return loop.assumeIsolated().execute { call.finish(.failure(error)) }
    }
    call.arm(patience, on: loop) { [weak self] in self?.overdue(call, patience) }
    queue.append(call)
    serve()
  }

  /// Ends everything; who waits is told `closed`.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    let calls = Array(queue) + lines.compactMap(\.call)
    queue = []
    for line in lines { line.close() }
    for call in calls {
      call.finish(.failure(NetError(.closed, "ask \(server)", cause: "the client was closed")))
    }
  }

  private func overdue(_ call: HTTPCall, _ patience: TimeAmount) {
    let seconds = Double(patience.nanoseconds) / 1e9
    queue.removeAll { $0 === call }
    for line in lines where line.call === call { line.close() }
    call.finish(.failure(NetError(.timeout, "ask \(server)", cause: "no whole answer in \(seconds) s")))
  }

  private func serve() {
    while !isClosed, !queue.isEmpty {
      if let idle = lines.first(where: \.isIdle), let call = queue.popFirst() {
        idle.take(call)
      } else if lines.count + opening < Self.mostLines, opening < queue.count {
        open()
      } else {
        return
      }
    }
  }

  private func open() {
    opening += 1
    settings(server).assumeIsolated().whenComplete { result in
      self.opening -= 1
      guard !self.isClosed, let call = self.queue.popFirst() else { return }
      switch result {
      case .success(let conf):
        let line = HTTPLine(to: self.server, conf, for: call, on: self.loop, owner: self)
        self.lines.append(line)
        line.start()
      case .failure(let error): call.finish(.failure(NetError(error, "connect to \(self.server)")))
      }
      self.serve()
    }
  }

  func lineIsIdle(_ line: HTTPLine) { serve() }

  func lineEnded(_ line: HTTPLine) {
    lines.removeAll { $0 === line }
    serve()
  }

  func lineEnded(_ line: HTTPLine, again call: HTTPCall) {
    if !call.isOver { queue.prepend(call) }
    lineEnded(line)
  }

  /// Requests that wait: names looked up at once by one node are few.
  private static let longestQueue = 64
  /// A slow answer must not hold up the next name; RFC 9112 §9.4 asks for restraint.
  private static let mostLines = 4
}
