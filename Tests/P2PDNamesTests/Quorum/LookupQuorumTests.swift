import P2PDNet
import Testing

@testable import P2PDNames

@Suite("What servers know of a name, put together") struct LookupQuorumTests {
  static let now: UInt64 = 1_800_000_000
  let name: PeerName
  let owner = NameOwner.ephemeral()
  let thief = NameOwner.ephemeral()

  init() throws { name = try PeerName("example.peer") }

  func record(_ sequence: UInt64, by owner: NameOwner? = nil, value: String = "here", left: Int64 = 3600) throws
    -> NameRecord
  {
    try .sign(
      name: name, value: value, sequence: sequence, expires: UInt64(Int64(Self.now) + left), as: owner ?? self.owner)
  }

  func failure(_ code: NetError.Code = .refused) -> LookupQuorum.Event { .failed(NetError(code, "ask")) }

  /// Feeds the answers of servers 0, 1, 2 ... in this order; the outcome, after how many, and who was repaired with what.
  func run(
    _ events: [(Int, LookupQuorum.Event)], of servers: Int = 3, waitsForAll: Bool = false
  ) -> (result: Result<NameRecord, NetError>?, after: Int, repairs: [Int: NameRecord]) {
    var quorum = LookupQuorum(name, servers: servers, majority: servers / 2 + 1, waitsForAll: waitsForAll)
    var (result, after, repairs) = (Result<NameRecord, NetError>?.none, 0, [Int: NameRecord]())
    for (index, (server, event)) in events.enumerated() {
      for action in quorum.handle(event, from: server, now: Self.now) {
        switch action {
        case .finish(let found):
          #expect(result == nil, "it is said once")
          (result, after) = (found, index + 1)
        case .repair(let server, let record):
          #expect(repairs[server].map { record.isNewer(than: $0) } ?? true, "nobody is repaired twice")
          repairs[server] = record
        }
      }
    }
    #expect(quorum.isOver == (Set(events.map(\.0)).count == servers))
    return (result, after, repairs)
  }

  func code(_ result: Result<NameRecord, NetError>?) -> NetError.Code? {
    if case .failure(let error)? = result { error.code } else { nil }
  }

  @Test("the first majority settles it, and the third is heard no more")
  func majority() throws {
    let record = try record(3)
    let outcome = run([(2, .record(record)), (0, .record(record)), (1, .record(record))])
    #expect(try outcome.result?.get() == record)
    #expect(outcome.after == 2)
    #expect(outcome.repairs.isEmpty)
    #expect(run([(2, .record(record)), (0, .record(record)), (1, .record(record))], waitsForAll: true).after == 3)
  }

  @Test("one of three dead, wiped, behind or lying changes nothing, whichever answers first")
  func oneBad() throws {
    let (new, old, forged) = (try record(9), try record(2), try record(40, by: thief))
    let bad: [(LookupQuorum.Event, repaired: Bool)] = [
      (failure(), false), (.nothing, true), (.record(old), true), (.record(forged), false),
      (.record(try record(2, left: -1)), true), (.record(try record(8, value: "")), true),
      (.record(try record(50, by: thief, value: "")), true), (.record(try record(50, by: thief, left: -5)), true),
    ]
    for (event, repaired) in bad {
      for place in 0..<3 {
        var events: [(Int, LookupQuorum.Event)] = [(1, .record(new)), (2, .record(new))]
        events.insert((0, event), at: place)
        let outcome = run(events)
        #expect(try outcome.result?.get() == new)
        #expect(outcome.repairs == (repaired ? [0: new] : [:]))
      }
    }
  }

  @Test("who answers late with something newer has it spread, though it was not told")
  func late() throws {
    let (new, old) = (try record(9), try record(2))
    let outcome = run([(0, .record(old)), (1, .record(old)), (2, .record(new))])
    #expect(try outcome.result?.get() == old)
    #expect(outcome.repairs == [0: new, 1: new])
  }

