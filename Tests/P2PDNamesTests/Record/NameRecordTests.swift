import P2PDNet
import Testing

@testable import P2PDNames

@Suite struct NameRecordTests {
  @Test("a record's bytes and JSON read back, and its signature holds")
  func roundTrip() throws {
    let owner = NameOwner.ephemeral()
    let record = try NameRecord.sign(
      name: PeerName("example.peer"), value: "p2pd1abc", sequence: 7, expires: 1_790_000_000, as: owner)
    #expect(record.isValid)
    #expect(NameRecord(bytes: record.bytes) == record)
    #expect(try NameRecord(json: record.json) == record)
  }
}
