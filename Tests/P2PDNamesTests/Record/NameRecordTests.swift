import P2PDNet
import Testing

@testable import P2PDNames

@Suite("Records of names") struct NameRecordTests {
  let owner = NameOwner.ephemeral()
  let now: UInt64 = 1_800_000_000

  func record(
    _ name: String = "example.peer", value: String = "p2pd1abc", sequence: UInt64 = 7, expires: UInt64 = 1_800_003_600
  ) throws -> NameRecord {
    try .sign(name: PeerName(name), value: value, sequence: sequence, expires: expires, as: owner)
  }

  @Test(
    "a record's bytes and JSON read back, and its signature holds",
    arguments: ["example.peer", "пример.peer", "a.peer", "12345678901234567890123456789012345678901234567890.peer"])
  func roundTrip(name: String) throws {
    for value in [
      "p2pd1abc", "", "\"\\/é\u{2028}", String(repeating: "x", count: 1024), String(repeating: "\"", count: 1024),
    ] {
      let record = try record(name, value: value)
      #expect(record.isValid)
      #expect(NameRecord(bytes: record.bytes) == record)
      #expect(try NameRecord(json: record.json) == record)
      #expect(record.isDeleted == value.isEmpty)
      #expect(record.json.count <= NameRecord.longestJSON)
    }
  }

  /// The signature was made by OpenSSL with the key of RFC 8032 §7.1, test 1, over bytes put together by a script.
  @Test("what is signed is this, byte for byte")
  func form() throws {
    let key = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    let signature = bytes(
      "0b4151b56ea47e24958cb480553e78a27c8619e0b4b6672e7bcea662e89951fa"
        + "138a9525d5492933e685cab9043122d062e5ed1a71b556e7561350c6863dc60e")
    let record = try NameRecord(
      name: PeerName("example.peer"), key: key, sequence: 0x0102_0304, expires: 0x6b49_d200, value: "v",
      signature: signature)
    var expected = Array("p2pd name 1\0".utf8) + [7] + Array("example".utf8) + [4] + Array("peer".utf8)
    expected += key + [0, 0, 0, 0, 1, 2, 3, 4] + [0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0]
    expected += [0, 1] + Array("v".utf8)
    #expect(record.signedBytes == expected)
    #expect(record.bytes == Array(expected.dropFirst(12)) + signature)
    #expect(record.isValid)
  }

