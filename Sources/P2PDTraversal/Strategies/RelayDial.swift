import NIOCore
import P2PDNet

/// The far side of a relayed path: connects to a relayed address as to any other. A server takes the connection of a peer
/// that is not let through yet and resets it at once (coturn), so a connection counts when the first bytes have come through
/// it, and until then it is tried again; beside one that stays silent too, since the reset may be lost on its way. The near
/// side (``RelayPath``) speaks first: it is the TLS client, or greets.
///
/// Confined to its loop.
public final class RelayDial: PipeSink, @unchecked Sendable {
  /// What each attempt met, the last few.
  public private(set) var failures: [NetError] = []
  public private(set) var tries = 0

  private let to: Endpoint
  private let until: NIODeadline
  private let interface: String?
  private let isGreeted: Bool
  private let loop: any EventLoop
  private var done: ((Result<Transport, NetError>) -> Void)?
  private var attempt: (any StreamAttempt)?
  /// Connected, and silent so far.
  private var pipes: [Pipe] = []
  private var retry: Scheduled<Void>?
  private var deadline: Scheduled<Void>?

  /// Begins.
  /// - Parameters:
  ///   - until: when it is given up.
  ///   - interface: held to it; nil for the kernel's choice.
  ///   - isGreeted: the near side says first that we have come through (``RelayPath/greets``), and then waits for us.
  ///   - done: comes once, not before this returns and not after ``cancel()``: the stream, with the peer's first bytes still
  ///     to be read from it.
  public init(
    to: Endpoint, until: NIODeadline, interface: String? = nil, isGreeted: Bool = false, on loop: any EventLoop,
    done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    self.to = to
    self.until = until
    self.interface = interface
    self.isGreeted = isGreeted
    self.loop = loop
    self.done = done
    deadline = loop.assumeIsolated().scheduleTask(deadline: until) { [self] in
      let last =
        failures.last?.cause ?? (pipes.isEmpty ? "nobody answered" : "the other side did not take the connection")
      finish(.failure(NetError(.timeout, what, cause: "\(last) (\(tries) tries)", attempts: failures)))
    }
    loop.assumeIsolated().execute { self.dial() }
  }

  public func cancel() {
    done = nil
    clean()
  }

  private func dial() {
    retry = nil
    guard done != nil, attempt == nil else { return }
    tries += 1
    let network: any Network
    do throws(NetError) {
      network = try loop.requireNetwork(what)
    } catch {
      return finish(.failure(error))
    }
    var options = StreamOptions()
    options.interface = interface
    attempt = network.connectStream(to: .ip(to), options) { [self] result in
      attempt = nil
      switch result {
      case .failure(let error): failed(error)
      case .success(let stream):
        guard done != nil else { return stream.close(linger: false) }
        pipes.append(Pipe.adopt(stream, conf: PipeConf(), sink: self, on: loop))
        if pipes.count < Self.mostSilent { again(in: Self.silence) }
      }
    }
  }

  public func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard done != nil, pipes.contains(where: { $0 === pipe }) else { return true }
    guard !isGreeted || bytes.first == RelayPath.greeting else {
      pipes.removeAll { $0 === pipe }
      pipe.close(flush: .zero)
      failed(NetError(.notP2PD, what, cause: "what answered is no p2pd node"))
      return true
    }
    let preface = [UInt8](bytes.dropFirst(isGreeted ? 1 : 0))
    guard let stream = pipe.release() else {
      pipe.close(flush: .zero)
      return true
    }
    pipes.removeAll { $0 === pipe }
    finish(.success(PrefacedTransport.over(stream, preface: preface, on: loop)))
    return true
  }

  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard let index = pipes.firstIndex(where: { $0 === pipe }) else { return }
    pipes.remove(at: index)
    failed(NetError(.reset, what, cause: "the relay took the connection and cut it: we are not let through yet"))
  }

  private func failed(_ error: NetError) {
    guard done != nil else { return }
    if failures.count == Self.mostFailures { failures.removeFirst() }
    failures.append(error)
    // With jitter and growing: the permission is one message of the other side away, or it never comes.
    let most = min(Self.firstWait * (1 << min(tries - 1, 4)), Self.longestWait)
    let wait = TimeAmount.nanoseconds(.random(in: most.nanoseconds / 2...most.nanoseconds))
    again(in: wait)
  }

  private func again(in time: TimeAmount) {
    retry?.cancel()
    retry = loop.assumeIsolated().scheduleTask(in: time) { [weak self] in self?.dial() }
  }

  private func finish(_ result: Result<Transport, NetError>) {
    let done = done
    self.done = nil
    clean()
    guard let done else {
      if case .success(let stream) = result { stream.close(linger: false) }
      return
    }
    done(result)
  }

  private func clean() {
    deadline?.cancel()
    deadline = nil
    retry?.cancel()
    retry = nil
    attempt?.cancel()
    attempt = nil
    let pipes = pipes
    self.pipes = []
    for pipe in pipes { pipe.close(flush: .zero) }
  }

  private var what: String { "connect to the relayed address \(to)" }

  private static let firstWait: TimeAmount = .milliseconds(20)
  private static let longestWait: TimeAmount = .milliseconds(250)
  private static let mostFailures = 8
  /// How long a connection may be silent before another is tried beside it: some round trips of a slow path, with a SYN sent
  /// twice among them.
  private static let silence: TimeAmount = .milliseconds(1500)
  private static let mostSilent = 3
}
