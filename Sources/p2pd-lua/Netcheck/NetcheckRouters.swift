import NIOCore
import P2PDNet
import P2PDTraversal

/// Asks the routers before this host to open a port, sees what comes of it, and has it closed again. The port is one of our
/// own, at which everybody is turned away. Confined to its loop.
final class NetcheckRouters: PipeSink, @unchecked Sendable {
  private let loop: any EventLoop
  private let knowledge: NetworkKnowledge
  private let promise: EventLoopPromise<Findings>
  private var mapper: PortMapper?
  private var listener: Pipe?
  private var deadline: Scheduled<Void>?
  private var isSettled = false
  private var isOver = false

  struct Findings: Sendable {
    var routers: [PortMappingFinding] = []
    var mappings: [PortMapping] = []
  }

  /// - Parameter knowledge: under which address STUN servers see this host decides what a mapping is worth.
  init(_ knowledge: NetworkKnowledge, on loop: any EventLoop) {
    self.knowledge = knowledge
    self.loop = loop
    promise = loop.makePromise()
  }

  /// Completes in 3.8 s at most, when the mapping is gone again. Never fails.
  func ask(_ snapshot: NetworkSnapshot, only names: [String]?) -> EventLoopFuture<Findings> {
    let end = loop.now + Self.patience
    PipeOpener.open(.tcp, family: .v4, sink: self, on: loop).assumeIsolated().whenComplete { result in
      guard case .success(let listener) = result, let port = listener.localEndpoint?.port else {
        return self.promise.succeed(Findings())
      }
      guard !self.isOver else { return _ = listener.close(flush: .zero) }
      self.listener = listener
      let mapper = PortMapper(ports: [.init(.tcp, port)], on: self.loop)
      self.mapper = mapper
      mapper.update(snapshot, only: names)
      self.deadline = self.loop.assumeIsolated().scheduleTask(deadline: end) { self.finish() }
      mapper.settled().assumeIsolated().whenComplete { _ in
        self.isSettled = true
        self.look()
      }
    }
    return promise.futureResult
  }

  /// STUN servers said something, or will not say more.
  func look() {
    guard let mapper, isSettled else { return }
    let isKnown = mapper.mappings.allSatisfy { mapping in
      knowledge.report(interface: mapping.path.interface, local: mapping.path.local)?.hasAnswer ?? true
    }
    if isKnown { finish() }
  }

  /// Gives up. Completes when what was opened is closed again, in 1.5 s at most.
  func stop() -> EventLoopFuture<Findings> {
    finish()
    return promise.futureResult
  }

  private func finish() {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    guard let mapper else { return promise.succeed(Findings()) }
    knowledge.learn(mapper.mappings)
    mapper.learn(knowledge.reports.values)
    let found = Findings(routers: mapper.findings, mappings: mapper.mappings)
    mapper.close().assumeIsolated().whenComplete { _ in
      self.listener?.close(flush: .zero)
      self.listener = nil
      self.mapper = nil
      self.promise.succeed(found)
    }
  }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }
  func pipeShouldAccept(from peer: Peer, by server: Pipe) -> Bool { false }

  /// A router that is silent has been asked often enough by then (RFC 6886 §3.1 would go on for a minute).
  private static let patience: TimeAmount = .milliseconds(2_300)
}
