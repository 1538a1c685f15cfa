import Logging
import NIOCore
import P2PDNet
import Synchronization

/// Tells, on an event loop, that files have other content than before: saved in whichever way an editor saves, pointed
/// elsewhere by a link anywhere on the way to them, gone, or there again. A burst of saves is told once.
///
/// The kernel tells of events (inotify on folders); where it cannot, the files are looked at every two seconds. Both, and
/// the reading of the files, are on a thread of their own. Confined to its event loop.
public final class SourceWatch: @unchecked Sendable {
  private let loop: any EventLoop
  private let logger: Logger
  private let changed: (SourceChanges) -> Void
  private let thread: DescriptorThread
  private let surveyor: SourceSurveyor
  private let inbox: SignsInbox
  private var plan: WatchPlan
  private var timer: Scheduled<Void>?
  private var isClosed = false
  private let closed: EventLoopPromise<Void>

  /// - Parameter changed: called on `loop`, which must be the caller's.
  /// - Throws: NetError where the system gives no thread or descriptor for it.
  public convenience init(
    on loop: any EventLoop, logger: Logger, changed: @escaping (SourceChanges) -> Void
  ) throws {
    try self.init(on: loop, logger: logger, plan: WatchPlan(), calls: .kernel, changed: changed)
  }

  init(
    on loop: any EventLoop, logger: Logger, plan: WatchPlan, calls: InotifyCalls,
    changed: @escaping (SourceChanges) -> Void
  ) throws {
    loop.assertInEventLoop()
    self.loop = loop
    self.logger = logger
    self.plan = plan
    self.changed = changed
    let thread = try DescriptorThread()
    let surveyor = SourceSurveyor(calls)
    let inbox = SignsInbox()
    (self.thread, self.surveyor, self.inbox) = (thread, surveyor, inbox)
    closed = loop.makePromise()
    do {
      try thread.start(name: "p2pd-watch", descriptor: surveyor.descriptor) { [weak self] in
        if let signs = surveyor.signs(), inbox.put(signs) { loop.execute { [weak self] in self?.takeSigns() } }
        return true
      }
    } catch {
      closed.succeed()
      isClosed = true
      throw error
    }
  }

  deinit {
    // The thread must not outlive a watch that nobody closed.
    if !isClosed {
      inbox.close()
      let closed = closed
      thread.stop { closed.succeed() }
    }
  }

  /// From now on these are tracked and no others.
  /// - Parameters:
  ///   - files: with the hash of what was loaded, so that a change since is told; `.some(nil)`: it was not there. For a
  ///     file that is tracked already this does not count: only a change since it was told of last is told.
  ///   - folders: those whose handler files (`*.lua`) come and go, with the paths of those that are known.
  public func track(_ files: [String: ContentHash?], folders: [String: Set<String>]) {
    loop.assertInEventLoop()
    handle(
      .track(
        files: files.mapValues { .some($0.map { .content($0) } ?? .missing) },
        folders: folders.mapValues { .some(Set($0.map(ScriptFiles.fileName))) }))
  }

  /// From now on these are tracked and no others; what is found first counts as known.
  public func track(_ files: Set<String>, folders: Set<String> = []) {
    loop.assertInEventLoop()
    handle(
      .track(
        files: Dictionary(uniqueKeysWithValues: files.map { ($0, nil) }),
        folders: Dictionary(uniqueKeysWithValues: folders.map { ($0, nil) })))
  }

  /// Ends the watching: nothing is told after this call. The future completes when the thread is gone.
  @discardableResult
  public func close() -> EventLoopFuture<Void> {
    loop.assertInEventLoop()
    guard !isClosed else { return closed.futureResult }
    isClosed = true
    timer?.cancel()
    timer = nil
    inbox.close()
    let closed = closed
    thread.stop { closed.succeed() }
    return closed.futureResult
  }

  private func takeSigns() {
    guard let signs = inbox.take() else { return }
    if signs.isOverflow { logger.info("the kernel lost some changes of files: all are looked at") }
    handle(.signs(signs))
  }

  private func handle(_ event: WatchPlan.Event) {
    guard !isClosed else { return }
    for action in plan.handle(event, now: loop.now) where !isClosed {
      switch action {
      case .survey(let order): survey(order)
      case .wake(let time): wake(time)
      case .report(let changes): changed(changes)
      case .polling(let spots): tell(spots)
      }
    }
  }

  private func survey(_ order: SurveyOrder) {
    let (loop, inbox, surveyor) = (loop, inbox, surveyor)
    thread.perform { [weak self] in
      let survey = surveyor.survey(order)
      guard !inbox.isClosed else { return }
      loop.execute { [weak self] in self?.handle(.surveyed(survey)) }
    }
  }

  private func wake(_ time: NIODeadline?) {
    timer?.cancel()
    timer = time.map { time in
      loop.scheduleTask(deadline: time) { [weak self] in self?.handle(.woke) }
    }
  }

  private func tell(_ spots: Set<BlindSpot>) {
    guard !spots.isEmpty else { return logger.info("changes of files are told by the kernel again") }
    for text in spots.map(\.description).sorted() {
      logger.warning("\(text). Until then the scripts are looked at every 2 s.")
    }
  }
}

/// What the thread has to tell the loop: however many events there are, one call is on its way at most.
private final class SignsInbox: Sendable {
  private struct State {
    var signs: WatchSigns?
    var isClosed = false
  }
  private let state = Mutex(State())

  var isClosed: Bool { state.withLock { $0.isClosed } }

  /// True: the loop is to be called.
  func put(_ new: WatchSigns) -> Bool {
    state.withLock { state in
      guard !state.isClosed else { return false }
      let isFirst = state.signs == nil
      let wasOverflow = state.signs?.isOverflow ?? false
      state.signs = WatchSigns(isWriting: new.isWriting, isOverflow: new.isOverflow || wasOverflow)
      return isFirst
    }
  }

  func take() -> WatchSigns? {
    state.withLock { state in
      defer { state.signs = nil }
      return state.signs
    }
  }

  func close() { state.withLock { $0.isClosed = true } }
}
