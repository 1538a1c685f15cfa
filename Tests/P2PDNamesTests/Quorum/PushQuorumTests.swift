import P2PDNet
import Testing

@testable import P2PDNames

@Suite("Bringing a change to a majority") struct PushQuorumTests {
  let name: PeerName
  let owner = NameOwner.ephemeral()
  init() throws { name = try PeerName("example.peer") }

  private func quorum(after last: UInt64 = 0, deletes: Bool = false, servers: Int = 3) -> PushQuorum {
    PushQuorum(name, servers: servers, majority: servers / 2 + 1, after: last, isDeletion: deletes)
  }

  private func stale(_ sequence: UInt64, value: String = "x") throws -> PushQuorum.Answer {
    .stale(try .sign(name: name, value: value, sequence: sequence, expires: 1_800_000_000, as: owner))
  }

  /// The actions as words.
  private func words(_ actions: [PushQuorum.Action]) -> [String] {
    actions.map { action in
      switch action {
      case .send(let sequence, let round): "send \(sequence) r\(round)"
      case .finish(let round): "finish r\(round)"
      case .fail(let error): "fail \(error.code.rawValue)"
      case .withdraw(let servers, let sequence): "withdraw \(servers) \(sequence)"
      }
    }
  }

  private func failed(_ code: NetError.Code) -> PushQuorum.Answer { .failed(NetError(code, "push")) }

  @Test("registered when a majority has it; the number follows the last one")
  func accepted() {
    var push = quorum(after: 6)
    #expect(words(push.start()) == ["send 7 r1"])
    #expect(words(push.handle(.accepted(isNew: false), from: 2, round: 1)) == [])
    #expect(words(push.handle(.accepted(isNew: false), from: 2, round: 1)) == [], "a second voice")
    #expect(words(push.handle(.accepted(isNew: true), from: 0, round: 1)) == ["finish r1"])
    #expect(words(push.handle(failed(.timeout), from: 1, round: 1)) == [])
  }

  @Test("a newer record of one's own: signed again above it, and old answers count no more")
  func stale() throws {
    var push = quorum()
    #expect(words(push.start()) == ["send 1 r1"])
    #expect(words(push.handle(.accepted(isNew: true), from: 0, round: 1)) == [])
    let newer = try stale(40)
    #expect(words(push.handle(newer, from: 1, round: 1)) == ["send 41 r2"])
    #expect(words(push.handle(.accepted(isNew: true), from: 2, round: 1)) == [])
    #expect(words(push.handle(.accepted(isNew: false), from: 0, round: 2)) == [])
    #expect(words(push.handle(.accepted(isNew: false), from: 1, round: 2)) == ["finish r2"])
  }

  @Test("a server that always knows a newer one does not keep it busy for ever, nor from its majority")
  func alwaysStale() throws {
    var push = quorum()
    _ = push.start()
    for round in 1...3 {
      let said = words(push.handle(try stale(UInt64(round) * 10), from: 0, round: round))
      #expect(said == ["send \(round * 10 + 1) r\(round + 1)"])
    }
    let (newer, highest) = (try stale(90), try stale(NameRecord.highestSequence))
    #expect(words(push.handle(newer, from: 0, round: 4)) == [])
    #expect(words(push.handle(.accepted(isNew: false), from: 1, round: 4)) == [])
    #expect(words(push.handle(.accepted(isNew: false), from: 2, round: 4)) == ["finish r4"])
    var last = quorum()
    _ = last.start()
    #expect(words(last.handle(highest, from: 0, round: 1)) == ["fail limit"])
  }

