import Logging
import NIOCore
import P2PDNames
import P2PDNet

/// The names of a running server, on its loop: lookups from memory where possible, records checked on one thread and stored on
/// another, reads on a third, so that the loop waits for neither signatures nor the disk.
final class NameRegistry {
  enum Pushed {
    /// Judged by the store.
    case done(NameRecord, NameOutcome)
    /// It is no good record.
    case bad(NetError)
    /// Too much waits already.
    case busy
  }

  struct Candidate: Sendable {
    let json: [UInt8]
    /// The name in the request's path.
    let name: PeerName
    let isDeletion: Bool
    let now: UInt64
  }

  fileprivate enum Task: Sendable {
    case store(NameChange)
    case sweep
  }

  private struct Read: Sendable {
    let name: PeerName
    let number: UInt64
  }

  private typealias Waiter = (Result<FoundName?, NetError>) -> Void

  let database: NameDatabase
  private let loop: any EventLoop
  private let clock: @Sendable () -> UInt64
  private let logger: Logger
  private let checker: BatchWorker<Candidate, Result<NameRecord, NetError>>
  private let writer: BatchWorker<Task, NameOutcome>
  private let reader: BatchWorker<Read, Result<NameRecord?, NetError>>
  private var lookups: Lookups<Waiter>
  private var sweeps: Scheduled<Void>?
  private var isClosed = false
  /// Records written.
  private(set) var changes = 0
  var transactions: Int { database.transactions.load(ordering: .relaxed) }

  init(
    _ database: NameDatabase, limits: NameLimits, on loop: any EventLoop, clock: @escaping @Sendable () -> UInt64,
    logger: Logger
  ) {
    (self.database, self.loop, self.clock, self.logger) = (database, loop, clock, logger)
    lookups = Lookups(capacity: Self.cached)
    checker = BatchWorker(on: loop, capacity: Self.waiting, largest: 32) { $0.map(Self.check) }
    writer = BatchWorker(on: loop, capacity: Self.waiting, largest: Self.largestTransaction) { tasks in
      Self.work(tasks, database, limits, clock(), logger)
    }
    reader = BatchWorker(on: loop, capacity: Self.waiting, largest: 64) { reads in
      do throws(NetError) {
        return try database.read(reads.map(\.name)).map { .success($0) }
      } catch {
        return reads.map { _ in .failure(error) }
      }
    }
    sweepLater()
  }

  var hits: Int { lookups.hits }
  var misses: Int { lookups.misses }
  var now: UInt64 { clock() }

  /// Calls `done` with what is alive under the name, perhaps at once.
  func lookup(_ name: PeerName, _ done: @escaping (Result<FoundName?, NetError>) -> Void) {
    guard let action = lookups.ask(name, done, now: clock()) else { return }
    perform(action)
  }

  func push(_ candidate: Candidate, from source: Source, _ done: @escaping (Pushed) -> Void) {
    let isTaken = checker.submit(candidate) { checked in
      switch checked {
      case .failure(let error): done(.bad(error))
      case .success(let record): self.store(NameChange(record: record, source: source), done)
      }
    }
    if !isTaken { done(.busy) }
  }

  /// What was taken is finished first; the disk is left in order.
  func close() -> EventLoopFuture<Void> {
    isClosed = true
    sweeps?.cancel()
    let (writer, reader) = (NIOLoopBound(writer, eventLoop: loop), NIOLoopBound(reader, eventLoop: loop))
    let database = database
    return checker.close().flatMap { writer.value.close() }.flatMap { reader.value.close() }.flatMapThrowing {
      try database.close()
    }
  }

  private func store(_ change: NameChange, _ done: @escaping (Pushed) -> Void) {
    let record = change.record
    let isTaken = writer.submit(.store(change)) { outcome in
      switch outcome {
      case .registered, .replaced:
        self.changes += 1
        self.perform(self.lookups.stored(record, now: self.clock()))
      case .failed(let error): self.logger.error("\(error)")
      default: break
      }
      done(.done(record, outcome))
    }
    if !isTaken { done(.busy) }
  }

  private func perform(_ actions: [Lookups<Waiter>.Action]) { for action in actions { perform(action) } }

  private func perform(_ action: Lookups<Waiter>.Action) {
    switch action {
    case .answer(let waiter, let found): waiter(.success(found))
    case .read(let name, let number):
      let isTaken = reader.submit(Read(name: name, number: number)) { self.finish(name, number, $0) }
      if !isTaken { finish(name, number, .failure(Self.busy)) }
    }
  }

  private func finish(_ name: PeerName, _ number: UInt64, _ result: Result<NameRecord?, NetError>) {
    switch result {
    case .success(let record): perform(lookups.read(name, number, record.map(FoundName.init), now: clock()))
    case .failure(let error):
      if error.code != Self.busy.code { logger.error("\(error)") }
      for waiter in lookups.failed(name, number) { waiter(.failure(error)) }
    }
  }

  private func sweepLater() {
    sweeps = loop.assumeIsolated().scheduleTask(in: Self.sweepPause) {
      // Where pushes fill the queue the sweep waits for its next turn.
      _ = self.writer.submit(.sweep) { _ in }
      if !self.isClosed { self.sweepLater() }
    }
  }

  // MARK: On the threads

  private static func check(_ candidate: Candidate) -> Result<NameRecord, NetError> {
    do throws(NetError) {
      let record = try NameRecord(json: candidate.json)
      let what = "take the record of \(candidate.name)"
      guard record.name == candidate.name else {
        throw NetError(.badRecord, what, cause: "the record in the body is of \(record.name)")
      }
      guard !candidate.isDeletion || record.isDeleted else {
        throw NetError(.badRecord, what, cause: "a deletion's record has an empty value")
      }
      try record.check(now: candidate.now)
      return .success(record)
    } catch {
      return .failure(error)
    }
  }

  private static func work(
    _ tasks: [Task], _ database: NameDatabase, _ limits: NameLimits, _ now: UInt64, _ logger: Logger
  ) -> [NameOutcome] {
    var outcomes = database.apply(tasks.compactMap { $0.change }, limits: limits, now: now)[...]
    return tasks.map { task in
      if task.change != nil { return outcomes.popFirst() ?? .failed(busy) }
      do throws(NetError) {
        let count = try database.sweep(now: now, atMost: largestSweep)
        if count > 0 { logger.debug("expired names deleted", metadata: ["count": "\(count)"]) }
        return .same
      } catch {
        logger.error("\(error)")
        return .failed(error)
      }
    }
  }

  private static let busy = NetError(.limit, "read names", cause: "too many requests wait for the disk")

  /// Names in memory: with values of 600 bytes some 20 MB.
  private static let cached = 16_384
  /// Requests that wait for one of the threads. Beyond, the answer is "busy": at 2 000 a second it is a second's work.
  private static let waiting = 2048
  /// So that one transaction lasts some 20 ms.
  private static let largestTransaction = 256
  /// Ten names expire each second where a server has six million.
  private static let largestSweep = 1000
  private static let sweepPause = TimeAmount.seconds(30)
}

extension NameRegistry.Task {
  fileprivate var change: NameChange? { if case .store(let change) = self { change } else { nil } }
}
