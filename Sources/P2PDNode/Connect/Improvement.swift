import NIOCore
import P2PDNet
import P2PDTraversal

/// Looks for a better way for a relayed pipe, now and then, until the pipe has moved or ended. Confined to its event loop.
final class Improvement: @unchecked Sendable {
  private let loop: any EventLoop
  /// Begins a race; its end is told to ``tried()``. nil: it cannot be begun now.
  private let attempt: (Improvement) -> Connector?
  private weak var pipe: Pipe?
  private let firstSearch: EventLoopPromise<Void>
  private var connector: Connector?
  private var timer: Scheduled<Void>?
  private var tries = 0
  private var isOver = false

  /// - Parameters:
  ///   - connector: the race that gave the pipe, and goes on.
  init(of pipe: Pipe, after connector: Connector, attempt: @escaping (Improvement) -> Connector?) {
    self.pipe = pipe
    self.connector = connector
    loop = pipe.loop
    firstSearch = loop.makePromise()
    self.attempt = attempt
  }

  func isOf(_ pipe: Pipe) -> Bool { self.pipe === pipe }

  /// The race that gave the pipe is over.
  var searched: EventLoopFuture<Void> { firstSearch.futureResult }

  /// Whether the pipe is there, and on its relay.
  private var isWanted: Bool { pipe.map { $0.isOpen && $0.strategy == ConnectStrategy.relay.rawValue } ?? false }

  /// A race is over.
  func tried() {
    if isWanted, let connector { pipe?.whyNoBetter = connector.whyRelayed }
    connector = nil
    firstSearch.succeed()
    guard !isOver, isWanted else { return }
    timer?.cancel()
    timer = loop.assumeIsolated().scheduleTask(in: tries == 0 ? Self.firstPause : Self.pause) { self.begin() }
  }

  /// The network is another one.
  func networkChanged() {
    guard connector == nil, timer != nil else { return }
    begin()
  }

  /// The pipe has ended.
  func end() {
    isOver = true
    timer?.cancel()
    timer = nil
    connector?.cancel()
    connector = nil
    firstSearch.succeed()
  }

  private func begin() {
    timer?.cancel()
    timer = nil
    guard !isOver, isWanted, connector == nil else { return }
    tries += 1
    guard let connector = attempt(self) else { return tried() }
    self.connector = connector
    connector.start()
  }

  /// Ports that were taken, or routers that had to forget something, may be ready after the first; then each minute.
  private static let firstPause = TimeAmount.seconds(5)
  private static let pause = TimeAmount.seconds(60)
}