  @Test("two nodes fight for a name: who has no majority says taken and takes back what it got, late answers too")
  func fight() {
    var winner = quorum()
    var loser = quorum()
    _ = (winner.start(), loser.start())
    #expect(words(winner.handle(.accepted(isNew: true), from: 0, round: 1)) == [])
    #expect(words(winner.handle(.accepted(isNew: true), from: 1, round: 1)) == ["finish r1"])
    #expect(words(winner.handle(.wrongKey, from: 2, round: 1)) == [])
    #expect(words(loser.handle(.accepted(isNew: true), from: 2, round: 1)) == [])
    #expect(words(loser.handle(.wrongKey, from: 0, round: 1)) == [])
    #expect(words(loser.handle(.wrongKey, from: 1, round: 1)) == ["fail taken", "withdraw [2] 2"])

    var late = quorum()
    _ = late.start()
    #expect(words(late.handle(.wrongKey, from: 0, round: 1)) == [])
    #expect(words(late.handle(.wrongKey, from: 1, round: 1)) == ["fail taken"])
    #expect(words(late.handle(.accepted(isNew: true), from: 2, round: 1)) == ["withdraw [2] 2"])
  }

  @Test("what was one's own before is not taken back when servers are away")
  func ownedStays() {
    var renewal = quorum(after: 5)
    _ = renewal.start()
    #expect(words(renewal.handle(.accepted(isNew: true), from: 0, round: 1)) == [])
    #expect(words(renewal.handle(failed(.timeout), from: 1, round: 1)) == [])
    #expect(words(renewal.handle(failed(.refused), from: 2, round: 1)) == ["fail no_quorum"])
    var found = quorum()
    _ = found.start()
    #expect(words(found.handle(.accepted(isNew: false), from: 0, round: 1)) == [])
    #expect(words(found.handle(failed(.timeout), from: 1, round: 1)) == [])
    #expect(words(found.handle(failed(.refused), from: 2, round: 1)) == ["fail no_quorum"])
  }

  @Test("why it fell short")
  func reasons() {
    func code(_ answers: [PushQuorum.Answer]) -> String? {
      var push = quorum()
      _ = push.start()
      var said: [String] = []
      for (server, answer) in answers.enumerated() { said += words(push.handle(answer, from: server, round: 1)) }
      return said.first
    }
    #expect(code([failed(.timeout), failed(.refused), failed(.dns)]) == "fail unreachable")
    #expect(code([failed(.limit), failed(.limit), .accepted(isNew: true)]) == "fail limit")
    #expect(code([failed(.tooLarge), failed(.tooLarge), failed(.tooLarge)]) == "fail too_large")
    #expect(code([failed(.timeout), .accepted(isNew: true), failed(.refused)]) == "fail no_quorum")
    #expect(code([failed(.timeout), failed(.limit), failed(.refused)]) == "fail no_quorum")
    #expect(code([failed(.timeout), .wrongKey, failed(.refused)]) == "fail taken")
  }

  @Test("deletion: a majority that forgets it or never had it; nobody has it; another's")
  func deletion() {
    func said(_ answers: [PushQuorum.Answer]) -> [String] {
      var push = quorum(after: 3, deletes: true)
      _ = push.start()
      return answers.enumerated().flatMap { words(push.handle($1, from: $0, round: 1)) }
    }
    #expect(said([.accepted(isNew: false), .accepted(isNew: false)]) == ["finish r1"])
    #expect(said([.accepted(isNew: false), failed(.timeout), .absent]) == ["finish r1"])
    #expect(said([.absent, .accepted(isNew: false)]) == ["finish r1"])
    #expect(said([.absent, .absent]) == ["fail not_found"])
    #expect(said([.wrongKey, .wrongKey]) == ["fail taken"])
    #expect(said([.absent, failed(.timeout), failed(.timeout)]) == ["fail no_quorum"])
  }

  @Test("a deletion in a second round knows that the first one found the name; one of what is deleted already does not")
  func deletionAgain() throws {
    func second(_ first: [PushQuorum.Answer]) -> [String] {
      var push = quorum(deletes: true)
      _ = push.start()
      for (server, answer) in first.enumerated() { _ = push.handle(answer, from: server, round: 1) }
      return [0, 1].flatMap { words(push.handle(.absent, from: $0, round: 2)) }
    }
    #expect(second([.accepted(isNew: false), try stale(5)]) == ["finish r2"])
    #expect(second([try stale(5)]) == ["finish r2"])
    #expect(second([try stale(5, value: "")]) == ["fail not_found"])
  }
}
