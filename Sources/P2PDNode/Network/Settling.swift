import NIOCore
import P2PDNet

/// Tells when a node that has just started, knows what there is to know: its paths are measured, and enough of its
/// brokers are there. Confined to the node's loop.
final class Settling: @unchecked Sendable {
  private unowned let node: Node
  private let promise: EventLoopPromise<Void>
  private var limit: Scheduled<Void>?
  private var isMeasured = false
  private(set) var isDone = false

  var done: EventLoopFuture<Void> { promise.futureResult }

  init(_ node: Node) {
    self.node = node
    promise = node.loop.makePromise()
    limit = node.loop.assumeIsolated().scheduleTask(in: Self.patience) { [weak self] in self?.finish() }
    let mapped = node.portMapper?.settled() ?? node.loop.makeSucceededVoidFuture()
    node.knowledge.settled().and(mapped).assumeIsolated().whenComplete { [weak self] _ in
      self?.isMeasured = true
      self?.look()
    }
    look()
  }

  /// A node that was let go without its end.
  deinit {
    if !isDone { promise.fail(NetError(.closed, "start a node", cause: "it is gone")) }
  }

  /// Looks whether it is so.
  func look() {
    guard !isDone, isMeasured else { return }
    if let signalling = node.signalling, !node.ownBrokers.isEmpty {
      let own = signalling.status.filter { !$0.isForeign }
      let up = own.filter { $0.state == .up }.count
      let open = own.filter { $0.state == .connecting && $0.error == nil }.count
      guard up >= Self.enoughBrokers || (open == 0 && !own.isEmpty) else { return }
    }
    finish()
  }

  /// Waits no longer; who waits for it is told now.
  func finish() {
    guard !isDone else { return }
    limit?.cancel()
    limit = nil
    // What is new goes into the address before anybody is told that it is whole.
    node.renew()
    node.orientation.finish()
    isDone = true
    promise.succeed()
  }

  /// Of an address: with one of them down there is another.
  private static let enoughBrokers = 2
  /// A dead broker or server takes longer than this to be known as dead, and then it was not worth waiting for.
  private static let patience = TimeAmount.seconds(8)
}
