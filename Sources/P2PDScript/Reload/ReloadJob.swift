import Dispatch
import LuaVM
import NIOCore

/// What somebody wants reloaded, and who hears of it.
struct ReloadRequest {
  let trigger: String
  var dryRun = false
  /// Stages the files even where they hold what serves already: tests reload without a change.
  var isForced = false
  let done: (ReloadReport) -> Void

  /// Reloads that happen by themselves leave a rolled back content alone even after a rollback by hand.
  static let automatic: Set<String> = ["watch", "signal"]
}

/// One reload of one protocol: read, stage, check, migrate, swap. Whatever fails before the swap leaves the generation in
/// service and its state as they are.
final class ReloadJob: @unchecked Sendable {
  private let host: ScriptHost
  private let hosted: HostedProtocol
  private let old: Generation
  private let done: (ReloadReport) -> Void
  private var report: ReloadReport
  /// The sources to go back to; nil reads the files.
  private let kept: SourceSnapshot?
  private let isForced: Bool
  private let watch = Stopwatch()

  init(
    _ hosted: HostedProtocol, trigger: String, dryRun: Bool, kept: SourceSnapshot? = nil,
    isForced: Bool = false, done: @escaping (ReloadReport) -> Void
  ) {
    self.hosted = hosted
    self.kept = kept
    self.isForced = isForced
    self.done = done
    host = hosted.host
    old = hosted.current
    report = ReloadReport(protocolName: hosted.name, path: hosted.path, trigger: trigger)
    report.dryRun = dryRun
    report.from = old.id
    report.fromVersion = old.version
  }

  func begin() {
    if let kept { return stage(SourceReader(prepared: kept)) }
    let data = hosted.dataPaths
    let paths = hosted.barred.reduce(hosted.tracked.paths) { $0.union($1.sources.paths) }
    if host.options.reload.readsOnLoop { return found(SourceSnapshot.read(paths, dataPaths: data)) }
    let loop = host.loop
    DispatchQueue.global(qos: .userInitiated).async {
      let snapshot = SourceSnapshot.read(paths, dataPaths: data)
      loop.execute { self.found(snapshot) }
    }
  }

  /// The files were read. Unchanged ones end it here.
  private func found(_ snapshot: SourceSnapshot) {
    report.times.read = watch.seconds
    guard !host.isClosed, !host.isShuttingDown, !hosted.isEnded else { return fail(ScriptError.ending(hosted.path)) }
    if !isForced, old.sources.snapshot.isSame(in: snapshot) {
      report.to = old.id
      report.toVersion = old.version
      return finish(.unchanged)
    }
    let isAutomatic = ReloadRequest.automatic.contains(report.trigger)
    if let barred = hosted.barred.first(where: { $0.sources.isSame(in: snapshot) && (isAutomatic || !$0.automaticOnly) }
    ) {
      report.isQuiet = isAutomatic
      return fail(
        ScriptError(
          file: hosted.path,
          message:
            "\(hosted.path): this content was rolled back (\(barred.reason)); it is not tried again until a file changes"
        ))
    }
    stage(SourceReader(prepared: snapshot))
  }

  // MARK: Stage and check

  private func stage(_ sources: SourceReader) {
    let new = host.makeGeneration(name: old.name, path: old.path, sources: sources)
    new.hosted = hosted
    let staging = Staging(new)
    staging.run(
      prepare: { ready in
        self.host.prepareListeners(of: new, after: self.old) { failure in
          ready(failure.map { ScriptError(file: new.path, message: "\(new.path): a server cannot be opened: \($0)") })
        }
      },
      then: { result in
        self.report.times.stage = staging.stageTime
        self.report.times.check = staging.checkTime
        self.report.times.pause = staging.pause
        self.report.files = self.old.sources.snapshot.changes(to: sources.snapshot)
        self.report.toVersion = new.version
        do {
          guard !self.host.isClosed, !self.host.isShuttingDown, !self.hosted.isEnded else {
            throw ScriptError.ending(self.hosted.path)
          }
          let name = try result.get()
          guard name == self.hosted.name else {
            throw ScriptError(
              file: new.path,
              message:
                "\(new.path): the protocol's name cannot change while it is hosted ('\(self.hosted.name)' is now '\(name)'): set M.protocol back, or start the node again"
            )
          }
          self.migrate(new)
        } catch {
          self.reject(new, ScriptError(error, in: new.path))
        }
      })
  }

  // MARK: Migrate

