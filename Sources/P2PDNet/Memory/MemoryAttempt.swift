import NIOCore

/// One host calls another: the call may be lost, refused, or never answered.
final class MemoryAttempt: StreamAttempt {
  private let caller: MemoryHost
  private let address: StreamAddress
  private let options: StreamOptions
  private var done: ((Result<Transport, NetError>) -> Void)?
  private let local: Endpoint?
  private var retry = firstRetry
  private var triesLeft = mostTries
  /// It met a call of the other side; its stream is on the way.
  private var isCrossed = false
  private var timer: LoopTimer?

  init(
    _ caller: MemoryHost, _ address: StreamAddress, _ options: StreamOptions,
    _ done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    self.caller = caller
    self.address = address
    self.options = options
    self.done = done
    local = Self.localEndpoint(caller, address, options)
  }

  func start() {
    switch address {
    case .unix: after(.zero) { self.arrive(at: self.caller) }
    case .ip(let endpoint):
      guard let host = caller.net.host(at: endpoint.ip, from: caller) else {
        return after(.zero) { self.finish(.failure(self.error(.unreachable, "no host has this address"))) }
      }
      call(host)
    }
  }

  func cancel() {
    done = nil
    caller.remove(self)
    if let timer { caller.time.cancel(timer) }
    timer = nil
  }

  private func call(_ host: MemoryHost) {
    let gets = remoteEndpoint.flatMap { caller.outgoing?($0) } ?? .passes
    switch host === caller ? .passes : gets {
    case .passes: break
    case .isLost: return callAgain(host)
    case .isRefused: return after(.zero) { self.finish(.failure(self.error(.refused, "a firewall refuses it"))) }
    }
    let delay = caller.net.streamDelay(0, from: caller, to: host, firstRetry: Self.firstRetry)
    after(delay) {
      if self.caller.net.isCut(self.caller, host) { self.callAgain(host) } else { self.arrive(at: host) }
    }
  }

  /// Nobody answers, as far as the caller can tell (tcp(7), `tcp_syn_retries`).
  private func callAgain(_ host: MemoryHost) {
    triesLeft -= 1
    guard triesLeft > 0 else { return after(retry) { self.finish(.failure(self.error(.timeout, "no answer"))) } }
    let pause = retry
    retry = retry + retry
    after(pause) { self.call(host) }
  }

  private func arrive(at host: MemoryHost) {
    let net = caller.net
    if let other = host.attempt(from: remoteEndpoint, to: local) { return cross(other, at: host) }
    if host.isFirewalled, host !== caller { return callAgain(host) }
    guard let listener = host.listener(at: address) else {
      net.tell("\(caller.name) > \(host.name) \(port) refused")
      return answer(from: host, .failure(error(.refused, "nobody listens there")))
    }
    let (mine, theirs) = MemoryStream.pair(caller, local, host, remoteEndpoint, options)
    if let words = listener.refusal(of: local) {
      net.tell("\(caller.name) > \(host.name) \(port) cut off")
      theirs.cutOff(after: words)
    } else {
      net.tell("\(caller.name) > \(host.name) \(port) connects")
      listener.accepted(theirs)
    }
    let delay = net.streamDelay(0, from: host, to: caller, firstRetry: Self.firstRetry)
    // Not cancelled with the attempt: who has given up hangs up.
    caller.time.after(delay) {
      if self.done == nil { mine.close(linger: false) } else { self.finish(.success(mine)) }
    }
  }

  /// The two call each other: one stream of both (RFC 9293 §3.5, figure 8), there for each after a round trip.
  private func cross(_ other: MemoryAttempt, at host: MemoryHost) {
    let net = caller.net
    let (mine, theirs) = MemoryStream.pair(caller, local, host, remoteEndpoint, options)
    net.tell("\(caller.name) > \(host.name) \(port) crosses")
    for (attempt, stream) in [(self, mine), (other, theirs)] {
      if let timer = attempt.timer { caller.time.cancel(timer) }
      attempt.isCrossed = true
      let far = attempt === self ? host : caller
      let delay = net.streamDelay(0, from: far, to: attempt.caller, firstRetry: Self.firstRetry)
      caller.time.after(delay) {
        if attempt.done == nil { stream.close(linger: false) } else { attempt.finish(.success(stream)) }
      }
    }
  }

  /// It calls from there to there.
  func calls(from source: Endpoint, to target: Endpoint) -> Bool {
    !isCrossed && local == source && address == .ip(target) && done != nil
  }

  private func answer(from host: MemoryHost, _ result: Result<Transport, NetError>) {
    after(caller.net.streamDelay(0, from: host, to: caller, firstRetry: Self.firstRetry)) {
      if self.caller.net.isCut(self.caller, host) { self.callAgain(host) } else { self.finish(result) }
    }
  }

  private func finish(_ result: Result<Transport, NetError>) {
    let done = done
    self.done = nil
    timer = nil
    caller.remove(self)
    done?(result)
  }

  func hostEnds() {
    if let timer { caller.time.cancel(timer) }
    finish(.failure(error(.cancelled, "the network has ended")))
  }

  private func after(_ delay: TimeAmount, _ body: @escaping () -> Void) {
    timer = caller.time.after(delay) { if self.done != nil { body() } }
  }

  private func error(_ code: NetError.Code, _ cause: String) -> NetError {
    NetError(code, "connect to \(address)", cause: cause)
  }

  private var port: String { if case .ip(let endpoint) = address { "port \(endpoint.port)" } else { "\(address)" } }

  private var remoteEndpoint: Endpoint? { if case .ip(let endpoint) = address { endpoint } else { nil } }

  private static func localEndpoint(
    _ caller: MemoryHost, _ address: StreamAddress, _ options: StreamOptions
  ) -> Endpoint? {
    guard case .ip(let endpoint) = address else { return nil }
    let bound = options.bind.flatMap { $0.ip.family == endpoint.ip.family ? $0 : nil }
    let ip = bound.flatMap { $0.ip.isWildcard ? nil : $0.ip } ?? caller.source(to: endpoint.ip)
    return Endpoint(ip: ip, port: bound.flatMap { $0.port == 0 ? nil : $0.port } ?? caller.freePort())
  }

  /// RFC 6298 §2.1.
  private static let firstRetry = TimeAmount.seconds(1)
  private static let mostTries = 7
}

/// A listener: it only asks its owner, and ends.
final class MemoryListener: Transport, @unchecked Sendable {
  let address: StreamAddress
  let options: StreamOptions
  private var asked: (any ListenerOwner)?
  private unowned let host: MemoryHost

  init(_ address: StreamAddress, _ options: StreamOptions, _ asked: any ListenerOwner, _ host: MemoryHost) {
    self.address = address
    self.options = options
    self.asked = asked
    self.host = host
    super.init()
    if case .ip(let endpoint) = address { localEndpoint = endpoint }
  }

  func refusal(of peer: Endpoint?) -> [UInt8]? { asked?.refusal(of: peer) ?? (asked == nil ? [] : nil) }
  func accepted(_ stream: MemoryStream) { asked?.accepted(stream) }

  override func close(linger: Bool) {
    guard asked != nil else { return }
    (asked, owner) = (nil, nil)
    host.remove(self)
    becomeGone()
  }
}
