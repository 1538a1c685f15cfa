/// How one side of a stream takes it from an old path to a new one: what it says, where it sends and reads. Pure: the
/// ``MovingTransport`` tells it what happened and does what it answers.
///
/// Both sides do the same, in their own time, each for what it sends:
///
///     offer           "ready" on the new path, everything else goes on as before
///     ready heard     the peer has the new path as well: "end" on the old one, what follows goes on the new one
///     end heard       from here on the peer's bytes are those of the new path, which was not read before
///     got heard       the peer has all that was sent on the old path, which is left when its end has come too
///
/// Until the "got" is heard the new path can be given up: "back" on the old one undoes the "end", and what was sent on the
/// new path meanwhile, which was kept for that, follows there. A "got" also says that the new path has carried a word
/// each way. Once it was heard, or what came on the new path was handed on, and the path is lost, bytes may be: then the
/// stream fails.
struct PathMove {
  enum Leg: Equatable { case old, new }

  /// Where what the peer sends comes from.
  enum Input: Equatable {
    case old
    /// It has left the old path for one that is not here, or not yet; the number is the peer's for that.
    case left(UInt32)
    case new
  }

  enum Action: Equatable {
    case say(MoveRecord, Leg)
    /// Our side of the stream ends on the new path.
    case endOutputOnNew
    /// The peer's side of the stream is over.
    case tellInputEnd
    /// The new path is of no use; the stream stays where it was.
    case dropNew
    /// What was sent on the new path is to be sent on the old one.
    case sendAgain
    /// The move is complete: nobody needs the old path.
    case leaveOld
    case fail(Failure)
  }

  enum Failure: Equatable {
    /// The peer does what it may not.
    case brokenRules
    /// The new path is lost, and bytes may be with it.
    case newLost
    case oldLost
  }

  private(set) var output = Leg.old
  private(set) var input = Input.old
  private(set) var isDone = false
  /// The peer's side of the stream is over, and that was told.
  private(set) var inputIsOver = false
  /// Set by the driver with the first byte of the stream that goes out on the new path.
  var hasSentOnNew = false
  /// Set with what was handed on.
  var hasHeardOnNew = false

  private var offered: Offer?
  private var lastNumber: UInt32 = 0
  /// The peer has heard our `end` and reads on the new path, or did.
  private(set) var isAcknowledged = false
  private var oldHasEnded = false
  private var outputIsOver = false
  private var saidFinish = false
  private var takenBack = 0

  private struct Offer {
    let mine: UInt32
    /// The peer's number, once it has said it is ready.
    var theirs: UInt32?
  }

  /// Whether a new path can be offered: one at a time, and none after a move that is complete.
  var canOffer: Bool { offered == nil && !isDone }
  /// Both sides have the new path.
  var isReady: Bool { offered?.theirs != nil }

  // MARK: What happens

  /// This side has its end of a new path.
  mutating func offer() -> [Action] {
    guard canOffer else { return [] }
    lastNumber = lastNumber % MoveRecord.longest + 1
    offered = Offer(mine: lastNumber)
    (hasSentOnNew, hasHeardOnNew, isAcknowledged) = (false, false, false)
    return [.say(MoveRecord(.ready, lastNumber), .new)]
  }

  /// The first record on the new path.
  mutating func heardOnNew(_ record: MoveRecord) -> [Action] {
    guard record.kind == .ready, let offer = offered, offer.theirs == nil else { return newLost() }
    offered?.theirs = record.value
    output = .new
    var actions: [Action] = [.say(MoveRecord(.end, offer.mine), .old)]
    if outputIsOver { actions.append(.endOutputOnNew) }
    if case .left(let number) = input {
      actions += number == record.value ? join(number) : [.say(MoveRecord(.lost, number), .old)]
    }
    return actions
  }

  mutating func heardOnOld(_ record: MoveRecord) -> [Action] {
    switch record.kind {
    case .end: return heardEnd(record.value)
    case .back: return heardBack()
    case .lost:
      guard let offered, offered.mine == record.value, output == .new else { return [] }
      return newLost()
    case .got:
      guard let offered, offered.mine == record.value, output == .new else { return [] }
      isAcknowledged = true
      return doneIfDone()
    case .finish:
      // The end on a path that was given up is said again here.
      guard input == .old, !inputIsOver || takenBack > 0 else { return [.fail(.brokenRules)] }
      guard !inputIsOver else { return [] }
      inputIsOver = true
      return [.tellInputEnd]
    case .data, .ready: return [.fail(.brokenRules)]
    }
  }

