import LuaVM
import P2PDNet

/// How a pipe moves from one generation's callbacks to another's: at its next message, or at its end, or when it is told
/// to follow. Nothing of this is on the road of a message while the generation stays.
extension PipeFace {
  /// Whether other code is to take the pipe over before it hears anything more.
  var isStale: Bool { handlers !== slot.target(for: handlers) }

  /// Takes the callbacks that serve now. False: a message must wait, and is asked for when it need not any more.
  @inline(never)
  func settle() -> Bool {
    if slot.isHeld {
      slot.holdBack(self)
      return false
    }
    guard isStale else { return true }
    move()
    if running > 0 {
      callbacksWait()
      return false
    }
    // The new code may ask for messages instead of being called with them.
    return hasMessageCallbacks
  }

  /// What held the pipe's messages back is over.
  func heldOver() {
    host.whenIdle { if self.running == 0, self.endReason == nil { self.pipe.ready() } }
  }

  /// Not on the road of a message: takes the callbacks that serve now, where nothing of the old ones runs.
  func follow() {
    guard running == 0, endReason == nil, !slot.isHeld, !host.isClosed, !host.vm.isRunning else { return }
    if let session { return session.makeWay() }
    guard isStale else { return }
    move()
    if running > 0 { callbacksWait() }
  }

  private func move() {
    let old = take()
    dropSubscriptions()
    adopt(from: old)
    updateMode()
    startSession()
  }

  /// The end of the pipe is told to the code that serves now.
  func moveAtEnd() {
    let isAlone = running == 0 && session == nil
    let old = take()
    // A handler of the old code that still waits has the pipe to itself until it ends.
    guard isAlone else { return }
    adopt(from: old)
    if running > 0 {
      waiting = generation
      generation.inFlight += 1
    }
  }

  private func take() -> Generation {
    let old = generation
    handlers = slot.target(for: handlers)
    generation = handlers.generation
    if let own, own.generation !== generation { self.own = nil }
    if old.pipes[ObjectIdentifier(self)] != nil {
      old.remove(self)
      generation.add(self)
    }
    return old
  }

  /// `M.adopt(pipe, old_version)`, which may wait.
  private func adopt(from old: Generation) {
    guard old !== generation, let callback = generation.adoptCallback, let pipeRef, tag != 0 else { return }
    isAdopting = true
    running += 1
    if host.vm.start(callback, .ref(pipeRef), .int(old.version), tag: tag) == .done { running -= 1 }
    if running == 0 { isAdopting = false }
  }

  /// A generation of the same protocol that came later uses a pipe this one opened: it is that one's from now on, and
  /// the old callbacks end.
  func claim(by newer: Generation) {
    guard ownsHandlers, newer !== generation, newer.hosted != nil, newer.hosted === generation.hosted else { return }
    guard newer.phase != .retired, newer.id > generation.id || generation.phase != .live else { return }
    slot.swap(to: HandlerSet(newer))
    _ = take()
    dropSubscriptions()
    updateMode()
  }

  // MARK: Subscriptions

  func subscribed(_ subscription: Subscription, by generation: Generation) {
    subscriptions.append((subscription, generation))
  }

  func unsubscribe(_ subscription: Subscription) {
    subscriptions.removeAll { $0.subscription === subscription }
    pipe.unsubscribe(subscription)
  }

  /// A queue nobody asks any more would fill, and stop the pipe.
  func dropSubscriptions() {
    guard !subscriptions.isEmpty else { return }
    for (subscription, owner) in subscriptions where owner !== generation { pipe.unsubscribe(subscription) }
    subscriptions.removeAll { $0.generation !== generation }
  }

  // MARK: Sessions

  func startSession() {
    guard handlers.session != nil, session == nil, endReason == nil, !pipe.isServer, tag != 0 else { return }
    let run = SessionRun(self)
    session = run
    run.start()
  }

  /// It returned, failed, or made way for other code.
  func sessionEnded(restart: Bool) {
    session = nil
    if endReason != nil { return retireIfDone() }
    guard !host.isClosed else { return }
    // Not from within the end of a task: the next one begins when this turn of the loop is through.
    host.loop.assumeIsolated().execute {
      self.host.whenIdle {
        guard self.pipe.isOpen else { return }
        self.follow()
        if restart { self.startSession() }
      }
    }
  }
}
