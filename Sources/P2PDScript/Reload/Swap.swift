import LuaVM
import NIOCore
import P2PDNet

extension HostedProtocol {
  /// Another generation serves from now on. A pointer for the pipes, one for the status; nothing here can fail.
  func swap(to new: Generation) {
    let old = current
    slot.swap(to: new.handlers, draining: new.drains)
    current = new
    new.hosted = self
    new.phase = .live
    old.phase = .leaving
  }

  /// What follows a swap, in the turns of the loop after it.
  /// - Parameter onProbation: the new one is new, and not an earlier one that comes back: it is remembered, and the old
  ///   one stands by for a while, in case it fails.
  func succeed(_ old: Generation, _ new: Generation, onProbation: Bool) {
    endProbation()
    if onProbation {
      history.append(new.sources.snapshot)
      if history.count > max(1, host.options.reload.kept) { history.removeFirst() }
      barred = []
    }
    endStandby()
    if host.options.autoRollback, onProbation {
      standby = old
      watch(new, after: old)
    }
    if let face = old.hostingNode { new.hostingNode = NodeFace(face.node, generation: new, isOwn: false, book: book) }
    new.activate()
    change(from: old, to: new)
    if old.handlers.session != nil || new.handlers.session != nil { moveSessions() }
  }

  /// Begins what has to happen between the two.
  func change(from old: Generation, to new: Generation) {
    let next = Succession(self, from: old, to: new, before: succession)
    old.succession = next
    succession = next
    next.begin()
  }

  /// A generation that stood by for a rollback is not needed any more.
  func endStandby() {
    guard let old = standby else { return }
    standby = nil
    old.succession?.standbyOver()
  }

  /// Its last pipe that finished on an old generation is gone.
  func drained(_ old: Generation) { old.succession?.drained() }

  /// Pipes with sessions are told of the swap, some at a time; others hear of it with their next message.
  func moveSessions() {
    let faces = Array(slot.pipes.values)
    move(faces[...])
  }

  private func move(_ faces: ArraySlice<PipeFace>) {
    guard !faces.isEmpty else { return }
    host.loop.assumeIsolated().execute {
      guard !self.host.isClosed else { return }
      for face in faces.prefix(Self.sessionsPerTurn) { face.follow() }
      self.host.afterRun()
      self.move(faces.dropFirst(Self.sessionsPerTurn))
    }
  }

  private static let sessionsPerTurn = 64
}

/// The time between a swap and the moment when nothing of the old generation is left: `stop` of the old, `start` of the
/// new, what the old had opened, handlers in flight. Confined to the loop.
final class Succession {
  let old: Generation
  let new: Generation
  private let host: ScriptHost
  private unowned let hosted: HostedProtocol
  /// The one before, while its `stop` runs.
  private var before: Succession?
  private var isOver = false
  private(set) var isStopped = false
  private var isReleased = false
  private var isEmptied = false
  /// The old one went on serving the pipes it had.
  private var drains = false
  private var waiting: [() -> Void] = []
  private var timers: [Scheduled<Void>] = []

  init(_ hosted: HostedProtocol, from old: Generation, to new: Generation, before: Succession?) {
    self.hosted = hosted
    self.old = old
    self.new = new
    self.before = before
    host = hosted.host
  }

  func begin() {
    host.openRecorded(new) { failure in
      if let failure { self.serverFailed(failure) }
    }
    if old.drainingPipes > 0 {
      // It is in service still, for its pipes; it stops with the last of them.
      drains = true
      return startNew()
    }
    old.pauseTimers()
    let times = host.options.reload
    after(times.handlerDeadline) { self.endHandlers() }
    if let before, !before.isStopped { before.waiting.append { self.stopOld() } } else { stopOld() }
    before = nil
  }

  /// The pipes that finished on the old generation are gone.
  func drained() {
    guard !isOver else { return }
    old.pauseTimers()
    after(host.options.reload.handlerDeadline) { self.endHandlers() }
    stop(old) {
      self.old.endService()
      self.release()
    }
  }

  /// A rollback comes in between: the old generation serves again.
  func abandon() {
    isOver = true
    for timer in timers { timer.cancel() }
    timers = []
    stopped()
  }

  // MARK: stop, then start

  private func stopOld() {
    guard !isOver else { return }
    stop(old) { self.startNew() }
  }

  private func stop(_ generation: Generation, then: @escaping () -> Void) {
    guard generation.isStarted else { return then() }
    generation.isStarted = false
    guard let stop = generation.stopCallback else { return then() }
    var isDone = false
    let once = {
      guard !isDone else { return }
      isDone = true
      then()
    }
    after(host.options.reload.stopTime, once)
    host.startCallback(stop, arguments: [], generation: generation, place: "stop", ended: once)
  }

  private func startNew() {
    guard !isOver, !isStopped else { return }
    if !drains { old.endService() }
    stopped()
    guard hosted.current === new, !new.isStarted else {
      if !drains { release() }
      return
    }
    host.startService(of: new) { failure in
      if let failure, failure.kind != .cancelled { self.hosted.startFailed(of: self.new, failure) }
      if !self.drains { self.release() }
    }
    if !drains { after(host.options.reload.handlerDeadline) { self.release() } }
  }

  private func stopped() {
    isStopped = true
    let actions = waiting
    waiting = []
    for action in actions { action() }
  }

  private func serverFailed(_ error: NetError) {
    guard !isOver, hosted.current === new else { return }
    new.logger.error("a server of the top level cannot be opened: \(error)")
    hosted.startFailed(of: new, LuaFailure(message: "a server of the top level cannot be opened: \(error)"))
  }

  // MARK: What the old one leaves behind

  /// Servers and names the new generation has not taken are given up.
  private func release() {
    guard !isReleased, !isOver else { return }
    isReleased = true
    hosted.giveUpServers(of: old)
    retireWhenIdle()
  }

  private func endHandlers() {
    guard !isOver else { return }
    old.cancelInFlight()
    after(host.options.reload.grace) { self.old.killInFlight() }
  }

  private func retireWhenIdle() {
    guard !isOver, !host.isClosed else { return }
    guard isReleased, old.drainingPipes == 0 else { return }
    guard old.isIdle else {
      old.whenIdle = { [weak self] in self?.host.loop.assumeIsolated().execute { self?.retireWhenIdle() } }
      return
    }
    if !isEmptied {
      isEmptied = true
      return hosted.giveUpPipes(of: old) { self.retireWhenIdle() }
    }
    guard hosted.standby !== old else { return }
    isOver = true
    for timer in timers { timer.cancel() }
    timers = []
    if hosted.succession === self { hosted.succession = nil }
    host.end(old)
  }

  /// The old one is not needed for a rollback any more.
  func standbyOver() { retireWhenIdle() }

  private func after(_ time: TimeAmount, _ action: @escaping () -> Void) {
    let loop = host.loop
    timers.append(
      loop.assumeIsolated().scheduleTask(in: time) { if !self.host.isClosed { self.host.whenIdle(action) } })
  }
}
