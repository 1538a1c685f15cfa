@testable import P2PDNet

/// Two sides of a move with nothing around them: queues for paths, and luck for time. Each walk is a schedule of sends,
/// arrivals, offers and accidents.
struct MoveModel {
  private enum Item {
    case record(MoveRecord)
    case token(Int)
    case end
  }

  /// One direction of one path.
  private struct Line {
    var items: [Item] = []
    var isDead = false
  }

  private struct Side {
    var move = PathMove()
    var path: Int?
    /// Paths it will be given, and paths it will hear the death of.
    var offers: [Int] = []
    var deaths: [Int] = []
    var hearsOldDeath = false
    var sent = 0
    var got = 0
    /// What the driver keeps.
    var kept: [Item] = []
    var saidLeave = false
    var heardBare = false
    var isOver = false
    var hasClosedOutput = false
    var heardEnd = false
    var oldIsGone = false
  }

  private var luck: SplitMix64
  private var sides = [Side(), Side()]
  private var old = [Line(), Line()]
  /// By path, then by sender.
  private var new: [[Line]] = []
  private var problem: String?
  /// The old path is dead, or both sides had said that they need it no more when the new one died.
  private var mayFail = false
  private(set) var seen: Set<String> = []

  init(seed: UInt64) { luck = SplitMix64(seed) }

  /// What went wrong.
  mutating func run() -> String? {
    let accidents = Int.random(in: 0...3, using: &luck)
    for step in 0..<400 {
      if problem != nil { return problem }
      act(step, accidents)
    }
    // What is left arrives.
    var quiet = 0
    while quiet < 400, problem == nil {
      quiet = deliver() ? 0 : quiet + 1
      if quiet % 100 == 99 { for me in 0...1 { tick(me) } }
      if quiet % 100 == 50 { for me in 0...1 { losePatience(me) } }
    }
    return problem ?? verdict()
  }

  private mutating func act(_ step: Int, _ accidents: Int) {
    let me = Int.random(in: 0...1, using: &luck)
    switch Int.random(in: 0..<40, using: &luck) {
    case 0..<6: send(me)
    case 6..<8 where new.count < 1 + accidents:
      if sides.contains(where: { $0.isOver }) { return }
      new.append([Line(), Line()])
      sides[0].offers.append(new.count - 1)
      sides[1].offers.append(new.count - 1)
    case 8..<12: offer(me)
    case 12 where accidents > 0 && !new.isEmpty && step % 3 == 0: kill(new.count - 1)
    case 13 where accidents > 2 && step % 37 == 0: killOld()
    case 14 where step > 300: closeOutput(me)
    case 15: tick(me)
    case 16: if !sides[me].isOver { perform(sides[me].move.confirm(), me) }
    default: _ = deliver()
    }
  }

  private mutating func send(_ me: Int) {
    guard !sides[me].isOver, !sides[me].hasClosedOutput, sides[me].sent < 30 else { return }
    let token = Item.token(sides[me].sent)
    sides[me].sent += 1
    if sides[me].move.output != .old, !sides[me].move.isDone {
      sides[me].move.keeps(1)
      sides[me].kept.append(token)
    }
    switch sides[me].move.output {
    case .old: put(token, .old, me)
    case .new: put(token, .new, me)
    case .waiting: break
    }
  }

  private mutating func tick(_ me: Int) {
    if !sides[me].isOver { perform(sides[me].move.tick(), me) }
  }

  private mutating func put(_ item: Item, _ leg: PathMove.Leg, _ me: Int) {
    if leg == .old {
      if !old[me].isDead { old[me].items.append(item) }
    } else if let path = sides[me].path, !new[path][me].isDead {
      new[path][me].items.append(item)
    }
  }

  private mutating func offer(_ me: Int) {
    guard !sides[me].offers.isEmpty, !sides[me].isOver else { return }
    let path = sides[me].offers.remove(at: Int.random(in: 0..<sides[me].offers.count, using: &luck))
    guard sides[me].move.canOffer else {
      // Refused: the other side sees it end.
      if !new[path][me].isDead { new[path][me].items.append(.end) }
      return
    }
    if path > 0 { seen.insert("second") }
    sides[me].path = path
    perform(sides[me].move.offer(), me)
  }

  /// A path on which no word has come for long.
  private mutating func losePatience(_ me: Int) {
    guard !sides[me].isOver, !sides[me].move.isReady, let path = sides[me].path, new[path][me].isDead else { return }
    newEnded(me)
  }

  private mutating func closeOutput(_ me: Int) {
    guard !sides[me].isOver, !sides[me].hasClosedOutput else { return }
    sides[me].hasClosedOutput = true
    perform(sides[me].move.closeOutput(), me)
  }

  private mutating func kill(_ path: Int) {
    guard !new[path][0].isDead else { return }
    new[path] = [Line(isDead: true), Line(isDead: true)]
    if sides.allSatisfy({ $0.path == path && $0.saidLeave }) { mayFail = true }
    // A path that only swallows may be found dead by one side alone.
    let finder = mayFail ? 2 : Int.random(in: 0...2, using: &luck)
    for side in 0...1 where finder != 1 - side { sides[side].deaths.append(path) }
  }

