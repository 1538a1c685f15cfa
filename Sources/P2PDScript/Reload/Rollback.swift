import LuaVM
import NIOCore

/// Watching a new generation, and going back to the one before.
extension HostedProtocol {
  /// Puts the generation in service on probation.
  func watch(_ new: Generation, after old: Generation) {
    endProbation()
    let time = host.options.reload.probation
    probation = Probation(from: host.loop.now, for: time, old: old.counters)
    lookAgain(at: new, in: min(Self.tick, time))
  }

  private func lookAgain(at new: Generation, in time: TimeAmount) {
    probationTick = host.loop.assumeIsolated().scheduleTask(in: time) {
      self.judge { $0.look(new.counters, now: self.host.loop.now) }
      if self.probation != nil { self.lookAgain(at: new, in: time) }
    }
  }

  /// A callback or task of a generation in service failed.
  func failed(in generation: Generation, _ failure: LuaFailure, _ place: String) {
    guard generation === current else { return }
    judge { $0.look(generation.counters, now: self.host.loop.now) }
  }

  func startFailed(of generation: Generation, _ failure: LuaFailure) {
    guard generation === current else { return }
    judge { $0.startFailed(failure.message) }
  }

  private func judge(_ ask: (inout Probation) -> Probation.Verdict) {
    guard var probation else { return }
    let verdict = ask(&probation)
    self.probation = probation
    switch verdict {
    case .open: break
    case .passed:
      endProbation()
      endStandby()
    case .failed(let reason):
      let bad = current
      endProbation()
      // Not while a task of the generation is on the stack.
      host.loop.assumeIsolated().execute {
        self.host.whenIdle { if self.current === bad { self.rollBack(because: reason, trigger: "probation") } }
      }
    }
  }

  func endProbation() {
    probation = nil
    probationTick?.cancel()
    probationTick = nil
  }

  /// The generation that stands by serves again: a pointer, as at a swap. Its timers, servers and state come back.
  @discardableResult
  private func rollBack(because reason: String, trigger: String, automaticOnly: Bool = false) -> ReloadReport? {
    guard let old = standby, !host.isClosed, !host.isShuttingDown else { return nil }
    let bad = current
    endProbation()
    var report = ReloadReport(protocolName: name, path: path, trigger: trigger)
    (report.from, report.fromVersion, report.to, report.toVersion) = (bad.id, bad.version, old.id, old.version)
    report.files = bad.sources.snapshot.changes(to: old.sources.snapshot)
    report.inFlight = bad.inFlight + bad.runs.count + bad.sessions.count
    let stopwatch = Stopwatch()
    slot.swap(to: old.handlers)
    current = old
    standby = nil
    bad.phase = .leaving
    old.phase = .live
    report.times.swap = stopwatch.seconds
    report.pipes = slot.following

    barred.append(Barred(sources: bad.sources.snapshot, reason: reason, automaticOnly: automaticOnly))
    if history.count > 1 { history.removeLast() }
    old.succession?.abandon()
    old.succession = nil
    old.resumeTimers()
    change(from: bad, to: old)
    if old.handlers.session != nil || bad.handlers.session != nil { moveSessions() }

    report.result = .rolledBack
    report.error = reason
    report.times.total = stopwatch.seconds
    report.generations = generationInfos
    host.announce(report, logger: old.logger)
    return report
  }

  var canRollBack: Bool { standby != nil || history.count > 1 }

  func rollBackByHand(trigger: String, done: @escaping (ReloadReport) -> Void) {
    let reason = "asked for by \(trigger)"
    if let report = rollBack(because: reason, trigger: trigger, automaticOnly: true) { return done(report) }
    guard job == nil else {
      // A reload is under way: it decides first.
      return host.loop.assumeIsolated().scheduleTask(in: Self.retry) {
        guard !self.host.isClosed else { return done(self.host.notHosted(self.name, trigger)) }
        self.rollBackByHand(trigger: trigger, done: done)
      }.futureResult.whenFailure { _ in }
    }
    guard history.count > 1 else { return done(host.notHosted(name, trigger)) }
    let (left, kept) = (current.sources.snapshot, history[history.count - 2])
    let job = ReloadJob(self, trigger: trigger, dryRun: false, kept: kept) { report in
      if report.result == .rolledBack {
        // What was left is not to go back to.
        self.history.removeLast()
        self.barred.append(Barred(sources: left, reason: reason, automaticOnly: true))
      }
      done(report)
    }
    self.job = job
    job.begin()
  }

  private static let tick = TimeAmount.seconds(1)
  private static let retry = TimeAmount.milliseconds(10)
}
