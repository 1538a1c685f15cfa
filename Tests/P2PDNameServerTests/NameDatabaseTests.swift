import Foundation
import GRDB
import P2PDNames
import P2PDNet
import Testing

@testable import P2PDNameServer

@Suite struct NameDatabaseTests {
  private let folder: Folder
  private let database: NameDatabase
  private let anna = NameOwner.ephemeral()
  private let bob = NameOwner.ephemeral()

  init() throws {
    folder = try Folder()
    database = try NameDatabase(path: folder.database)
  }

  private func push(
    _ records: NameRecord..., from source: Source = home, limits: NameLimits = NameLimits(), at now: UInt64 = moment
  ) -> [NameOutcome] {
    database.apply(records.map { NameChange(record: $0, source: source) }, limits: limits, now: now)
  }

  @Test func whatIsPushedIsThereAndStays() throws {
    let (one, two) = (try record("one", anna), try record("two", bob, value: "ä"))
    #expect(push(one, two) == [.registered, .registered])
    #expect(try database.read([one.name, PeerName("none.peer"), two.name]) == [one, nil, two])
    let newer = try record("one", anna, 2)
    #expect(push(newer, newer) == [.replaced, .same])
    try database.close()
  }

  @Test func aDatabaseThatIsOpenedAgainHasWhatItHad() throws {
    let other = folder.path + "/other.sqlite"
    let one = try record("one", anna)
    do {
      let first = try NameDatabase(path: other)
      #expect(first.apply([NameChange(record: one, source: home)], limits: NameLimits(), now: moment) == [.registered])
      try first.close()
    }
    let second = try NameDatabase(path: other)
    #expect(try second.read([one.name]) == [one])
    #expect(second.rows.load(ordering: .relaxed) == 1)
  }

  @Test("two keys fight for a name within one transaction")
  func fight() throws {
    let (hers, his) = (try record("n", anna), try record("n", bob, 5))
    #expect(push(hers, his, try record("n", anna, 2)) == [.registered, .wrongKey, .replaced])
    #expect(try database.read([hers.name]).first??.key == anna.key)
  }

  @Test func anExpiredNameIsAnybodys() throws {
    let hers = try record("n", anna)
    let his = try record("n", bob, expires: moment + 3 * day)
    #expect(push(hers) == [.registered])
    #expect(push(his, at: moment + day - 1) == [.wrongKey])
    #expect(push(his, at: moment + day) == [.registered])
    #expect(push(try record("n", anna, 9, expires: moment + 3 * day), at: moment + day) == [.wrongKey])
    #expect(database.rows.load(ordering: .relaxed) == 1)
  }

  @Test("an old record is not taken back, nor one that a deletion took the place of")
  func replay() throws {
    let first = try record("n", anna, 1, expires: moment + 7 * day)
    let second = try record("n", anna, 2)
    #expect(push(first, second, first) == [.registered, .replaced, .stale(second)])
    let deletion = try record("n", anna, 3, expires: moment + 60, value: "")
    #expect(push(deletion, second) == [.replaced, .stale(deletion)])
    #expect(push(first, at: moment + 2 * day) == [.stale(deletion)], "though the deletion itself has expired")
    #expect(try database.sweep(now: moment + 2 * day, atMost: 10) == 0)
    #expect(try database.sweep(now: moment + 7 * day, atMost: 10) == 1)
  }

  @Test("a name goes from key to key by deletion, and no old record brings it back")
  func handedOn() throws {
    let (hers, gone) = (try record("n", anna, 1), try record("n", anna, 2, value: ""))
    let (his, gone2) = (try record("n", bob, 1), try record("n", bob, 2, value: ""))
    #expect(push(hers, gone, his, hers, gone) == [.registered, .replaced, .registered, .wrongKey, .wrongKey])
    #expect(try database.read([his.name]) == [his])
    #expect(push(gone2, hers, gone) == [.replaced, .stale(gone), .stale(gone)])
    #expect(try database.read([his.name]) == [gone2])
    let back = try record("n", anna, 3)
    #expect(push(back, gone2) == [.registered, .wrongKey])
    #expect(try database.read([his.name]) == [back])
    #expect(database.rows.load(ordering: .relaxed) == 2)
    #expect(try database.sweep(now: moment + day, atMost: 10) == 2)
    #expect(database.rows.load(ordering: .relaxed) == 0)
  }

  @Test("a full allowance of a key replaces its oldest expired name only")
  func keyLimit() throws {
    var limits = NameLimits()
    limits.namesPerKey = 2
    let others = try record("others", bob, expires: moment + 10)
    let (a, b) = (try record("a", anna, expires: moment + 100), try record("b", anna, expires: moment + 50))
    #expect(push(others, a, b, limits: limits) == [.registered, .registered, .registered])
    let c = try record("c", anna, expires: moment + 2 * day)
    #expect(push(c, limits: limits) == [.limit("this key has 2 names", retry: 50)])
    #expect(push(try record("a", anna, 2), limits: limits) == [.replaced], "what it has it may renew")
    #expect(push(c, limits: limits, at: moment + 60) == [.registered])
    #expect(try database.read([a.name, b.name, others.name]).map { $0 != nil } == [true, false, true])
  }

