import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// Protocols that come and go while the node runs: the files of a hosted folder.
extension ScriptHost {
  /// Loads a file and hosts it, unless it is hosted already: then it is reloaded. One that cannot be loaded is tried again
  /// by a ``reload(_:dryRun:trigger:)`` of its path.
  public func addProtocol(path: String, trigger: String = "watch") async -> ReloadReport {
    await report { host, done in
      let request = ReloadRequest(trigger: trigger, done: done)
      if let hosted = host.hosted.first(where: { $0.path == path }) {
        hosted.reload(request)
      } else {
        host.add(path, request)
      }
    }
  }

  /// Ends a protocol: its pipes are closed, with words for the other side, its name is not hosted any more, `M.stop` is
  /// called. Also forgets a file that could not be loaded, by its path.
  public func removeProtocol(name: String, trigger: String = "watch") async -> ReloadReport {
    await report { $0.remove(name, trigger, $1) }
  }

  private func report(_ body: @escaping @Sendable (ScriptHost, @escaping (ReloadReport) -> Void) -> Void) async
    -> ReloadReport
  {
    let promise = loop.makePromise(of: ReloadReport.self)
    loop.execute { body(self) { promise.succeed($0) } }
    if let report = try? await promise.futureResult.get() { return report }
    return ReloadReport(protocolName: "", path: "", trigger: "")
  }

  func add(_ path: String, _ request: ReloadRequest) {
    var report = ReloadReport(protocolName: ScriptFiles.baseName(path), path: path, trigger: request.trigger)
    let watch = Stopwatch()
    let sources = SourceReader()
    let finish = { (failure: ScriptError?) in
      report.times.total = watch.seconds
      report.error = failure?.message
      report.traceback = failure?.traceback ?? ""
      report.result = failure == nil ? .active : .rejected
      if !self.isClosed, failure != nil { self.pending[path] = sources }
      self.announce(report, logger: self.logger)
      request.done(report)
    }
    if let known = pending[path],
      known.snapshot.isSame(in: SourceSnapshot.read(known.snapshot.paths, dataPaths: known.dataPaths)),
      ReloadRequest.automatic.contains(request.trigger)
    {
      return request.done(report)
    }
    load(path, sources: sources) { result in
      switch result {
      case .failure(let error): finish(error)
      case .success(let hosted):
        (report.protocolName, report.to, report.toVersion) = (hosted.name, hosted.current.id, hosted.version)
        report.files = SourceSnapshot().changes(to: sources.snapshot)
        self.pending[path] = nil
        self.goLive(hosted) { finish($0.map { ScriptError(file: path, message: "\(path): \($0)") }) }
      }
    }
  }

  private func goLive(_ hosted: HostedProtocol, then: @escaping (NetError?) -> Void) {
    guard let node else { return then(nil) }
    prepareListeners(of: hosted.current, after: nil) { failure in
      do {
        if let failure { throw failure }
        try self.attach(hosted, to: node, isDefault: self.hosted.count == 1)
        self.begin(hosted.current)
        then(nil)
      } catch {
        self.hosted.removeAll { $0 === hosted }
        hosted.current.retire("not hosted")
        self.drop(hosted.current)
        then(NetError(error, "host"))
      }
    }
  }

  private func remove(_ name: String, _ trigger: String, _ done: @escaping (ReloadReport) -> Void) {
    if pending.removeValue(forKey: name) != nil {
      var report = ReloadReport(protocolName: ScriptFiles.baseName(name), path: name, trigger: trigger)
      report.result = .removed
      return done(report)
    }
    guard let index = hosted.firstIndex(where: { $0.name == name || $0.path == name }) else {
      return done(notHosted(name, trigger))
    }
    let ending = hosted.remove(at: index)
    var report = ReloadReport(protocolName: ending.name, path: ending.path, trigger: trigger)
    (report.result, report.from, report.fromVersion) = (.removed, ending.current.id, ending.current.version)
    report.pipes = ending.slot.pipes.count
    let generations = ending.end(because: "the protocol '\(ending.name)' is not hosted any more")
    if index == 0, let node, let next = hosted.first, let face = next.current.hostingNode, face.book.hostings[""] == nil
    {
      _ = try? face.node === node ? face.host("", next.slot) : ()
    }
    wind(down: generations, deadline: Self.endTime, reason: "the protocol is not hosted any more") {
      for generation in generations { self.end(generation) }
      self.announce(report, logger: self.logger)
      done(report)
    }
  }

  /// What `M.stop` and queued data get.
  private static let endTime = TimeAmount.seconds(5)
}

extension HostedProtocol {
  /// Takes its names away, tells its pipes and its script.
  /// - Returns: all its generations, which end now.
  fileprivate func end(because reason: String) -> [Generation] {
    isEnded = true
    endProbation()
    standby = nil
    succession = nil
    let all = generations
    for generation in all { generation.succession?.abandon() }
    for name in Array(book.hostings.keys) { current.hostingNode?.unhost(name, because: reason) }
    if let stop = current.stopCallback {
      host.startCallback(stop, arguments: [], generation: current, place: "stop")
    }
    return all
  }
}
