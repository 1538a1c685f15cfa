import Testing

@testable import P2PDNet

/// The steps of a move by hand, and two sides of it that meet every accident.
@Suite struct PathMoveTests {
  private static func say(_ kind: MoveRecord.Kind, _ value: UInt32, _ leg: PathMove.Leg) -> PathMove.Action {
    .say(MoveRecord(kind, value), leg)
  }

  /// A side that sends and reads on a new path, by the number 1 here and 7 there.
  private static func moving() -> PathMove {
    var side = PathMove()
    _ = side.offer()
    _ = side.heardOnNew(MoveRecord(.ready, 7))
    _ = side.heardOnOld(MoveRecord(.end, 7))
    return side
  }

  @Test(
    "both sides offer: each ends on the old path, goes on on the new, and leaves the old when that has proven itself")
  func plain() {
    let say = Self.say
    var side = PathMove()
    #expect(side.offer() == [say(.ready, 1, .new)])
    #expect(!side.canOffer && side.output == .old)
    let offered = side.offer()
    #expect(offered.isEmpty)
    let early = side.tick()
    #expect(early.isEmpty)
    #expect(side.heardOnNew(MoveRecord(.ready, 7)) == [say(.end, 1, .old)])
    #expect(side.output == .new && side.input == .old)
    #expect(side.heardOnOld(MoveRecord(.end, 7)) == [])
    #expect(side.input == .new && !side.isDone)
    for _ in 1...3 { #expect(side.tick() == [say(.alive, 0, .new)]) }
    #expect(side.tick() == [])
    for _ in 1...2 { #expect(side.heardOnNew(MoveRecord(.alive)) == []) }
    #expect(side.heardOnNew(MoveRecord(.alive)) == [say(.leave, 0, .old)])
    #expect(side.heardOnNew(MoveRecord(.alive)) == [])
    #expect(side.heardOnOld(MoveRecord(.leave)) == [say(.bare, 0, .new), .leaveOld])
    #expect(side.isDone && !side.canOffer)
    // The other one said it first.
    var other = Self.moving()
    #expect(other.heardOnOld(MoveRecord(.leave)) == [])
    for _ in 1...2 { _ = other.heardOnNew(MoveRecord(.alive)) }
    #expect(other.heardOnNew(MoveRecord(.alive)) == [say(.leave, 0, .old), say(.bare, 0, .new), .leaveOld])
  }

  @Test(
    "an end that overtakes the greeting waits for it; the end of the old path stands for the last word, and so does bare"
  )
  func endFirst() {
    var side = PathMove()
    _ = side.offer()
    #expect(side.heardOnOld(MoveRecord(.end, 3)) == [])
    #expect(side.input == .left(3))
    #expect(side.heardOnNew(MoveRecord(.ready, 3)) == [Self.say(.end, 1, .old)])
    #expect(side.input == .new)
    #expect(side.oldInputEnded() == [Self.say(.bare, 0, .new), .leaveOld])
    var other = Self.moving()
    #expect(other.heardOnNew(MoveRecord(.bare)) == [Self.say(.bare, 0, .new), .leaveOld])
    var third = PathMove()
    _ = third.offer()
    _ = third.heardOnOld(MoveRecord(.end, 3))
    #expect(third.oldInputEnded() == [] && third.oldLost() == [])
    #expect(
      third.heardOnNew(MoveRecord(.ready, 3)) == [Self.say(.end, 1, .old), Self.say(.bare, 0, .new), .leaveOld])
  }

  @Test("a new path that fails before anything went over it changes nothing, and another can be tried")
  func lostEarly() {
    let say = Self.say
    var side = PathMove()
    _ = side.offer()
    #expect(side.newLost() == [.dropNew])
    #expect(side.canOffer)
    #expect(side.offer() == [say(.ready, 2, .new)])
    _ = side.heardOnNew(MoveRecord(.ready, 1))
    #expect(side.newLost() == [.dropNew, say(.lost, 1, .old)])
    #expect(side.output == .waiting(2) && !side.canOffer)
    // The peer had gone there as well, and both come back.
    #expect(side.heardOnOld(MoveRecord(.end, 1)) == [say(.lost, 1, .old)])
    #expect(side.heardOnOld(MoveRecord(.lost, 2)) == [say(.back, 0, .old)])
    #expect(side.output == .old && side.canOffer)
    #expect(side.heardOnOld(MoveRecord(.back)) == [])
    #expect(side.input == .old)
  }

  @Test("what the peer has not got of a path that fails goes out again on the old one, and what was sent meanwhile")
  func lostLate() {
    let say = Self.say
    var side = Self.moving()
    side.keeps(100)
    #expect(side.heardOnOld(MoveRecord(.have, 60)) == [.forget(60)])
    #expect(side.heardOnOld(MoveRecord(.lost, 9)) == [])
    side.took(30)
    // The peer has found it dead: it is told what came here, and gets what did not come there.
    #expect(
      side.heardOnOld(MoveRecord(.lost, 1))
        == [.dropNew, say(.have, 30, .old), say(.lost, 7, .old), say(.back, 0, .old), .sendAgain])
    #expect(side.output == .old && side.input == .left(7) && side.canOffer)
    #expect(side.heardOnOld(MoveRecord(.back)) == [])
    // This side has found it dead: it waits for the peer's word.
    var other = Self.moving()
    other.keeps(10)
    #expect(other.newLost() == [.dropNew, say(.lost, 7, .old)])
    other.keeps(10)
    #expect(other.heardOnOld(MoveRecord(.have, 10)) == [.forget(10)])
    #expect(other.heardOnOld(MoveRecord(.lost, 1)) == [say(.back, 0, .old), .sendAgain])
  }

