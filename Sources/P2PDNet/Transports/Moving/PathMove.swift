/// How one side of a stream takes it from an old path to a new one, and back where the new one fails: what it says, where
/// it sends and reads. Pure: the ``MovingTransport`` tells it what happened and does what it answers.
///
/// Both sides do the same, in their own time, each for what it sends:
///
///     offer           "ready" on the new path, everything else goes on as before
///     ready heard     the peer has the new path as well: "end" on the old one, what follows goes on the new one
///     end heard       from here on the peer's bytes are those of the new path, which was not read before; "have" on the
///                     old one says how many have come
///     alive heard     now and then, on the new one; after the third: "leave" on the old one
///     leave heard     and said: the old path is left, "bare" on the new one
///
/// Until both have said "leave", a new path that fails costs nothing. Whoever finds it dead says "lost" on the old one,
/// and with that how much has come; the other side answers "lost" for its own part, and each one's "back" is followed by
/// all that did not come, which was kept for that.
struct PathMove {
  enum Output: Equatable {
    case old, new
    /// The new path, by our number for it, is lost: what was sent on it, and what is sent now, waits for the peer to say
    /// how much of it came.
    case waiting(UInt32)
  }

  /// Where what the peer sends comes from.
  enum Input: Equatable {
    case old
    /// It has left the old path for one that is not here: not yet, or not any more. The number is the peer's for that.
    case left(UInt32)
    case new
  }

  enum Leg: Equatable { case old, new }

  enum Action: Equatable {
    case say(MoveRecord, Leg)
    /// Our side of the stream ends with the new path's.
    case endOutputOnNew
    /// The peer's side of the stream is over.
    case tellInputEnd
    /// The first so many bytes that were kept need not be any longer.
    case forget(Int)
    /// The new path is of no use; the stream goes on on the old one.
    case dropNew
    /// What was kept is to be sent on the old path.
    case sendAgain
    /// The move is complete: nobody needs the old path, or anything that was kept.
    case leaveOld
    case fail(Failure)
  }

  enum Failure: Equatable {
    /// The peer does what it may not.
    case brokenRules
    /// The new path is lost, and the old one was left.
    case newLost
    case oldLost
  }

  private(set) var output = Output.old
  private(set) var input = Input.old
  private(set) var isDone = false
  /// The peer's side of the stream is over, and that was told.
  private(set) var inputIsOver = false

  private var path: NewPath?
  private var lastNumber: UInt32 = 0
  /// Bytes sent on a new path, or to be sent since it is lost, of which the peer has not said to have them.
  private var kept = 0
  /// Bytes that came on the new path and the peer was not told of.
  private var unsaid = 0
  private var oldHasEnded = false
  private var outputIsOver = false
  /// Where the peer was told so.
  private var finishSaid: Leg?
  /// Paths offered to the peer, and those of them that it went to: each of its ends may cost an answer, which a peer that
  /// does not read would pile up.
  private var offers = 0
  private var followed = 0
  private var wasTakenBack = false

  private struct NewPath {
    let mine: UInt32
    /// The peer's number, once it has said it is ready.
    var theirs: UInt32?
    var alivesSaid = 0
    var alivesHeard = 0
    var saidLeave = false
    var heardLeave = false
  }

  /// Whether a new path can be offered: one at a time, and none after a move that is complete.
  var canOffer: Bool { path == nil && output == .old && !isDone }
  /// Both sides have the new path.
  var isReady: Bool { path?.theirs != nil }

  // MARK: Bytes

  /// This side sends so many bytes, on the new path or, while it waits, nowhere: they are to be kept.
  mutating func keeps(_ count: Int) { kept &+= count }

  /// So many bytes of the stream came on the new path and are about to be handed on.
  mutating func took(_ count: Int) { if !isDone { unsaid &+= count } }

  /// Tells the peer what has come. Not needed for each piece, but soon: the peer waits with more when it keeps too much.
  mutating func confirm() -> [Action] {
    var words: [Action] = []
    while unsaid > 0, !isDone {
      let count = min(unsaid, Int(MoveRecord.longest))
      unsaid -= count
      words.append(.say(MoveRecord(.have, UInt32(count)), .old))
    }
    return words
  }

  // MARK: The new path

  /// This side has its end of a new path.
  mutating func offer() -> [Action] {
    guard canOffer else { return [] }
    lastNumber = lastNumber % MoveRecord.longest + 1
    path = NewPath(mine: lastNumber)
    offers += 1
    return [.say(MoveRecord(.ready, lastNumber), .new)]
  }

  /// Time has passed, a second or so.
  mutating func tick() -> [Action] {
    guard let path, output == .new, !isDone, path.alivesSaid < Self.proofs else { return confirm() }
    self.path?.alivesSaid += 1
    return [.say(MoveRecord(.alive), .new)] + confirm()
  }

  mutating func heardOnNew(_ record: MoveRecord) -> [Action] {
    guard let path else { return [] }
    guard path.theirs != nil else { return record.kind == .ready ? greeted(path, record.value) : newLost() }
    guard input == .new else { return [.fail(.brokenRules)] }
    switch record.kind {
    case .alive:
      self.path?.alivesHeard += 1
      guard path.alivesHeard + 1 == Self.proofs, !isDone else { return [] }
      self.path?.saidLeave = true
      return confirm() + [.say(MoveRecord(.leave), .old)] + doneIfDone()
    case .finish:
      guard !inputIsOver else { return [.fail(.brokenRules)] }
      inputIsOver = true
      return [.tellInputEnd]
    case .bare:
      // The peer is through, and hears nothing on the old path any more.
      return done()
    case .data, .ready, .end, .have, .lost, .back, .leave: return [.fail(.brokenRules)]
    }
  }

