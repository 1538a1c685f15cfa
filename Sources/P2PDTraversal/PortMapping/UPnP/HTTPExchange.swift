import NIOCore
import P2PDNet

/// One request to the router's web server, and its answer: a connection each, bounded in size and time. Redirections are
/// an answer like others; nothing follows them.
///
/// Confined to its loop.
final class HTTPExchange: PipeSink, @unchecked Sendable {
  typealias Done = (Result<HTTPAnswer, NetError>) -> Void

  private let what: String
  private let request: [UInt8]
  private var reader: HTTPReader
  private var done: Done?
  private var timer: Scheduled<Void>?
  private var pipe: Pipe?

  /// Begins. `done` comes once, on a later turn, unless it is cancelled.
  /// - Parameters:
  ///   - local: the address to ask from: routers open holes for who asks only.
  ///   - limit: bytes the answer's body may have.
  init(
    _ request: [UInt8], to server: Endpoint, from local: IPAddress, interface: String, limit: Int,
    on loop: any EventLoop,
    _ done: @escaping Done
  ) {
    what = "ask the router at \(server)"
    self.request = request
    self.done = done
    reader = HTTPReader(limit: limit)
    var conf = PipeConf()
    conf.interface = interface
    conf.conTimeout = Self.patience
    timer = loop.assumeIsolated().scheduleTask(in: Self.patience) { [self] in
      finish(
        .failure(NetError(.timeout, what, cause: "no whole answer in \(Self.patience.nanoseconds / 1_000_000_000) s")))
    }
    PipeOpener.open(
      .tcp, to: .endpoint(server), bind: Endpoint(ip: local, port: 0), conf: conf, sink: self, on: loop
    ).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.finish(.failure(NetError(error, self.what)))
      case .success(let pipe):
        guard self.done != nil else { return _ = pipe.close(flush: .zero) }
        self.pipe = pipe
        if case .failed(let error) = self.request.withUnsafeBytes({ pipe.send($0) }) { self.finish(.failure(error)) }
      }
    }
  }

  func cancel() {
    done = nil
    finish(nil)
  }

  private func finish(_ result: Result<HTTPAnswer, NetError>?) {
    let done = done
    self.done = nil
    timer?.cancel()
    timer = nil
    let pipe = pipe
    self.pipe = nil
    pipe?.close(flush: .zero)
    if let result { done?(result) }
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    read { reader throws(HTTPError) in try reader.take(bytes) }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    self.pipe = nil
    guard done != nil else { return }
    if case .closed = reason {
      read { reader throws(HTTPError) in try reader.end() }
    } else {
      finish(.failure(NetError(.closed, what, cause: "the connection ended: \(reason)")))
    }
  }

  private func read(_ body: (inout HTTPReader) throws(HTTPError) -> HTTPAnswer?) {
    guard done != nil else { return }
    do throws(HTTPError) {
      if let answer = try body(&reader) { finish(.success(answer)) }
    } catch {
      finish(.failure(NetError(.io, what, cause: "it sent \(error)")))
    }
  }

  /// For the whole of it. Routers are near, but some are slow.
  private static let patience: TimeAmount = .seconds(4)
}
