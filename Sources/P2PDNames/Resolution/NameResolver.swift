import NIOCore
import P2PDNet

/// Looks a name up: asks every source at once and hands what comes to a ``NameResolution``. Confined to its loop; kept by
/// what it waits for.
public final class NameResolver: @unchecked Sendable {
  /// How one source is asked. The future never fails: what went wrong is a finding.
  public typealias Question = (PeerName) -> EventLoopFuture<NameFinding>

  private let loop: any EventLoop
  private let promise: EventLoopPromise<NameReport>
  private let began: NIODeadline
  private var resolution: NameResolution
  private var timer: Scheduled<Void>?

  private init(_ resolution: NameResolution, on loop: any EventLoop) {
    self.resolution = resolution
    self.loop = loop
    began = loop.now
    promise = loop.makePromise()
  }

  /// - Parameters:
  ///   - known: findings that are there already: of files, and of sources that are not asked.
  ///   - questions: the sources that are.
  ///   - expected: the key the name must have, and whence that is known.
  ///   - all: waits for every source.
  ///   - timeout: for all of it: who has not answered by then has failed.
  public static func resolve(
    _ name: PeerName, known: [NameFinding], questions: [LookupSource: Question],
    expected: (key: [UInt8], whence: String)?, all: Bool = false, timeout: TimeAmount, on loop: any EventLoop
  ) -> EventLoopFuture<NameReport> {
    let sources = Set(known.map(\.source)).union(questions.keys)
    let resolver = NameResolver(
      NameResolution(name, sources: sources, expected: expected, all: all, at: loop.now), on: loop)
    return resolver.run(known, questions, timeout)
  }

  private func run(_ known: [NameFinding], _ questions: [LookupSource: Question], _ timeout: TimeAmount)
    -> EventLoopFuture<NameReport>
  {
    for finding in known { handle(.said(finding)) }
    let end = loop.assumeIsolated().scheduleTask(in: timeout) { [self] in
      for source in questions.keys {
        let error = NetError(.timeout, source.words, cause: "no answer in time")
        handle(.said(NameFinding(source, .failed(error), took: loop.now - began)))
      }
    }
    for (source, question) in questions.sorted(by: { $0.key < $1.key }) {
      // What is known is enough: nobody is asked.
      guard !isDone else { break }
      question(resolution.name).assumeIsolated().whenComplete { [self] result in
        switch result {
        case .success(var finding):
          finding.took = loop.now - began
          handle(.said(finding))
        case .failure(let error):
          handle(.said(NameFinding(source, .failed(NetError(error, source.words)), took: loop.now - began)))
        }
      }
    }
    promise.futureResult.assumeIsolated().whenComplete { _ in end.cancel() }
    return promise.futureResult
  }

  private var isDone = false

  private func handle(_ event: NameResolution.Event) {
    for action in resolution.handle(event, now: loop.now) {
      switch action {
      case .wake(let time): timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.tick) }
      case .done:
        isDone = true
        timer?.cancel()
        guard let result = resolution.result else { return }
        promise.succeed(NameReport(resolution.name, resolution.findings, result, took: loop.now - began))
      }
    }
  }
}