  private func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }

  @Test("every byte of a record is under the signature, or the record is none")
  func tampering() throws {
    let bytes = try record().bytes
    for index in bytes.indices {
      for bit in 0..<8 {
        var changed = bytes
        changed[index] ^= 1 << bit
        if let read = NameRecord(bytes: changed) { #expect(!read.isValid, "byte \(index), bit \(bit)") }
      }
      #expect(NameRecord(bytes: bytes[..<index]) == nil)
    }
    #expect(NameRecord(bytes: bytes + [0]) == nil)
    #expect(NameRecord(bytes: [UInt8](repeating: 0xff, count: 1 << 20)) == nil)
  }

  @Test("what a server takes: signed, not expired, not for longer than 7 days and clocks' difference")
  func check() throws {
    func code(_ record: NameRecord) -> NetError.Code? {
      do throws(NetError) { try record.check(now: now) } catch { return error.code }
      return nil
    }
    let longest = NameRecord.longestLife + NameRecord.clockTolerance
    let expected: [(UInt64, NetError.Code?)] = [
      (now + 1, nil), (now, .expired), (0, .expired), (now + longest, nil), (now + longest + 1, .badRecord),
    ]
    for (expires, wanted) in expected {
      let record = try record(expires: expires)
      #expect(code(record) == wanted)
    }
    let other = try record(sequence: 8)
    let forged = try NameRecord(
      name: other.name, key: other.key, sequence: 9, expires: other.expires, value: "x", signature: other.signature)
    #expect(code(forged) == .badRecord)
    let stolen = try NameRecord(
      name: other.name, key: NameOwner.ephemeral().key, sequence: 8, expires: other.expires, value: other.value,
      signature: other.signature)
    #expect(code(stolen) == .badRecord)
  }

  @Test("newer is the higher number; of equal ones all readers pick the same")
  func newer() throws {
    let (old, new) = (try record(sequence: 1, expires: 1_800_009_999), try record(sequence: 2))
    #expect(new.isNewer(than: old) && !old.isNewer(than: new) && !new.isNewer(than: new))
    let (one, two) = (try record(value: "one"), try record(value: "two"))
    #expect(one.isNewer(than: two) != two.isNewer(than: one))
    let (longer, shorter) = (try record(expires: 1_800_003_601), try record())
    #expect(longer.isNewer(than: shorter))
  }

  @Test("what no record may say")
  func limits() throws {
    func code(_ body: () throws -> NameRecord) -> NetError.Code? {
      do { _ = try body() } catch { return (error as? NetError)?.code }
      return nil
    }
    #expect(code { try record(value: String(repeating: "x", count: 1025)) } == .tooLarge)
    #expect(code { try record(value: "a\u{1b}[2J") } == .badRecord)
    #expect(code { try record(value: "a\u{9b}2J") } == .badRecord)
    #expect(code { try record(sequence: 1 << 53) } == .badRecord)
    #expect(code { try record(expires: 1 << 53) } == .badRecord)
    #expect(code { try record("a.example.org") } == .badName)
    let good = try record()
    #expect(
      code { try NameRecord(name: good.name, key: [1], sequence: 1, expires: 1, value: "", signature: good.signature) }
        == .badRecord)
    #expect(
      code { try NameRecord(name: good.name, key: good.key, sequence: 1, expires: 1, value: "", signature: []) }
        == .badRecord)
  }

  @Test("JSON: more members are passed over; wrong types, other forms and sizes are refused")
  func json() throws {
    let record = try record()
    let text = String(decoding: record.json, as: UTF8.self)
    func code(_ text: String) -> NetError.Code? {
      do throws(NetError) { _ = try NameRecord(json: Array(text.utf8)) } catch { return error.code }
      return nil
    }
    func with(_ a: String, _ b: String) -> String {
      #expect(text.contains(a))
      return text.replacing(a, with: b)
    }
    #expect(code(with("{\"name\"", "{\"later\":[1,{\"x\":null}],\"name\"")) == nil)
    #expect(code(" \n" + text + " \n") == nil)
    for broken in [
      "", "{", "[]", "null", "\"x\"", text + "x", with("\"sequence\":7", "\"sequence\":7.5"),
      with("\"sequence\":7", "\"sequence\":-1"), with("\"sequence\":7", "\"sequence\":\"7\""),
      with("\"sequence\":7", "\"sequence\":9007199254740992"), with("\"sequence\":7", "\"sequence\":7e0"),
      with("\"sequence\":7", "\"sequence\":99999999999999999999"), with("\"sequence\":7,", ""),
      with("\"value\":\"p2pd1abc\"", "\"value\":null"), with("\"value\":\"p2pd1abc\"", "\"value\":[]"),
      with("\"key\":\"", "\"key\":\"A"), with("\"key\":\"", "\"key\":\"="),
      with("\"signature\":\"", "\"signature\":\"!"),
      with("example.peer", "Example.peer"), with("example.peer", "EXAMPLE.PEER"),
    ] {
      #expect(code(broken) == .badRecord, "\(broken)")
    }
    #expect(code(with("example.peer", "exa mple.peer")) == .badName)
    #expect(code(with("p2pd1abc", String(repeating: "x", count: 1025))) == .tooLarge)
    #expect(code(text + String(repeating: " ", count: 5000)) == .tooLarge)
    #expect(code(String(repeating: "[", count: 4000)) == .badRecord)
  }

  @Test("a decomposed spelling of a name is not its form in a record, though Swift calls the strings equal")
  func composed() throws {
    let record = try record("caf\u{e9}.peer")
    let text = String(decoding: record.json, as: UTF8.self)
    let apart: [Unicode.Scalar] = text.unicodeScalars.flatMap { $0 == "\u{e9}" ? ["e", "\u{301}"] : [$0] }
    var bytes = String.UnicodeScalarView()
    bytes.append(contentsOf: apart)
    #expect(throws: NetError.self) { try NameRecord(json: Array(String(bytes).utf8)) }
  }
}