  @Test("nobody has it, it was given up, it expired")
  func gone() throws {
    let (live, dead) = (try record(5), try record(6, value: ""))
    #expect(code(run([(0, .nothing), (1, .nothing)]).result) == .notFound)
    #expect(code(run([(0, .record(live)), (1, .record(dead))]).result) == .notFound)
    #expect(run([(0, .record(live)), (1, .record(dead))]).repairs == [0: dead])
    #expect(code(run([(0, .record(dead)), (1, failure()), (2, .nothing)]).result) == .notFound)
    let expired = try record(5, left: -90)
    #expect(code(run([(0, .record(expired)), (1, .record(expired))]).result) == .expired)
    #expect(code(run([(0, .record(expired)), (1, .nothing)]).result) == .expired)
    let ending = try record(5, left: 0)
    #expect(code(run([(0, .record(ending)), (1, .nothing)]).result) == .expired)
    // A push that fell short was never registered.
    #expect(code(run([(0, .record(live)), (1, .nothing), (2, .nothing)]).result) == .notFound)
    #expect(run([(0, .record(live)), (1, .nothing), (2, .nothing)]).repairs.isEmpty)
  }

  @Test("no majority: no quorum with the failures, or unreachable where nobody spoke")
  func undecided() throws {
    let (mine, other) = (try record(5), try record(5, by: thief))
    let split = run([(0, .record(mine)), (1, .record(other)), (2, failure(.timeout))])
    #expect(code(split.result) == .noQuorum)
    #expect(split.repairs.isEmpty)
    if case .failure(let error)? = split.result { #expect(error.attempts.map(\.code) == [.timeout]) }
    // Two of three are lost: it is over, but what the third does says whether the network is down.
    #expect(code(run([(0, failure()), (1, failure()), (2, .record(mine))]).result) == .noQuorum)
    let early = run([(0, .record(mine)), (1, failure()), (2, failure()), (3, failure()), (4, .nothing)], of: 5)
    #expect(code(early.result) == .noQuorum && early.after == 4)
    #expect(code(run([(0, failure()), (2, .record(mine)), (1, failure())]).result) == .noQuorum)
    let nobody = run([(0, failure(.refused)), (1, failure(.timeout)), (2, failure(.dns))])
    #expect(code(nobody.result) == .unreachable)
    #expect(
      code(run([(0, failure()), (1, failure(.timeout)), (2, failure())], waitsForAll: true).result) == .unreachable)
    #expect(code(run([(0, .record(mine)), (1, .nothing), (2, failure())]).result) == .noQuorum)
  }

  @Test("one server is its own majority, and of four three must agree")
  func sizes() throws {
    let record = try record(1)
    #expect(try run([(0, .record(record))], of: 1).result?.get() == record)
    #expect(
      code(run([(0, .record(record)), (1, .record(record)), (2, failure()), (3, failure())], of: 4).result) == .noQuorum
    )
    #expect(run([(0, .record(record)), (1, .record(record)), (2, failure()), (3, .record(record))], of: 4).after == 4)
  }

  @Test("a server that answers twice, or is none of the set, has no second voice")
  func twice() throws {
    var quorum = LookupQuorum(name, servers: 3, majority: 2)
    let record = try record(1)
    #expect(quorum.handle(.record(record), from: 0, now: Self.now).isEmpty)
    #expect(quorum.handle(.record(record), from: 0, now: Self.now).isEmpty)
    #expect(quorum.handle(.record(record), from: 3, now: Self.now).isEmpty)
    #expect(quorum.handle(.record(record), from: -1, now: Self.now).isEmpty)
    #expect(quorum.handle(.record(record), from: 1, now: Self.now).count == 1)
  }

  @Test("of two records signed with one number every reader picks the same")
  func equivocation() throws {
    let (one, two) = (try record(4, value: "one"), try record(4, value: "two"))
    let results = [
      run([(0, .record(one)), (1, .record(two))]).result, run([(0, .record(two)), (1, .record(one))]).result,
    ]
    let picked = try results.map { try $0?.get() }
    #expect(picked[0] == picked[1])
  }
}
