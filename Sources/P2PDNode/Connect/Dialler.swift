import NIOCore
import NIOPosix
import NIOSSL
import P2PDNet

/// Drives one ``DialRace``: makes its TCP connections and handshakes, until one has proven the key. Confined to its event loop.
final class Dialler: @unchecked Sendable {
  struct Winner {
    let proof: HandshakeGate.Proof
    let path: DialPath
  }

  private let candidates: [DialCandidate]
  private let skipped: [NetError]
  private let key: NodeKey
  private let context: NIOSSLContext
  private let loop: any EventLoop
  private let deadline: NIODeadline
  private let done: (Result<Winner, NetError>) -> Void
  private var race: DialRace
  private var timer: Scheduled<Void>?
  private var channels: [Int: any Channel] = [:]
  private var failures: [Int: NetError] = [:]
  private var proofs: [Int: HandshakeGate.Proof] = [:]
  private var given = Set<Int>()

  /// `done` is called once, on the loop; its failure holds each attempt's failure and why the plan left routes out.
  init(
    _ plan: DialPlan, key: NodeKey, context: NIOSSLContext, deadline: NIODeadline, loop: any EventLoop,
    done: @escaping (Result<Winner, NetError>) -> Void
  ) {
    candidates = plan.candidates
    skipped = plan.skipped
    self.key = key
    self.context = context
    self.loop = loop
    self.deadline = deadline
    self.done = done
    race = DialRace(candidates.map(\.path), deadline: deadline)
  }

  func start() { perform(race.start(now: loop.now)) }

  /// Gives everything up; `done` hears `cancelled`.
  func cancel() {
    guard !race.isOver else { return }
    perform(race.cancelled())
    finish(.failure(NetError(.cancelled, "connect to node \(key.short)", cause: "it was called off")))
  }

  private func perform(_ actions: [DialRace.Action]) {
    for action in actions {
      switch action {
      case .dial(let index): dial(index)
      case .wake(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.perform(self.race.timer(now: self.loop.now)) }
      case .cancel(let index):
        given.insert(index)
        channels.removeValue(forKey: index)?.close(promise: nil)
        proofs.removeValue(forKey: index)?.channel.close(promise: nil)
      case .won(let index):
        guard let proof = proofs.removeValue(forKey: index) else { continue }
        channels[index] = nil
        finish(.success(Winner(proof: proof, path: candidates[index].path)))
      case .lost(let timedOut): finish(.failure(failure(timedOut: timedOut)))
      }
    }
  }

  private func finish(_ result: Result<Winner, NetError>) {
    timer?.cancel()
    timer = nil
    done(result)
  }

  private func dial(_ index: Int) {
    let candidate = candidates[index]
    let what = "\(candidate.path.rawValue) \(candidate.endpoint)"
    let left = max(.milliseconds(1), deadline - loop.now)
    let gate = HandshakeGate(what, expected: key) { result in
      switch result {
      case .success(let proof): self.proven(index, proof)
      case .failure(let error): self.failed(index, error)
      }
    }
    ClientBootstrap(group: loop)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelOption(.recvAllocator, value: nodeReceiveBuffers)
      .connectTimeout(left)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          // Kept from here on, so that an attempt that has no connection yet can be given up.
          if self.given.contains(index) { throw ChannelError.alreadyClosed }
          self.channels[index] = channel
          try gate.install(in: channel, context: self.context, isServer: false, time: left)
        }
      }
      .connect(to: candidate.endpoint.socketAddress)
      .assumeIsolated().whenFailure { self.failed(index, NetError($0, what)) }
  }

  private func failed(_ index: Int, _ error: NetError) {
    channels.removeValue(forKey: index)?.close(promise: nil)
    guard failures[index] == nil else { return }
    failures[index] = error
    perform(race.failed(index, now: loop.now))
  }

  private func proven(_ index: Int, _ proof: HandshakeGate.Proof) {
    switch proof.agreed {
    case .hosted:
      proofs[index] = proof
      perform(race.proven(index))
    case .notHosted:
      // The right node: no other way to it can have another answer.
      channels.removeValue(forKey: index)?.close(promise: nil)
      failures[index] = NetError(.noProtocol, "\(candidates[index].endpoint)", cause: "the node does not host this protocol")
      guard !race.isOver else { return }
      perform(race.cancelled())
      finish(.failure(failure(timedOut: false)))
    case .notANode:
      failed(index, NetError(.notP2PD, "\(candidates[index].endpoint)", cause: "what answered agreed on no p2pd protocol"))
    }
  }

  /// The sum of all attempts. Its code is the most telling one: who reached a node that hosts no such protocol need not hear of refusals.
  private func failure(timedOut: Bool) -> NetError {
    let attempts = candidates.indices.compactMap { index -> NetError? in
      if let error = failures[index] { return error }
      guard given.contains(index) || channels[index] != nil else { return nil }
      return NetError(.timeout, "\(candidates[index].path.rawValue) \(candidates[index].endpoint)", cause: "no answer in time")
    }
    if candidates.isEmpty {
      return NetError(
        .unreachable, "connect to node \(key.short)", cause: "none of its routes can be reached from this network", attempts: skipped)
    }
    let code = Self.telling.first { code in attempts.contains { $0.code == code } }
    let what = "connect to node \(key.short)"
    if timedOut, code == nil { return NetError(.timeout, what, cause: "no way led there in time", attempts: attempts + skipped) }
    return NetError(
      code ?? attempts.first?.code ?? .unreachable, what,
      cause: code.flatMap { Self.words[$0] } ?? "no way led there", attempts: attempts + skipped)
  }

  private static let telling: [NetError.Code] = [.noProtocol, .limit, .wrongKey, .notP2PD, .timeout]
  private static let words: [NetError.Code: String] = [
    .noProtocol: "it does not host this protocol", .limit: "it takes no more pipes for now",
    .wrongKey: "another node answered in its place", .notP2PD: "what answered is no p2pd node", .timeout: "no answer in time",
  ]
}
