import P2PDNames
import P2PDNet
import Testing

@testable import P2PDNameServer

@Suite struct NameRulesTests {
  private let anna = NameOwner.ephemeral()
  private let bob = NameOwner.ephemeral()

  private func kept(_ record: NameRecord, until: UInt64? = nil) -> NameRules.Kept {
    .init(record: record, ownedUntil: until ?? record.expires)
  }

  @Test func theFirstKeyOwnsTheNameUntilItExpires() throws {
    let first = try record("n", anna, 7)
    #expect(NameRules.judge(first, over: nil, now: moment) == .register)
    #expect(NameRules.judge(try record("n", bob, 99), over: kept(first), now: moment) == .wrongKey)
    #expect(NameRules.judge(try record("n", bob), over: kept(first), now: first.expires - 1) == .wrongKey)
    #expect(NameRules.judge(try record("n", bob), over: kept(first), now: first.expires) == .register)
    #expect(
      NameRules.judge(try record("n", anna, 1), over: kept(first), now: first.expires) == .register,
      "who lost count begins anew, once the old records are dead")
  }

  @Test func onlyWhatIsNewerReplaces() throws {
    let second = try record("n", anna, 2)
    #expect(NameRules.judge(second, over: kept(second), now: moment) == .same)
    #expect(NameRules.judge(try record("n", anna, 1), over: kept(second), now: moment) == .stale(second))
    let third = try record("n", anna, 3, expires: moment + 2 * day)
    #expect(NameRules.judge(third, over: kept(second), now: moment) == .replace(ownedUntil: moment + 2 * day))
  }

  @Test("of two records with one number every server keeps the same")
  func twins() throws {
    let (one, other) = (try record("n", anna, 2, value: "a"), try record("n", anna, 2, value: "b"))
    let (older, newer) = one.isNewer(than: other) ? (other, one) : (one, other)
    #expect(NameRules.judge(newer, over: kept(older), now: moment) == .replace(ownedUntil: newer.expires))
    #expect(NameRules.judge(older, over: kept(newer), now: moment) == .stale(newer))
  }

  @Test("a shorter life does not free the name for a replay of the longer one")
  func replay() throws {
    let long = try record("n", anna, 1, expires: moment + 7 * day)
    let deletion = try record("n", anna, 2, expires: moment + day, value: "")
    let verdict = NameRules.judge(deletion, over: kept(long), now: moment)
    #expect(verdict == .replace(ownedUntil: moment + 7 * day))
    let after = kept(deletion, until: moment + 7 * day)
    #expect(NameRules.judge(long, over: after, now: moment + 2 * day) == .stale(deletion))
    #expect(NameRules.judge(try record("n", bob), over: after, now: moment + 2 * day) == .wrongKey)
    let again = try record("n", anna, 3, expires: moment + 3 * day)
    #expect(NameRules.judge(again, over: after, now: moment + 2 * day) == .replace(ownedUntil: moment + 7 * day))
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
    #expect(lookups.read(name, number, nil, now: moment).isEmpty)
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
      if key > 0 { #expect(cache[0] == nil || cache[0] == 0) }
      #expect(cache.count <= 100)
    }
    #expect(cache[0] == 0, "it was asked for all the time")
    #expect(cache[5000] == nil && cache[9999] == 9999)
  }
}
