import NIOCore
import P2PDNet

/// Looks for a better way for a relayed pipe, now and then, until the pipe has moved or ended. Confined to its event loop.
final class Improvement: @unchecked Sendable {
  private let loop: any EventLoop
  /// Begins a race; its end is told to ``tried()``. nil: it cannot be begun now.
  private let attempt: (Improvement) -> Connector?
  private let isWanted: () -> Bool
  private var connector: Connector?
  private var timer: Scheduled<Void>?
  private var tries = 0
  private var isOver = false

  /// - Parameters:
  ///   - connector: the race that gave the pipe, and goes on.
  ///   - isWanted: whether the pipe is there, and on its relay.
  init(
    after connector: Connector, on loop: any EventLoop, isWanted: @escaping () -> Bool,
    attempt: @escaping (Improvement) -> Connector?
  ) {
    self.connector = connector
    self.loop = loop
    self.isWanted = isWanted
    self.attempt = attempt
  }

  /// A race is over.
  func tried() {
    connector = nil
    guard !isOver, isWanted() else { return }
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
  }

  private func begin() {
    timer?.cancel()
    timer = nil
    guard !isOver, isWanted(), connector == nil else { return }
    tries += 1
    guard let connector = attempt(self) else { return tried() }
    self.connector = connector
    connector.start()
  }

  /// Ports that were taken, or routers that had to forget something, may be ready after the first; then each minute.
  private static let firstPause = TimeAmount.seconds(5)
  private static let pause = TimeAmount.seconds(60)
}
