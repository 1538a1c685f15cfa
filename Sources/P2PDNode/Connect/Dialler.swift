import NIOCore
import NIOSSL
import P2PDNet

/// Races a plan's candidates (RFC 8305 §5): makes TCP connections and handshakes, until one has proven the key.
/// Confined to its event loop.
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
  private var race = HappyEyeballs<DialCandidate>(attemptDelay: headStart)
  private var wake: Scheduled<Void>?
  private var end: Scheduled<Void>?
  private let network: any Network
  private var dials: [Int: Dial] = [:]
  private var failures: [Int: NetError] = [:]
  private var proofs: [Int: HandshakeGate.Proof] = [:]
  private var given = Set<Int>()
  private var stopped: NetError?

  /// One attempt under way: a connection, then a handshake.
  private struct Dial {
    var connection: (any StreamAttempt)?
    var gate: HandshakeGate?
    func giveUp() {
      connection?.cancel()
      gate?.cut()
    }
  }

  /// `done` is called once, on the loop; its failure holds each attempt's failure and why the plan left routes out.
  init(
    _ plan: DialPlan, key: NodeKey, context: NIOSSLContext, deadline: NIODeadline, network: any Network,
    loop: any EventLoop,
    done: @escaping (Result<Winner, NetError>) -> Void
  ) {
    candidates = plan.candidates
    skipped = plan.skipped
    self.key = key
    self.context = context
    self.network = network
    self.loop = loop
    self.deadline = deadline
    self.done = done
  }

  func start() {
    end = loop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.handle(.stop(NetError(.timeout, "connect to node \(self.key.short)", cause: "no way led there in time")))
    }
    handle(.start(candidates))
  }

  /// Gives everything up; `done` hears `cancelled`.
  func cancel() {
    handle(.stop(NetError(.cancelled, "connect to node \(key.short)", cause: "it was called off")))
  }

  private func handle(_ event: HappyEyeballs<DialCandidate>.Event) {
    if case .stop(let error) = event { stopped = stopped ?? error }
    for action in race.handle(event, now: loop.now) {
      switch action {
      case .attempt(let index, let candidate): dial(index, candidate)
      case .wake(let time):
        wake?.cancel()
        wake = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.tick) }
      case .cancel(let index):
        given.insert(index)
        dials.removeValue(forKey: index)?.giveUp()
        proofs.removeValue(forKey: index)?.stream.close(linger: true)
      case .succeed(let index):
        guard let proof = proofs.removeValue(forKey: index) else { continue }
        dials[index] = nil
        finish(.success(Winner(proof: proof, path: candidates[index].path)))
      case .fail: finish(.failure(failure()))
      }
    }
  }

  private func finish(_ result: Result<Winner, NetError>) {
    wake?.cancel()
    end?.cancel()
    done(result)
  }

  private func dial(_ index: Int, _ candidate: DialCandidate) {
    let what = "\(candidate.path.rawValue) \(candidate.endpoint)"
    let left = max(.milliseconds(1), deadline - loop.now)
    let gate = HandshakeGate(what, expected: key) { result in
      switch result {
      case .success(let proof): self.proven(index, proof)
      case .failure(let error): self.failed(index, error)
      }
    }
    // Kept from here on, so that an attempt that has no connection yet can be given up.
    dials[index] = Dial(
      connection: network.connectStream(to: .ip(candidate.endpoint), StreamOptions()) { result in
        switch result {
        case .success(let stream):
          self.dials[index] = Dial(gate: gate)
          gate.start(over: stream, context: self.context, isServer: false, time: left, on: self.loop)
        case .failure(let error): self.failed(index, NetError(error.code, what, cause: error.cause))
        }
      })
  }

  private func failed(_ index: Int, _ error: NetError) {
    dials[index] = nil
    // What was given up closes with an error of its own.
    guard failures[index] == nil, !given.contains(index) else { return }
    failures[index] = error
    handle(.attemptFailed(index, error))
  }

  private func proven(_ index: Int, _ proof: HandshakeGate.Proof) {
    switch proof.agreed {
    case .hosted:
      proofs[index] = proof
      handle(.attemptSucceeded(index))
    case .notHosted:
      // The right node: no other way to it can have another answer.
      dials[index] = nil
      proof.stream.close(linger: true)
      let error = NetError(.noProtocol, "\(candidates[index].endpoint)", cause: "the node does not host this protocol")
      failures[index] = error
      handle(.stop(error))
    case .reversed, .notANode:
      proof.stream.close(linger: true)
      failed(
        index, NetError(.notP2PD, "\(candidates[index].endpoint)", cause: "what answered agreed on no p2pd protocol"))
    }
  }

  /// The sum of all attempts. Its code is the most telling one: who reached a node that hosts no such protocol need
  /// not hear of refusals.
  private func failure() -> NetError {
    let what = "connect to node \(key.short)"
    let attempts = candidates.indices.compactMap { index -> NetError? in
      if let error = failures[index] { return error }
      // Under way when the time was up.
      guard given.contains(index) else { return nil }
      return NetError(
        .timeout, "\(candidates[index].path.rawValue) \(candidates[index].endpoint)", cause: "no answer in time")
    }
    if let stopped, stopped.code == .cancelled { return stopped }
    if candidates.isEmpty {
      return NetError(
        .unreachable, what, cause: "none of its routes can be reached from this network", attempts: skipped)
    }
    let code = Self.telling.first { code in attempts.contains { $0.code == code } }
    return NetError(
      code ?? attempts.first?.code ?? .unreachable, what,
      cause: code.flatMap { Self.words[$0] } ?? "no way led there", attempts: attempts + skipped)
  }

  private static let telling: [NetError.Code] = [.noProtocol, .limit, .wrongKey, .notP2PD, .timeout]
  private static let words: [NetError.Code: String] = [
    .noProtocol: "it does not host this protocol", .limit: "it takes no more pipes for now",
    .wrongKey: "another node answered in its place", .notP2PD: "what answered is no p2pd node",
    .timeout: "no answer in time",
  ]

  /// What an attempt gets before the next one starts. RFC 8305 §5 allows down to 10 ms: near addresses answer in a
  /// few milliseconds or not at all, and a wasted attempt between nodes costs little.
  private static let headStart = TimeAmount.milliseconds(50)
}