  private mutating func killOld() {
    guard !old[0].isDead else { return }
    mayFail = true
    old = [Line(isDead: true), Line(isDead: true)]
    for side in 0...1 { sides[side].hearsOldDeath = true }
  }

  /// One thing happens at a side.
  private mutating func deliver() -> Bool {
    let me = Int.random(in: 0...1, using: &luck)
    let from = 1 - me
    switch Int.random(in: 0...3, using: &luck) {
    case 0:
      guard !sides[me].deaths.isEmpty else { return false }
      let path = sides[me].deaths.removeFirst()
      if sides[me].path == path, !sides[me].isOver { newEnded(me) }
      return true
    case 1:
      guard sides[me].hearsOldDeath else { return false }
      sides[me].hearsOldDeath = false
      if !sides[me].oldIsGone, !sides[me].isOver {
        sides[me].oldIsGone = true
        perform(sides[me].move.oldLost(), me)
      }
      return true
    case 2:
      guard !old[from].items.isEmpty else { return false }
      let item = old[from].items.removeFirst()
      if !sides[me].isOver, !sides[me].oldIsGone { arrivedOnOld(item, me) }
      return true
    default:
      guard let path = sides[me].path, !new[path][from].items.isEmpty, !sides[me].isOver else { return false }
      guard !sides[me].move.isReady || sides[me].move.input == .new else { return false }
      arrivedOnNew(new[path][from].items.removeFirst(), me)
      return true
    }
  }

  private mutating func arrivedOnOld(_ item: Item, _ me: Int) {
    switch item {
    case .token(let number):
      if sides[me].move.input != .old { problem = "\(me) got \(number) on the path that was left" }
      took(number, me)
    case .record(let record): perform(sides[me].move.heardOnOld(record), me)
    case .end: perform(sides[me].move.oldInputEnded(), me)
    }
  }

  private mutating func arrivedOnNew(_ item: Item, _ me: Int) {
    switch item {
    case .record(let record):
      if record.kind == .bare { sides[me].heardBare = true }
      perform(sides[me].move.heardOnNew(record), me)
    case .token(let number):
      sides[me].move.took(1)
      took(number, me)
    case .end: sides[me].heardBare ? perform(sides[me].move.newInputEnded(), me) : newEnded(me)
    }
  }

  private mutating func newEnded(_ me: Int) {
    perform(sides[me].move.isDone ? [.fail(.newLost)] : sides[me].move.newLost(), me)
  }

  private mutating func took(_ number: Int, _ me: Int) {
    if number != sides[me].got { problem = "\(me) got \(number) in place of \(sides[me].got)" }
    if sides[me].heardEnd { problem = "\(me) got \(number) after the end" }
    sides[me].got += 1
  }

  private mutating func perform(_ actions: [PathMove.Action], _ me: Int) {
    for action in actions where !sides[me].isOver {
      switch action {
      case .say(let record, let leg):
        if record.kind == .back { seen.insert("back") }
        if record.kind == .leave { sides[me].saidLeave = true }
        put(.record(record), leg, me)
      case .forget(let count): sides[me].kept.removeFirst(count)
      case .sendAgain:
        seen.insert("again")
        for item in sides[me].kept { put(item, .old, me) }
        sides[me].kept = []
      case .endOutputOnNew: put(.end, .new, me)
      case .tellInputEnd:
        let peer = sides[1 - me]
        if !peer.isOver, !peer.hasClosedOutput { problem = "\(me) heard an end that nobody made" }
        if !peer.isOver, peer.sent != sides[me].got { problem = "\(me) heard the end before the last byte" }
        sides[me].heardEnd = true
      case .dropNew:
        if let path = sides[me].path, !new[path][me].isDead { new[path][me].items.append(.end) }
        sides[me].path = nil
        sides[me].saidLeave = false
      case .leaveOld:
        seen.insert("moved")
        if !old[me].isDead { old[me].items.append(.end) }
        sides[me].oldIsGone = true
        sides[me].kept = []
      case .fail(.brokenRules): problem = "\(me) blames the other"
      case .fail(let failure):
        seen.insert("failed")
        if !mayFail { problem = "\(me) failed, \(failure), and need not have" }
        sides[me].isOver = true
        // What it stands on is closed with it.
        if !sides[me].oldIsGone, !old[me].isDead { old[me].items.append(.end) }
        if let path = sides[me].path, !new[path][me].isDead { new[path][me].items.append(.end) }
      }
    }
  }

  /// When nothing more can arrive.
  private func verdict() -> String? {
    guard !sides[0].isOver, !sides[1].isOver else { return nil }
    for me in 0...1 {
      let (side, peer) = (sides[me], sides[1 - me])
      if side.got != peer.sent { return "\(me) has \(side.got) of \(peer.sent), and nobody says so" }
      if peer.hasClosedOutput, !side.heardEnd { return "\(me) was not told of the end" }
      if side.move.isDone != peer.move.isDone { return "one side has moved, the other not" }
    }
    return nil
  }
}
