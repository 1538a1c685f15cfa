import NIOCore
import P2PDNet

/// One request of a client and where its answer goes.
final class HTTPCall {
  let request: [UInt8]
  /// It was on a kept connection that the server had closed, and is tried once more.
  var isSecondTry = false
  private var done: ((Result<HTTPAnswer, NetError>) -> Void)?
  private var timer: Scheduled<Void>?

  init(_ request: [UInt8], _ done: @escaping (Result<HTTPAnswer, NetError>) -> Void) {
    (self.request, self.done) = (request, done)
  }

  var isOver: Bool { done == nil }

  /// Its time runs from here, waiting for a connection included.
  func arm(_ patience: TimeAmount, on loop: any EventLoop, _ body: @escaping () -> Void) {
    timer = loop.assumeIsolated().scheduleTask(in: patience, body)
  }

  func finish(_ result: Result<HTTPAnswer, NetError>) {
    timer?.cancel()
    timer = nil
    let done = done
    self.done = nil
    done?(result)
  }
}

/// One connection to a server: a request at a time, kept for the next if the server keeps it. Confined to its loop.
final class HTTPLine: PipeSink, @unchecked Sendable {
  private let server: NameServerURL
  private let loop: any EventLoop
  private weak var owner: (any HTTPLineOwner)?
  private let conf: PipeConf
  private let ticket = OpenTicket()
  private var pipe: Pipe?
  private var reader = HTTPReader(limit: HTTPLine.longestBody)
  private(set) var call: HTTPCall?
  private var isUsed = false
  private var isEnded = false
  private var idleTimer: Scheduled<Void>?

  /// - Parameter call: what the connection is opened for.
  init(to server: NameServerURL, _ conf: PipeConf, for call: HTTPCall, on loop: any EventLoop, owner: any HTTPLineOwner)
  {
    (self.server, self.conf, self.loop, self.owner, self.call) = (server, conf, loop, owner, call)
  }

  /// Connects. The owner may be told at once that it failed.
  func start() {
    let server = server
    let place = IPAddress(server.host).map { Destination.endpoint(Endpoint(ip: $0, port: server.port)) }
    PipeOpener.open(
      .tcp, to: place ?? .host(server.host, server.port), conf: conf, sink: self, ticket: ticket, on: loop
    ).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.end(.failure(NetError(error, "connect to \(server)")))
      case .success(let pipe):
        guard !self.isEnded else { return _ = pipe.close(flush: .zero) }
        self.pipe = pipe
        self.write()
      }
    }
  }

  var isIdle: Bool { call == nil && !isEnded }

  /// The next request on a connection that is idle.
  func take(_ call: HTTPCall) {
    idleTimer?.cancel()
    self.call = call
    reader = HTTPReader(limit: Self.longestBody)
    isUsed = true
    write()
  }

  /// Hangs up; the call, if there is one, is the owner's to finish.
  func close() {
    call = nil
    end(nil)
  }

  private func write() {
    guard let call, let pipe else { return }
    if case .failed(let error) = call.request.withUnsafeBytes({ pipe.send($0) }) { end(.failure(error)) }
  }

  /// The connection is over; `result` is that of the call on it.
  private func end(_ result: Result<HTTPAnswer, NetError>?) {
    guard !isEnded else { return }
    isEnded = true
    idleTimer?.cancel()
    ticket.cancel()
    let (pipe, call) = (pipe, call)
    self.pipe = nil
    self.call = nil
    pipe?.close(flush: .zero)
    guard let call, let result else {
      owner?.lineEnded(self)
      return
    }
    // A server may close a kept connection just when a request is on its way (RFC 9112 §9.3.1): all of these may be
    // asked twice.
    if case .failure = result, isUsed, reader.isUntouched, !call.isSecondTry {
      call.isSecondTry = true
      guard let owner else { return call.finish(result) }
      return owner.lineEnded(self, again: call)
    }
    owner?.lineEnded(self)
    call.finish(result)
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard call != nil else {
      end(nil)
      return true
    }
    read { reader throws(HTTPError) in try reader.take(bytes) }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard !isEnded else { return }
    self.pipe = nil
    guard call != nil, case .closed = reason, !reader.isUntouched else {
      return end(.failure(NetError(.closed, "ask \(server)", cause: "the connection ended: \(reason)")))
    }
    read { reader throws(HTTPError) in try reader.end() }
  }

  private func read(_ body: (inout HTTPReader) throws(HTTPError) -> HTTPAnswer?) {
    do throws(HTTPError) {
      guard let answer = try body(&reader) else { return }
      guard reader.leavesOpen, pipe != nil else { return end(.success(answer)) }
      let call = call
      self.call = nil
      idleTimer = loop.assumeIsolated().scheduleTask(in: Self.idleTime) { [weak self] in self?.end(nil) }
      owner?.lineIsIdle(self)
      call?.finish(.success(answer))
    } catch {
      end(.failure(NetError(.io, "ask \(server)", cause: "it sent \(error)")))
    }
  }

  /// Bytes of an answer's body: a record inside an error, with room to spare.
  private static let longestBody = 2 * NameRecord.longestJSON
  /// Below the server's own, so that it is seldom the server who hangs up.
  private static let idleTime = TimeAmount.seconds(30)
}

protocol HTTPLineOwner: AnyObject {
  /// It waits for a request.
  func lineIsIdle(_ line: HTTPLine)
  func lineEnded(_ line: HTTPLine)
  /// It ended before the server had said a word; the call needs another.
  func lineEnded(_ line: HTTPLine, again call: HTTPCall)
}