  private mutating func greeted(_ path: NewPath, _ theirs: UInt32) -> [Action] {
    self.path?.theirs = theirs
    output = .new
    var actions: [Action] = [.say(MoveRecord(.end, path.mine), .old)]
    if outputIsOver, finishSaid == nil { actions += sayFinish(.new) }
    if case .left(let number) = input {
      actions += number == theirs ? join() : [.say(MoveRecord(.lost, number), .old)]
    }
    return actions
  }

  /// The new path has failed, or is of no use.
  mutating func newLost() -> [Action] {
    guard let path, !isDone, !oldHasEnded else { return [.fail(.newLost)] }
    var actions: [Action] = [.dropNew] + confirm()
    self.path = nil
    if output == .new { output = .waiting(path.mine) }
    if case .left(let number) = input { actions.append(.say(MoveRecord(.lost, number), .old)) }
    if let theirs = path.theirs {
      actions.append(.say(MoveRecord(.lost, theirs), .old))
      if input == .new { input = .left(theirs) }
    }
    return actions
  }

  /// The new path's last byte has come and was handed out.
  mutating func newInputEnded() -> [Action] {
    guard !inputIsOver else { return [] }
    inputIsOver = true
    return [.tellInputEnd]
  }

  // MARK: The old path

  mutating func heardOnOld(_ record: MoveRecord) -> [Action] {
    switch record.kind {
    case .end: return heardEnd(record.value)
    case .have: return heardHave(Int(record.value))
    case .lost: return heardLost(record.value)
    case .back: return heardBack()
    case .leave:
      // Where the path is lost the peer hears of it, or has left already, and then ends the old one.
      guard output != .old else { return [.fail(.brokenRules)] }
      if output == .new { path?.heardLeave = true }
      return doneIfDone()
    case .finish:
      // What was said on a path that is lost is said again here.
      guard input == .old, !inputIsOver || wasTakenBack else { return [.fail(.brokenRules)] }
      guard !inputIsOver else { return [] }
      inputIsOver = true
      return [.tellInputEnd]
    case .data, .ready, .alive, .bare: return [.fail(.brokenRules)]
    }
  }

  private mutating func heardEnd(_ number: UInt32) -> [Action] {
    guard input == .old, followed < offers else { return [.fail(.brokenRules)] }
    followed += 1
    input = .left(number)
    guard let path else { return [.say(MoveRecord(.lost, number), .old)] }
    // Without the peer's number this may be the end for an earlier path; its "ready" will tell.
    guard let theirs = path.theirs else { return [] }
    return theirs == number ? join() : [.say(MoveRecord(.lost, number), .old)]
  }

  private mutating func heardHave(_ count: Int) -> [Action] {
    guard output != .old, count <= kept else { return [.fail(.brokenRules)] }
    kept -= count
    return [.forget(count)]
  }

  private mutating func heardLost(_ number: UInt32) -> [Action] {
    if path?.mine == number {
      let actions = newLost()
      return output == .old ? actions : actions + goBack()
    }
    return output == .waiting(number) ? goBack() : []
  }

  private mutating func goBack() -> [Action] {
    output = .old
    var actions: [Action] = [.say(MoveRecord(.back), .old)]
    if kept > 0 { actions.append(.sendAgain) }
    kept = 0
    if outputIsOver, finishSaid != .old { actions += sayFinish(.old) }
    return actions
  }

  private mutating func heardBack() -> [Action] {
    guard case .left = input else { return [.fail(.brokenRules)] }
    wasTakenBack = true
    input = .old
    return []
  }

  /// The old path's last byte has come, between two records.
  mutating func oldInputEnded() -> [Action] {
    guard !oldHasEnded else { return [] }
    oldHasEnded = true
    if case .waiting = output { return [.fail(.newLost)] }
    switch input {
    case .old:
      guard !inputIsOver else { return [] }
      inputIsOver = true
      return [.tellInputEnd]
    // The peer may have said all it has to say on a path whose "ready" is still under way.
    case .left: return path != nil && !isReady ? [] : [.fail(.oldLost)]
    case .new: return done()
    }
  }

  /// The old path is gone.
  mutating func oldLost() -> [Action] {
    // The peer's end had come before, and its "ready" has not.
    if oldHasEnded, case .left = input, path != nil, !isReady { return [] }
    // All that it had for us has come. If it had not all for the peer, the peer ends the stream.
    guard input == .new else { return [.fail(.oldLost)] }
    oldHasEnded = true
    return done()
  }

  // MARK: Steps

  /// This side has sent all it wanted to.
  mutating func closeOutput() -> [Action] {
    guard !outputIsOver else { return [] }
    outputIsOver = true
    switch output {
    case .old: return sayFinish(.old)
    case .new: return isDone ? [.endOutputOnNew] : sayFinish(.new)
    case .waiting: return []
    }
  }

  private mutating func sayFinish(_ leg: Leg) -> [Action] {
    finishSaid = leg
    return [.say(MoveRecord(.finish), leg)]
  }

  private mutating func join() -> [Action] {
    input = .new
    return oldHasEnded ? done() : []
  }

  private mutating func doneIfDone() -> [Action] {
    guard let path, path.saidLeave, path.heardLeave, input == .new else { return [] }
    return done()
  }

  private mutating func done() -> [Action] {
    guard !isDone else { return [] }
    isDone = true
    (kept, unsaid) = (0, 0)
    return [.say(MoveRecord(.bare), .new)] + (outputIsOver ? [.endOutputOnNew] : []) + [.leaveOld]
  }

  /// Words in as many seconds. Routers and guards that let a stranger's first packets pass and stop the rest have done so
  /// by then.
  static let proofs = 3
}
