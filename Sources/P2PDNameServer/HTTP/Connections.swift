import NIOCore
import P2PDNet

/// All open connections of a server: how many there may be, and their common end. On the loop.
final class Connections {
  private let limits: NameLimits
  let loop: any EventLoop
  private var open: [ObjectIdentifier: HTTPConnection] = [:]
  private var bySource: [Source: Int] = [:]
  private var emptied: [EventLoopPromise<Void>] = []
  private var isStopping = false

  init(_ limits: NameLimits, on loop: any EventLoop) { (self.limits, self.loop) = (limits, loop) }

  var count: Int { open.count }

  /// Whether one more may come.
  func hasRoom(for source: Source, isProxy: Bool) -> Bool {
    !isStopping && open.count < limits.connections
      && (isProxy || (bySource[source] ?? 0) < limits.connectionsPerSource)
  }

  func add(_ connection: HTTPConnection, of source: Source) {
    open[ObjectIdentifier(connection)] = connection
    bySource[source, default: 0] += 1
  }

  func remove(_ connection: HTTPConnection, of source: Source) {
    guard open.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    if let count = bySource[source] { bySource[source] = count > 1 ? count - 1 : nil }
    guard open.isEmpty else { return }
    let promises = emptied
    emptied = []
    for promise in promises { promise.succeed() }
  }

  /// Each ends with the answer under way; after the time is over, as it is.
  func stop(within time: TimeAmount) -> EventLoopFuture<Void> {
    isStopping = true
    for connection in open.values { connection.stop() }
    guard !open.isEmpty else { return loop.makeSucceededVoidFuture() }
    let promise = loop.makePromise(of: Void.self)
    emptied.append(promise)
    let timer = loop.assumeIsolated().scheduleTask(in: time) {
      for connection in self.open.values { connection.close() }
    }
    promise.futureResult.assumeIsolated().whenComplete { _ in timer.cancel() }
    return promise.futureResult
  }
}