  private mutating func heardEnd(_ number: UInt32) -> [Action] {
    guard input == .old else { return [.fail(.brokenRules)] }
    input = .left(number)
    guard let offered else { return [.say(MoveRecord(.lost, number), .old)] }
    // Without the peer's number this may be the end for an earlier path; its "ready" will tell.
    guard let theirs = offered.theirs else { return [] }
    return theirs == number ? join(number) : [.say(MoveRecord(.lost, number), .old)]
  }

  private mutating func heardBack() -> [Action] {
    let number: UInt32?
    switch input {
    case .old: return [.fail(.brokenRules)]
    case .left(let theirs): number = theirs
    // What was sent there comes again, and some of it was handed on already.
    case .new where hasHeardOnNew: return [.fail(.newLost)]
    case .new: number = offered?.theirs
    }
    takenBack += 1
    guard takenBack <= Self.mostTakenBack else { return [.fail(.brokenRules)] }
    input = .old
    guard let number, offered?.theirs == number else { return [] }
    return newLost()
  }

  /// The new path has failed, or is of no use.
  mutating func newLost() -> [Action] {
    guard let offer = offered, !isDone else { return [.fail(.newLost)] }
    offered = nil
    var actions: [Action] = [.dropNew]
    if output == .new {
      guard !hasSentOnNew || !isAcknowledged else { return [.fail(.newLost)] }
      output = .old
      actions.append(.say(MoveRecord(.back), .old))
      if hasSentOnNew { actions.append(.sendAgain) }
      if outputIsOver, !saidFinish {
        saidFinish = true
        actions.append(.say(MoveRecord(.finish), .old))
      }
    }
    switch input {
    case .old: return actions
    case .left(let number): actions.append(.say(MoveRecord(.lost, number), .old))
    case .new:
      guard !hasHeardOnNew, let number = offer.theirs else { return [.fail(.newLost)] }
      input = .left(number)
      actions.append(.say(MoveRecord(.lost, number), .old))
    }
    // Where the old path has no more to say, nobody will take the end back.
    return oldHasEnded ? [.fail(.newLost)] : actions
  }

  /// The old path's last byte has come, between two records.
  mutating func oldInputEnded() -> [Action] {
    guard !oldHasEnded else { return [] }
    oldHasEnded = true
    switch input {
    case .old:
      guard !inputIsOver else { return [] }
      inputIsOver = true
      return [.tellInputEnd]
    // The peer may have said all it has to say on a path whose "ready" is still under way.
    case .left: return offered != nil && !isReady ? [] : [.fail(.oldLost)]
    case .new: return doneIfDone()
    }
  }

  mutating func oldLost() -> [Action] {
    // All that it had for us has come. If it had not all for the peer, the peer ends the stream.
    guard input == .new else { return [.fail(.oldLost)] }
    oldHasEnded = true
    return doneIfDone()
  }

  /// The new path's last byte has come and was handed out.
  mutating func newInputEnded() -> [Action] {
    guard !inputIsOver else { return [] }
    inputIsOver = true
    return [.tellInputEnd]
  }

  /// This side has sent all it wanted to.
  mutating func closeOutput() -> [Action] {
    guard !outputIsOver else { return [] }
    outputIsOver = true
    guard output == .old else { return [.endOutputOnNew] }
    saidFinish = true
    return [.say(MoveRecord(.finish), .old)]
  }

  // MARK: Steps

  private mutating func join(_ number: UInt32) -> [Action] {
    input = .new
    return [.say(MoveRecord(.got, number), .old)] + doneIfDone()
  }

  private mutating func doneIfDone() -> [Action] {
    guard !isDone, input == .new, isAcknowledged || oldHasEnded else { return [] }
    isDone = true
    return [.leaveOld]
  }

  /// Each may cost an answer, which a peer that does not read would pile up.
  private static let mostTakenBack = 64
}
