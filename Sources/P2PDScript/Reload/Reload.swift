import Logging
import LuaVM
import NIOCore

/// Reloading: the doors for triggers.
extension ScriptHost {
  /// Reads the files of a protocol again, and lets what they hold serve if it is sound. What fails leaves everything as it
  /// is. While one reload of a protocol is under way, those that are asked for become one more after it.
  /// - Parameters:
  ///   - name: nil for every protocol.
  ///   - dryRun: stage, check and migrate, but do not swap.
  ///   - trigger: who asks: `watch` and `signal` come by themselves; `command`, `lua`, `api`.
  /// - Returns: a report for each protocol; an unknown name gives a rejected one.
  public func reload(_ name: String? = nil, dryRun: Bool = false, trigger: String) async -> [ReloadReport] {
    await reports { host in
      guard let name else { return host.hosted.map(\.name) + host.pending.keys.sorted() }
      return [name]
    } each: { host, name, done in
      host.reload(named: name, ReloadRequest(trigger: trigger, dryRun: dryRun, done: done))
    }
  }

  /// Reloads those protocols that one of these files belongs to, each once.
  /// - Parameter changed: paths as in ``trackedFiles()``.
  public func reload(using changed: Set<String>, trigger: String) async -> [ReloadReport] {
    await reports { host in
      host.hosted.filter { !$0.tracked.paths.isDisjoint(with: changed) }.map(\.name)
        + host.pending.filter { !$0.value.snapshot.paths.isDisjoint(with: changed) }.keys.sorted()
    } each: { host, name, done in
      host.reload(named: name, ReloadRequest(trigger: trigger, done: done))
    }
  }

  /// Lets the generation before serve again: the one that stands by, or one made of the kept sources.
  /// - Parameter name: nil for every protocol that has one.
  /// - Throws: ScriptError where there is nothing to go back to, or no such protocol.
  public func rollback(_ name: String? = nil, trigger: String = "command") async throws -> [ReloadReport] {
    let targets = await onLoop { host in
      host.hosted.filter { name == nil ? $0.canRollBack : $0.name == name }.map { ($0.name, $0.canRollBack) }
    }
    guard !targets.isEmpty, targets.allSatisfy({ $0.1 }) else {
      let what =
        name.map { "no earlier generation of the protocol '\($0)' is known" } ?? "no protocol has an earlier generation"
      throw ScriptError(file: "", message: targets.isEmpty && name != nil ? await unknown(name ?? "") : what)
    }
    return await reports { _ in
      targets.map(\.0)
    } each: { host, name, done in
      guard let hosted = host.hosted.first(where: { $0.name == name }) else {
        return done(host.notHosted(name, trigger))
      }
      hosted.rollBackByHand(trigger: trigger, done: done)
    }
  }

  /// Called on the loop with each report, but for files that are unchanged.
  public func onReload(_ body: @escaping @Sendable (ReloadReport) -> Void) {
    loop.execute { if !self.isClosed { self.reloadListeners.append(body) } }
  }

  /// Called on the loop when a script in service came to more files: a late `require`, `p2pd.watch`. Reloads change
  /// them too, and are told by ``onReload(_:)``.
  public func onTrackedFiles(_ body: @escaping @Sendable () -> Void) {
    loop.execute { if !self.isClosed { self.trackedListeners.append(body) } }
  }

  /// The files whose change matters, by protocol: paths as they are opened. Missing ones that `require` looked for are
  /// among them, and those of the last attempt that was rejected.
  public func trackedFiles() async -> [String: Set<String>] { await trackedContents().mapValues { Set($0.keys) } }

  /// The same with what each held when it was read; nil: it was not there.
  public func trackedContents() async -> [String: [String: ContentHash?]] {
    await onLoop { $0.tracked }
  }

  // MARK: On the loop

  var tracked: [String: [String: ContentHash?]] {
    var all: [String: [String: ContentHash?]] = [:]
    for hosted in hosted { all[hosted.name] = hosted.tracked.files }
    for (path, sources) in pending { all[path] = sources.snapshot.files }
    return all
  }

  func reload(named name: String, _ request: ReloadRequest) {
    if let hosted = hosted.first(where: { $0.name == name }) { return hosted.reload(request) }
    if pending[name] != nil { return add(name, request) }
    request.done(notHosted(name, request.trigger))
  }

  func notHosted(_ name: String, _ trigger: String) -> ReloadReport {
    var report = ReloadReport(protocolName: name, path: "", trigger: trigger)
    report.result = .rejected
    report.error = unknownName(name)
    return report
  }

  private func unknown(_ name: String) async -> String { await onLoop { $0.unknownName(name) } }

  private func unknownName(_ name: String) -> String {
    let names = hosted.map(\.name)
    return "no protocol is called '\(name)'" + Spelling.hint(name, among: names)
      + (names.isEmpty ? "" : "; hosted: \(names.joined(separator: ", "))")
  }

  /// Logs a report, once, and tells who listens.
  func announce(_ report: ReloadReport, logger: Logger) {
    guard report.result != .unchanged, !report.isQuiet else { return }
    switch report.result {
    case .rejected: logger.error("\(report)")
    case .rolledBack: logger.warning("\(report)")
    default: logger.notice("\(report)")
    }
    for listener in reloadListeners { listener(report) }
  }

  private func reports(
    _ names: @escaping @Sendable (ScriptHost) -> [String],
    each: @escaping @Sendable (ScriptHost, String, @escaping (ReloadReport) -> Void) -> Void
  ) async -> [ReloadReport] {
    let promise = loop.makePromise(of: [ReloadReport].self)
    loop.execute {
      let wanted = names(self)
      var reports: [String: ReloadReport] = [:]
      guard !wanted.isEmpty else { return promise.succeed([]) }
      for name in wanted {
        each(self, name) { report in
          reports[name] = report
          if reports.count == wanted.count { promise.succeed(wanted.compactMap { reports[$0] }) }
        }
      }
    }
    return (try? await promise.futureResult.get()) ?? []
  }
}

extension HostedProtocol {
  func reload(_ request: ReloadRequest) {
    queue.append(request)
    nextReload()
  }

  /// Begins the next reload if none is under way: one for all who wait and want the same.
  func nextReload() {
    guard job == nil, let first = queue.first else { return }
    let mine = queue.filter { $0.dryRun == first.dryRun }
    queue.removeAll { $0.dryRun == first.dryRun }
    // What comes by itself must not make a reload that somebody asked for an automatic one.
    let trigger = mine.first { !ReloadRequest.automatic.contains($0.trigger) }?.trigger ?? first.trigger
    let isForced = mine.contains { $0.isForced }
    let job = ReloadJob(self, trigger: trigger, dryRun: first.dryRun, isForced: isForced) { report in
      for request in mine { request.done(report) }
    }
    self.job = job
    job.begin()
  }
}
