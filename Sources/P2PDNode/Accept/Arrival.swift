import NIOCore
import NIOSSL
import P2PDNet

/// Leads a stream that the other node may nominate: the handshake, then the wait for its nomination, both within one
/// time. Streams that came to the listener, and those this node opened because the other one asked it to.
///
/// Confined to its event loop.
final class Arrival: @unchecked Sendable {
  struct Guest {
    let proof: HandshakeGate.Proof
    /// nil where none is to be waited for: the stream can be no pipe, or this node is the one that nominates.
    let nomination: Nomination?
  }

  private let what: String
  private let gate: HandshakeGate
  private var done: ((Result<Guest, NetError>) -> Void)?
  private var preface: StreamPreface?
  private var proof: HandshakeGate.Proof?
  private var loop: (any EventLoop)?
  private var deadline = NIODeadline.uptimeNanoseconds(0)
  private var timer: Scheduled<Void>?
  /// Whether a reversed stream is one this node asked for, and nominates itself.
  private var nominates = false

  /// `done` is called exactly once, on the loop. `what` begins the error's text.
  /// - Parameter expected: the key that must be proven; nil takes any.
  init(_ what: String, expected: NodeKey?, done: @escaping (Result<Guest, NetError>) -> Void) {
    self.what = what
    self.done = done
    let late = LateArrival()
    gate = HandshakeGate(what, expected: expected) { late.arrival?.proven($0) }
    late.arrival = self
  }

  /// Begins the handshake. The arrival has the stream from now on, and closes it where it fails.
  func start(over stream: Transport, context: NIOSSLContext, isServer: Bool, time: TimeAmount, on loop: any EventLoop) {
    (self.loop, deadline) = (loop, loop.now + time)
    nominates = isServer
    gate.start(over: stream, context: context, isServer: isServer, time: time, on: loop)
  }

  /// The handshake is done, and the nomination is waited for.
  var isProven: Bool { proof != nil }

  /// Cuts the connection; `done` hears of it unless it has heard of the end already.
  func cut() {
    gate.cut()
    if proof != nil { fail(NetError(.closed, what, cause: "it was given up")) }
  }

  private func proven(_ result: Result<HandshakeGate.Proof, NetError>) {
    switch result {
    case .failure(let error): finish(.failure(error))
    case .success(let proof):
      switch proof.agreed {
      case .hosted: wait(for: proof)
      case .reversed where !nominates: wait(for: proof)
      case .notHosted, .reversed, .notANode: finish(.success(Guest(proof: proof, nomination: nil)))
      }
    }
  }

  private func wait(for proof: HandshakeGate.Proof) {
    self.proof = proof
    timer = loop?.assumeIsolated().scheduleTask(deadline: deadline) {
      self.fail(NetError(.timeout, self.what, cause: "the other node did not say in time that it wants this stream"))
    }
    preface = StreamPreface(Nomination.length, of: proof.stream) { [self] result in
      switch result {
      case .failure(let error):
        fail(NetError(error.code, what, cause: "the other node chose another way, or none"))
      case .success(let bytes):
        guard let nomination = Nomination(bytes) else {
          return fail(NetError(.notP2PD, what, cause: "what it said first is no nomination"))
        }
        finish(.success(Guest(proof: proof, nomination: nomination)))
      }
    }
  }

  private func fail(_ error: NetError) {
    guard done != nil else { return }
    if let proof {
      preface?.cancel()
      proof.stream.close(linger: true)
    } else {
      gate.cut()
    }
    finish(.failure(error))
  }

  private func finish(_ result: Result<Guest, NetError>) {
    guard let done else { return }
    self.done = nil
    timer?.cancel()
    timer = nil
    preface = nil
    proof = nil
    done(result)
  }
}

/// Stands for an arrival until it is made, which needs its gate first.
private final class LateArrival {
  weak var arrival: Arrival?
}
