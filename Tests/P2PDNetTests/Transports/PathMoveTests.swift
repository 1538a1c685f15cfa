import Testing

@testable import P2PDNet

/// The steps of a move by hand, and two sides of it that meet every accident.
@Suite struct PathMoveTests {
  @Test("both sides offer: each ends on the old path, goes on on the new, and leaves the old when it is through")
  func plain() {
    var side = PathMove()
    #expect(side.offer() == [.say(MoveRecord(.ready, 1), .new)])
    #expect(!side.canOffer && side.output == .old)
    let offered = side.offer()
    #expect(offered.isEmpty)
    #expect(side.heardOnNew(MoveRecord(.ready, 7)) == [.say(MoveRecord(.end, 1), .old)])
    #expect(side.output == .new && side.input == .old)
    #expect(side.heardOnOld(MoveRecord(.end, 7)) == [.say(MoveRecord(.got, 7), .old)])
    #expect(side.input == .new && !side.isDone)
    #expect(side.heardOnOld(MoveRecord(.got, 1)) == [.leaveOld])
    #expect(side.isDone && !side.canOffer)
  }

  @Test("an end that overtakes the greeting waits for it; the end of the old path stands for the last word")
  func endFirst() {
    var side = PathMove()
    _ = side.offer()
    #expect(side.heardOnOld(MoveRecord(.end, 3)) == [])
    #expect(side.input == .left(3))
    #expect(
      side.heardOnNew(MoveRecord(.ready, 3)) == [.say(MoveRecord(.end, 1), .old), .say(MoveRecord(.got, 3), .old)])
    #expect(side.oldInputEnded() == [.leaveOld])
  }

  @Test("a new path that fails before anything went over it changes nothing, and another can be tried")
  func lostEarly() {
    var side = PathMove()
    _ = side.offer()
    #expect(side.newLost() == [.dropNew])
    #expect(side.canOffer)
    #expect(side.offer() == [.say(MoveRecord(.ready, 2), .new)])
    _ = side.heardOnNew(MoveRecord(.ready, 1))
    #expect(side.newLost() == [.dropNew, .say(MoveRecord(.back), .old)])
    #expect(side.output == .old)
    // The peer went there, and comes back.
    #expect(side.heardOnOld(MoveRecord(.end, 1)) == [.say(MoveRecord(.lost, 1), .old)])
    #expect(side.heardOnOld(MoveRecord(.back)) == [])
    #expect(side.input == .old && side.canOffer)
  }

  @Test("bytes of ours on a new path that fails go out again on the old one, until the peer has said it is there")
  func lostLate() {
    var side = PathMove()
    _ = side.offer()
    _ = side.heardOnNew(MoveRecord(.ready, 1))
    side.hasSentOnNew = true
    #expect(side.heardOnOld(MoveRecord(.lost, 9)) == [])
    #expect(side.heardOnOld(MoveRecord(.lost, 1)) == [.dropNew, .say(MoveRecord(.back), .old), .sendAgain])
    #expect(side.output == .old && side.canOffer)
    _ = side.offer()
    _ = side.heardOnNew(MoveRecord(.ready, 2))
    side.hasSentOnNew = true
    #expect(side.heardOnOld(MoveRecord(.got, 2)) == [])
    #expect(side.newLost() == [.fail(.newLost)])
  }

  @Test("a peer that takes back what was handed on fails the stream")
  func tooLate() {
    var side = PathMove()
    _ = side.offer()
    _ = side.heardOnNew(MoveRecord(.ready, 1))
    _ = side.heardOnOld(MoveRecord(.end, 1))
    side.hasHeardOnNew = true
    #expect(side.heardOnOld(MoveRecord(.back)) == [.fail(.newLost)])
  }

  @Test("our end of output is said on the path of now, and again on the one it moves to")
  func halfClose() {
    var side = PathMove()
    #expect(side.closeOutput() == [.say(MoveRecord(.finish), .old)])
    #expect(side.closeOutput() == [])
    _ = side.offer()
    #expect(side.heardOnNew(MoveRecord(.ready, 1)) == [.say(MoveRecord(.end, 1), .old), .endOutputOnNew])
    var other = PathMove()
    _ = other.offer()
    _ = other.heardOnNew(MoveRecord(.ready, 1))
    #expect(other.closeOutput() == [.endOutputOnNew])
    #expect(other.newLost() == [.dropNew, .say(MoveRecord(.back), .old), .say(MoveRecord(.finish), .old)])
  }

  @Test(
    "what no honest peer says ends the stream",
    arguments: [
      [MoveRecord(.back)], [MoveRecord(.ready, 1)], [MoveRecord(.end, 1), MoveRecord(.end, 2)],
      [MoveRecord(.finish), MoveRecord(.finish)], [MoveRecord(.end, 1), MoveRecord(.finish)],
    ])
  func rules(_ words: [MoveRecord]) {
    var side = PathMove()
    var last: [PathMove.Action] = []
    for word in words { last = side.heardOnOld(word) }
    #expect(last == [.fail(.brokenRules)])
  }

  @Test("a peer cannot make us answer without end")
  func answers() {
    var side = PathMove()
    var count = 0
    while count < 1000 {
      _ = side.heardOnOld(MoveRecord(.end, 1))
      if side.heardOnOld(MoveRecord(.back)) == [.fail(.brokenRules)] { break }
      count += 1
    }
    #expect(count == 64)
  }

  @Test("records cut anywhere are the same records, and unknown kinds are passed over")
  func reader() {
    var bytes: [UInt8] = []
    for record in [MoveRecord(.ready, 5), MoveRecord(.data, 3)] { bytes.append(uint32: record.word) }
    bytes += [1, 2, 3, 0x7f, 0, 0, 9, 0, 0, 0, 0]
    bytes.append(uint32: MoveRecord(.end, 0xffff_ffff).word)
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
      #expect(records == [MoveRecord(.ready, 5), MoveRecord(.end, 0xff_ffff)])
      #expect(data == [1, 2, 3] && reader.isBetweenRecords)
    }
  }

  @Test("whatever is lost when: what comes is what was sent, in order, and nothing that is missing goes unsaid")
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
