import NIOCore
import P2PDNet

/// Several allocations that would serve, in order of preference: the first is opened, the next when that one takes long or
/// fails, and so on. The first that works wins; the others are given back. Confined to its loop.
final class TURNRace: @unchecked Sendable {
  /// What each that did not work met, in the order they ended.
  private(set) var failures: [NetError] = []

  private let loop: any EventLoop
  private let what: String
  private let tls: ServerTLS?
  private let make: (TLSSetup?) -> [TURNAllocation]
  private var waiting: ArraySlice<TURNAllocation> = []
  private var running: [TURNAllocation] = []
  private var timer: Scheduled<Void>?
  private var done: ((Result<TURNAllocation, NetError>) -> Void)?

  /// - Parameters:
  ///   - tls: nil where no server is spoken to over TLS. Where its roots cannot be read, those that are fail.
  ///   - make: the allocations, in order of preference; asked when it starts.
  init(
    what: String, tls: ServerTLS?, on loop: any EventLoop, make: @escaping (TLSSetup?) -> [TURNAllocation]
  ) {
    self.what = what
    self.tls = tls
    self.loop = loop
    self.make = make
  }

  /// Allocations that relay streams: `turn:` over TCP, `turns:` over TLS, whatever transport the URL names, since streams are
  /// relayed over nothing else (RFC 6062 §4.1). Servers that are no TURN servers are passed over.
  convenience init(
    what: String, ofStreamsAt servers: [ServerURL], family: AddressFamily, interface: String?, tls: ServerTLS?,
    on loop: any EventLoop
  ) {
    let turn = servers.filter { $0.scheme == .turn || $0.scheme == .turns }
    let needed = turn.contains { $0.scheme == .turns } ? tls ?? ServerTLS(on: loop) : nil
    self.init(what: what, tls: needed, on: loop) { setup in
      turn.map { url in
        TURNAllocation(
          url, over: url.scheme == .turns ? .tls : .tcp, relaying: .tcp, family: family,
          interface: interface, tls: setup, on: loop)
      }
    }
  }

  /// - Parameter done: comes once, not before this returns, and not after ``cancel()``. The winner is the callee's to close.
  func start(_ done: @escaping (Result<TURNAllocation, NetError>) -> Void) {
    self.done = done
    guard let tls else { return begin(nil) }
    tls.setup().assumeIsolated().whenComplete { self.begin(try? $0.get()) }
  }

  private func begin(_ setup: TLSSetup?) {
    guard done != nil else { return }
    waiting = make(setup)[...]
    guard !waiting.isEmpty else {
      let error = NetError(.badAddress, what, cause: "no TURN server is configured (turn:USER:PASSWORD@HOST)")
      return loop.assumeIsolated().execute { self.finish(.failure(error)) }
    }
    next()
  }

  func cancel() {
    done = nil
    finish(nil)
  }

  private func next() {
    timer?.cancel()
    timer = nil
    guard done != nil, let allocation = waiting.popFirst() else { return }
    running.append(allocation)
    allocation.open().assumeIsolated().whenComplete { result in
      self.running.removeAll { $0 === allocation }
      switch result {
      case .success:
        guard self.done != nil else { return _ = allocation.close() }
        self.finish(.success(allocation))
      case .failure(let error):
        guard self.done != nil else { return }
        self.failures.append(NetError(error, self.what))
        if !self.waiting.isEmpty { return self.next() }
        guard self.running.isEmpty else { return }
        let all = self.failures
        let only = all.count == 1 ? all.first : nil
        self.finish(
          .failure(only ?? NetError(all.last?.code ?? .timeout, self.what, cause: "no server works", attempts: all)))
      }
    }
    if !waiting.isEmpty {
      timer = loop.assumeIsolated().scheduleTask(in: Self.gap) { [weak self] in self?.next() }
    }
  }

  private func finish(_ result: Result<TURNAllocation, NetError>?) {
    timer?.cancel()
    timer = nil
    waiting = []
    let others = running
    running = []
    let done = done
    self.done = nil
    for other in others { other.close() }
    if let result { done?(result) }
  }

  /// Three round trips of 80 ms: who is slower than that gets company.
  private static let gap: TimeAmount = .milliseconds(250)
}