  @Test("a path that dies when this side has said its last word is still left, unless the peer is gone")
  func lostLast() {
    var side = Self.moving()
    for _ in 1...3 { _ = side.heardOnNew(MoveRecord(.alive)) }
    #expect(side.newLost() == [.dropNew, Self.say(.lost, 7, .old)])
    // Said before it heard of the loss: it hears of that in place of ours, or has left.
    #expect(side.heardOnOld(MoveRecord(.leave)) == [])
    var other = side
    #expect(side.heardOnOld(MoveRecord(.lost, 1)) == [Self.say(.back, 0, .old)])
    #expect(other.oldInputEnded() == [.fail(.newLost)])
  }

  @Test("many bytes are told of in words that hold them")
  func manyBytes() {
    var side = Self.moving()
    side.took(0x1_00_0004)
    #expect(side.confirm() == [Self.say(.have, 0xff_ffff, .old), Self.say(.have, 5, .old)])
    #expect(side.confirm() == [])
  }

  @Test("our end of output is said once for each path that may be lost, and at last by the new one's end")
  func halfClose() {
    let say = Self.say
    var side = PathMove()
    #expect(side.closeOutput() == [say(.finish, 0, .old)])
    #expect(side.closeOutput() == [])
    _ = side.offer()
    #expect(side.heardOnNew(MoveRecord(.ready, 1)) == [say(.end, 1, .old)])
    _ = side.heardOnOld(MoveRecord(.end, 1))
    #expect(side.heardOnNew(MoveRecord(.finish)) == [.tellInputEnd])
    #expect(side.heardOnNew(MoveRecord(.bare)) == [say(.bare, 0, .new), .endOutputOnNew, .leaveOld])
    #expect(side.newInputEnded() == [])
    var other = Self.moving()
    #expect(other.closeOutput() == [say(.finish, 0, .new)])
    #expect(
      other.heardOnOld(MoveRecord(.lost, 1))
        == [.dropNew, say(.lost, 7, .old), say(.back, 0, .old), say(.finish, 0, .old)])
    var third = Self.moving()
    _ = third.newLost()
    #expect(third.closeOutput() == [])
    #expect(third.heardOnOld(MoveRecord(.lost, 1)) == [say(.back, 0, .old), say(.finish, 0, .old)])
    var last = Self.moving()
    _ = last.heardOnNew(MoveRecord(.bare))
    #expect(last.closeOutput() == [.endOutputOnNew])
  }

  @Test(
    "what no honest peer says ends the stream",
    arguments: [
      [MoveRecord(.back)], [MoveRecord(.ready, 1)], [MoveRecord(.end, 1), MoveRecord(.end, 2)],
      [MoveRecord(.finish), MoveRecord(.finish)], [MoveRecord(.end, 1), MoveRecord(.finish)],
      [MoveRecord(.have, 1)], [MoveRecord(.leave)], [MoveRecord(.alive)], [MoveRecord(.bare)],
    ])
  func rules(_ words: [MoveRecord]) {
    var side = PathMove()
    _ = side.offer()
    var last: [PathMove.Action] = []
    for word in words { last = side.heardOnOld(word) }
    #expect(last == [.fail(.brokenRules)])
  }

  @Test("a peer that has more than was sent, or says on the new path what belongs on the old one, ends the stream")
  func rulesOnNew() {
    var side = Self.moving()
    side.keeps(5)
    #expect(side.heardOnOld(MoveRecord(.have, 6)) == [.fail(.brokenRules)])
    for kind in [MoveRecord.Kind.ready, .end, .have, .lost, .back, .leave, .data] {
      var side = Self.moving()
      #expect(side.heardOnNew(MoveRecord(kind, 1)) == [.fail(.brokenRules)])
    }
    #expect(side.heardOnNew(MoveRecord(.finish)) == [.tellInputEnd])
    #expect(side.heardOnNew(MoveRecord(.finish)) == [.fail(.brokenRules)])
    var early = PathMove()
    _ = early.offer()
    #expect(early.heardOnNew(MoveRecord(.alive)) == [.dropNew])
  }

  @Test("a peer cannot make us answer without end")
  func answers() {
    var side = PathMove()
    for number in 1...100 {
      _ = side.offer()
      _ = side.newLost()
      let answer = side.heardOnOld(MoveRecord(.end, UInt32(number)))
      #expect(answer == [Self.say(.lost, UInt32(number), .old)])
      #expect(side.heardOnOld(MoveRecord(.back)) == [])
    }
    // An hour of paths that die is no reason; but there is no path to go to now.
    #expect(side.heardOnOld(MoveRecord(.end, 101)) == [.fail(.brokenRules)])
  }

  @Test("records cut anywhere are the same records, and unknown kinds are passed over")
  func reader() {
    var bytes: [UInt8] = []
    for record in [MoveRecord(.ready, 5), MoveRecord(.data, 3)] { bytes.append(uint32: record.word) }
    bytes += [1, 2, 3, 0x7f, 0, 0, 9, 0, 0, 0, 0]
    bytes.append(uint32: MoveRecord(.end, 0xffff_ffff).word)
    bytes.append(uint32: MoveRecord(.bare).word)
    // Whatever they look like.
    bytes.append(uint32: MoveRecord(.end, 1).word)
    for size in 1...bytes.count {
      var (reader, records, data) = (MoveRecordReader(), [MoveRecord](), [UInt8]())
      for start in stride(from: 0, to: bytes.count, by: size) {
        let piece = Array(bytes[start..<min(bytes.count, start + size)])
        var position = 0
        while let step = piece.withUnsafeBytes({ reader.next($0, &position) }) {
          switch step {
          case .data(let range): data += piece[range]
          case .record(let record): records.append(record)
          }
        }
      }
      #expect(records == [MoveRecord(.ready, 5), MoveRecord(.end, 0xff_ffff), MoveRecord(.bare)])
      #expect(data == [1, 2, 3, MoveRecord.Kind.end.rawValue, 0, 0, 1] && reader.isBetweenRecords && reader.isBare)
    }
  }

  @Test(
    "whatever is lost when: what comes is what was sent, in order; no side fails before both have left the old path")
  func accidents() {
    var seen: Set<String> = []
    for seed in 0..<6000 {
      var model = MoveModel(seed: UInt64(seed))
      if let problem = model.run() {
        Issue.record("seed \(seed): \(problem)")
        return
      }
      seen.formUnion(model.seen)
    }
    #expect(seen == ["moved", "back", "again", "failed", "second"], "the walks did not go everywhere")
  }
}
