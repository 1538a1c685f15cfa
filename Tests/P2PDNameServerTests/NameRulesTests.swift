import P2PDNames
import P2PDNet
import Testing

@testable import P2PDNameServer

@Suite struct NameRulesTests {
  private let anna = NameOwner.ephemeral()
  private let bob = NameOwner.ephemeral()

  private func kept(_ record: NameRecord, until: UInt64? = nil, holds: Bool = true) -> NameRules.Kept {
    .init(record: record, until: until ?? record.expires, holds: holds)
  }

  private func judge(_ record: NameRecord, over kept: NameRules.Kept, at now: UInt64 = moment) -> NameRules.Verdict {
    NameRules.judge(record, holder: kept, own: record.key == kept.record.key ? kept : nil, now: now)
  }

  @Test func theFirstKeyOwnsTheNameUntilItExpires() throws {
    let first = try record("n", anna, 7)
    #expect(
      NameRules.judge(first, holder: nil, own: nil, now: moment) == .store(until: first.expires, isNew: true))
    #expect(judge(try record("n", bob, 99), over: kept(first)) == .wrongKey)
    #expect(judge(try record("n", bob), over: kept(first), at: first.expires - 1) == .wrongKey)
    let his = try record("n", bob, expires: moment + 2 * day)
    #expect(judge(his, over: kept(first), at: first.expires) == .store(until: his.expires, isNew: true))
    let again = try record("n", anna, 1, expires: moment + 2 * day)
    #expect(
      judge(again, over: kept(first), at: first.expires) == .store(until: again.expires, isNew: true),
      "who lost count begins anew, once the old records are dead")
  }

  @Test func onlyWhatIsNewerReplaces() throws {
    let second = try record("n", anna, 2)
    #expect(judge(second, over: kept(second)) == .same)
    #expect(judge(try record("n", anna, 1), over: kept(second)) == .stale(second))
    let third = try record("n", anna, 3, expires: moment + 2 * day)
    #expect(judge(third, over: kept(second)) == .store(until: third.expires, isNew: false))
  }

  @Test("of two records with one number every server keeps the same")
  func twins() throws {
    let (one, other) = (try record("n", anna, 2, value: "a"), try record("n", anna, 2, value: "b"))
    let (older, newer) = one.isNewer(than: other) ? (other, one) : (one, other)
    #expect(judge(newer, over: kept(older)) == .store(until: newer.expires, isNew: false))
    #expect(judge(older, over: kept(newer)) == .stale(newer))
  }

  @Test("a shorter life does not let the longer one be played again")
  func replay() throws {
    let long = try record("n", anna, 1, expires: moment + 7 * day)
    let short = try record("n", anna, 2, expires: moment + day)
    #expect(judge(short, over: kept(long)) == .store(until: long.expires, isNew: false))
    let after = kept(short, until: long.expires)
    #expect(judge(long, over: after, at: moment + 2 * day) == .stale(short))
    let again = try record("n", anna, 3, expires: moment + 3 * day)
    #expect(judge(again, over: after, at: moment + 2 * day) == .store(until: long.expires, isNew: true))
  }

  @Test("a deleted name is anybody's, and what its owner had pushed is not played again")
  func deletion() throws {
    let first = try record("n", anna, 1)
    let deletion = kept(try record("n", anna, 2, value: ""))
    #expect(judge(first, over: deletion) == .stale(deletion.record))
    let his = try record("n", bob)
    #expect(judge(his, over: deletion) == .store(until: his.expires, isNew: true))
    // His is gone in turn: hers is retired, and still newer than what is played again.
    let gone = kept(try record("n", bob, 2, value: ""))
    let retired = kept(deletion.record, holds: false)
    #expect(NameRules.judge(first, holder: gone, own: retired, now: moment) == .stale(deletion.record))
    #expect(
      NameRules.judge(deletion.record, holder: gone, own: retired, now: moment) == .stale(deletion.record),
      "nor the deletion itself over his")
    let back = try record("n", anna, 3)
    #expect(NameRules.judge(back, holder: gone, own: retired, now: moment) == .store(until: back.expires, isNew: true))
    #expect(NameRules.judge(back, holder: kept(his), own: retired, now: moment) == .wrongKey)
  }
}

@Suite struct LookupsTests {
  private let anna = NameOwner.ephemeral()

  private func answers(_ actions: [Lookups<Int>.Action]) -> [Int: Bool] {
    var result: [Int: Bool] = [:]
    for case .answer(let waiter, let found) in actions { result[waiter] = found != nil }
    return result
  }

  @Test func aNameIsReadOnceForAllWhoWait() throws {
    var lookups = Lookups<Int>(capacity: 10)
    let wanted = try record("n", anna)
    guard case .read(let name, let number)? = lookups.ask(wanted.name, 1, now: moment) else {
      Issue.record("nothing is read")
      return
    }
    #expect(lookups.ask(wanted.name, 2, now: moment) == nil)
    #expect(answers(lookups.read(name, number, FoundName(wanted), now: moment)) == [1: true, 2: true])
    guard case .answer(3, let found?)? = lookups.ask(wanted.name, 3, now: moment) else {
      Issue.record("it is not kept")
      return
    }
    #expect(found.json == wanted.json)
    guard case .answer(4, nil)? = lookups.ask(wanted.name, 4, now: wanted.expires) else {
      Issue.record("it outlives itself")
      return
    }
    #expect(lookups.hits == 2 && lookups.misses == 2)
  }

  @Test("what is stored while an older state is being read wins")
  func storedMeanwhile() throws {
    var lookups = Lookups<Int>(capacity: 10)
    let new = try record("n", anna, 2)
    guard case .read(let name, let number)? = lookups.ask(new.name, 1, now: moment) else {
      Issue.record("nothing is read")
      return
    }
    #expect(answers(lookups.stored(new, now: moment)) == [1: true])
    let late = lookups.read(name, number, nil, now: moment)
    #expect(late.isEmpty)
    #expect(answers([lookups.ask(name, 2, now: moment)].compactMap { $0 }) == [2: true])
  }

  @Test func aFailureIsNotKept() throws {
    var lookups = Lookups<Int>(capacity: 10)
    let name = try PeerName(label: "n", tld: "peer")
    guard case .read(_, let number)? = lookups.ask(name, 1, now: moment) else {
      Issue.record("nothing is read")
      return
    }
    #expect(lookups.failed(name, number) == [1])
    guard case .read? = lookups.ask(name, 2, now: moment) else {
      Issue.record("it is not read again")
      return
    }
  }

  @Test func theCacheIsBoundedAndKeepsWhatIsAskedFor() {
    var cache = NameCache<Int, Int>(capacity: 100)
    for key in 0..<10_000 {
      cache.put(key, for: key)
      let first = cache[0]
      #expect(first == 0, "it is asked for all the time")
      #expect(cache.count <= 100)
    }
    let (middle, last) = (cache[5000], cache[9999])
    #expect(middle == nil && last == 9999)
  }
}