  @Test("a full allowance of a source keeps its other names, expired or not")
  func sourceLimit() throws {
    var limits = NameLimits()
    limits.namesPerSource = 2
    let (his, hers) = (try record("his", bob, expires: moment + 10), try record("hers", anna))
    #expect(push(his, hers, limits: limits) == [.registered, .registered])
    let more = try record("more", anna)
    guard case .limit(let why, let retry) = push(more, limits: limits, at: moment + 20)[0] else {
      Issue.record("it was taken")
      return
    }
    #expect(why.contains("192.0.2.1") && retry == 1)
    #expect(push(more, from: away, limits: limits, at: moment + 20) == [.registered])
    let sameSource = Source(IPAddress("2001:db8:1:2:ffff::1")!)
    #expect(push(try record("x", bob), from: sameSource, limits: limits) == [.registered])
    guard case .limit = push(try record("y", bob), from: sameSource, limits: limits)[0] else {
      Issue.record("another address of one /64 is another source")
      return
    }
  }

  @Test("a name moves to the allowance of where its owner is now")
  func moving() throws {
    var limits = NameLimits()
    limits.namesPerSource = 1
    #expect(push(try record("n", anna), limits: limits) == [.registered])
    #expect(push(try record("n", anna, 2), from: away, limits: limits) == [.replaced])
    #expect(push(try record("m", bob), limits: limits) == [.registered])
    #expect(
      push(try record("m", bob, 2), from: away, limits: limits) == [.replaced], "no room there, but it is renewed")
    guard case .limit = push(try record("o", bob), limits: limits)[0] else {
      Issue.record("it moved where no room was")
      return
    }
  }

  @Test func aFullServerTakesNoNewNames() throws {
    var limits = NameLimits()
    limits.names = 1
    #expect(push(try record("n", anna), limits: limits) == [.registered])
    #expect(push(try record("m", bob), limits: limits) == [.limit("this server has 1 names", retry: 600)])
    #expect(push(try record("n", anna, 2), limits: limits) == [.replaced])
  }

  @Test("a full disk fails the whole transaction, and room mends it")
  func fullDisk() throws {
    let one = try record("one", anna)
    #expect(push(one) == [.registered])
    let pages = try database.pool.writeWithoutTransaction { db in
      let pages = try Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0
      try db.execute(sql: "PRAGMA max_page_count = \(pages)")
      return pages
    }
    #expect(pages > 0)
    let value = String(repeating: "x", count: 1000)
    let many = try (0..<50).map { try record("n\($0)", bob, value: value) }
    let outcomes = database.apply(many.map { NameChange(record: $0, source: home) }, limits: NameLimits(), now: moment)
    #expect(outcomes.count == 50)
    for outcome in outcomes {
      guard case .failed(let error) = outcome else {
        Issue.record("\(outcome)")
        continue
      }
      #expect(error.code == .limit && error.cause.contains("disk is full"))
    }
    #expect(try database.read(many.map(\.name)).allSatisfy { $0 == nil })
    #expect(database.rows.load(ordering: .relaxed) == 1)
    try database.pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA max_page_count = 100000") }
    #expect(
      database.apply(many.prefix(2).map { NameChange(record: $0, source: home) }, limits: NameLimits(), now: moment)
        == [.registered, .registered])
  }

  @Test func theWriterWaitsForTheDisk() throws {
    let (mode, synchronous) = try database.pool.writeWithoutTransaction { db in
      (try String.fetchOne(db, sql: "PRAGMA journal_mode"), try Int.fetchOne(db, sql: "PRAGMA synchronous"))
    }
    #expect(mode == "wal" && synchronous == 2)
    #expect(try FileManager.default.attributesOfItem(atPath: folder.database)[.posixPermissions] as? Int == 0o600)
  }

  @Test func aSecondServerIsKeptOff() throws {
    let error = #expect(throws: NetError.self) { try NameDatabase(path: folder.database) }
    #expect(
      error?.code == .inUse && error?.cause.contains("process \(ProcessInfo.processInfo.processIdentifier)") == true)
  }

  @Test func otherFilesAreLeftAlone() throws {
    let text = folder.path + "/notes.txt"
    try Data("these are my notes, which are longer than a page's header is".utf8).write(to: URL(fileURLWithPath: text))
    #expect(throws: NetError.self) { try NameDatabase(path: text) }
    let foreign = folder.path + "/foreign.sqlite"
    try DatabaseQueue(path: foreign).write { try $0.execute(sql: "CREATE TABLE names (x)") }
    let error = #expect(throws: NetError.self) { try NameDatabase(path: foreign) }
    #expect(error?.cause.contains("another program") == true)
    #expect(throws: NetError.self) { try NameDatabase(path: folder.path + "/no/such/folder.sqlite") }
  }

  @Test("a backup is whole, while the server goes on")
  func backup() throws {
    let copy = folder.path + "/copy.sqlite"
    let records = try (0..<200).map { try record("n\($0)", NameOwner.ephemeral()) }
    var limits = NameLimits()
    limits.namesPerSource = 1000
    let changes = records.map { NameChange(record: $0, source: home) }
    #expect(database.apply(changes, limits: limits, now: moment).allSatisfy { $0 == .registered })
    let report = try NameBackup.make(of: folder.database, to: copy)
    #expect(report.names == 200)
    #expect(push(try record("later", anna), limits: limits) == [.registered])
    #expect(try NameBackup.make(of: folder.database, to: copy).names == 201)
    let restored = try NameDatabase(path: copy)
    #expect(try restored.read(records.map(\.name)) == records)
    try restored.close()
    #expect(throws: NetError.self) { try NameBackup.make(of: folder.database, to: folder.database) }
    #expect(throws: NetError.self) { try NameBackup.make(of: folder.path + "/none", to: copy) }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(!names.contains { $0.contains(".part") }, "\(names)")
  }
}
