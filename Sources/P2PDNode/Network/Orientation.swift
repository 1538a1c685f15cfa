import NIOCore
import P2PDTraversal

/// Tells when a node that has just started knows the first things of its network: how one way out looks from outside. One
/// round trip to a server, where one answers; nobody waits longer than a moment. Confined to the node's loop.
final class Orientation: @unchecked Sendable {
  private let loop: any EventLoop
  private var isOriented: Bool
  private var waiters: [() -> Void] = []
  private var limit: Scheduled<Void>?

  init(isNeeded: Bool, on loop: any EventLoop) {
    self.loop = loop
    isOriented = !isNeeded
  }

  /// Something new is known.
  func look(_ knowledge: NetworkKnowledge) {
    guard !isOriented, knowledge.reports.values.contains(where: { $0.tcp.mapping != nil }) else { return }
    finish()
  }

  /// Calls when it is so; at once if it is.
  func whenDone(_ body: @escaping () -> Void) {
    if isOriented { return body() }
    waiters.append(body)
    if limit == nil { limit = loop.assumeIsolated().scheduleTask(in: Self.patience) { self.finish() } }
  }

  func finish() {
    isOriented = true
    limit?.cancel()
    limit = nil
    let waiters = waiters
    self.waiters = []
    for waiter in waiters { waiter() }
  }

  /// From the first wait on: two servers are asked over TCP, and a lost SYN is sent again after a second.
  private static let patience = TimeAmount.milliseconds(800)
}

extension Node {
  func whenOriented(_ body: @escaping () -> Void) { orientation.whenDone(body) }
}