  private func migrate(_ new: Generation) {
    let stopwatch = Stopwatch()
    guard let doors = host.doors, let cell = old.cell else { return reject(new, ScriptError.ending(new.path)) }
    let decided = { (failure: ScriptError?) in
      self.report.times.migrate = stopwatch.seconds
      if let failure { self.reject(new, failure) } else { self.swap(to: new) }
    }
    guard new.version != old.version else {
      return StagedCall.run(doors.audit, [.ref(cell)], new) { result in
        decided(self.shareState(with: new, result))
      }
    }
    guard let migrate = new.migrateCallback else {
      return StagedCall.run(doors.isEmpty, [.ref(cell)], new) { result in
        decided(self.emptyState(for: new, result))
      }
    }
    // Nothing may change the state between the copy and the swap.
    let slots = [hosted.slot] + old.listeners.map(\.face.slot)
    for slot in slots { slot.hold() }
    StagedCall.run(doors.migrate, [.ref(migrate), .ref(cell), .int(Int64(old.version))], new, tablesAsRefs: true) {
      result in
      decided(self.take(result, for: new))
      for slot in slots { slot.release() }
    }
  }

  private func shareState(with new: Generation, _ audit: Result<[LuaValue], LuaFailure>) -> ScriptError? {
    do {
      if let refusal = try audit.get().first?.text {
        return ScriptError(file: new.path, message: "\(new.path): \(refusal)")
      }
      try host.giveState(to: new, like: old)
      return nil
    } catch {
      return ScriptError(error, in: new.path)
    }
  }

  /// The version changed and there is no `migrate`: right where there is nothing to migrate.
  private func emptyState(for new: Generation, _ isEmpty: Result<[LuaValue], LuaFailure>) -> ScriptError? {
    do {
      guard try isEmpty.get().first?.bool == true else {
        return ScriptError(
          file: new.path,
          message:
            "\(new.path): M.version went from \(old.version) to \(new.version) without M.migrate(state, old_version), and p2pd.state is not empty"
        )
      }
      try host.giveState(to: new, like: nil)
      return nil
    } catch {
      return ScriptError(error, in: new.path)
    }
  }

  private func take(_ migrated: Result<[LuaValue], LuaFailure>, for new: Generation) -> ScriptError? {
    do {
      let values = try migrated.get()
      guard let cell = values.first?.ref, let holder = new.stateHolder else {
        return ScriptError(file: new.path, message: "\(new.path): \(values.last?.text ?? "M.migrate gave no state")")
      }
      new.cell = cell
      try host.vm.setField(holder, "cell", .ref(cell))
      return nil
    } catch {
      return ScriptError(error, in: new.path)
    }
  }

  // MARK: The end

  private func swap(to new: Generation) {
    guard !host.isClosed, !host.isShuttingDown, !hosted.isEnded else {
      return reject(new, ScriptError.ending(new.path))
    }
    if report.dryRun {
      discard(new)
      return finish(.valid)
    }
    guard hosted.current === old else {
      // A rollback came in between: what was checked was checked against another generation.
      discard(new)
      let job = ReloadJob(
        hosted, trigger: report.trigger, dryRun: report.dryRun, kept: kept, isForced: isForced, done: done)
      hosted.job = job
      return job.begin()
    }
    report.to = new.id
    report.pipes = hosted.slot.following
    report.inFlight = old.inFlight + old.runs.count + old.sessions.count
    let stopwatch = Stopwatch()
    hosted.swap(to: new)
    report.times.swap = stopwatch.seconds
    report.times.pause = max(report.times.pause, report.times.swap)
    hosted.rejected = nil
    hosted.succeed(old, new, onProbation: kept == nil)
    finish(kept == nil ? .active : .rolledBack)
  }

  private func reject(_ new: Generation, _ error: ScriptError) {
    hosted.rejected = new.sources
    discard(new)
    fail(error)
  }

  private func discard(_ new: Generation) {
    new.retire("not taken")
    new.hosted = nil
    host.drop(new)
  }

  private func fail(_ error: ScriptError) {
    report.to = nil
    report.error = error.message
    report.traceback = error.traceback
    finish(.rejected)
  }

  private func finish(_ result: ReloadReport.Result) {
    report.result = result
    if isForced, result == .active { report.isQuiet = true }
    report.times.total = watch.seconds
    if !host.isClosed { report.generations = hosted.generationInfos }
    hosted.job = nil
    host.announce(report, logger: hosted.current.logger)
    done(report)
    hosted.nextReload()
  }
}

extension ScriptError {
  static func ending(_ path: String) -> ScriptError {
    ScriptError(file: path, message: "\(path): the node is shutting down")
  }
}
