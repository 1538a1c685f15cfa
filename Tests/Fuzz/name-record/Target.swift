import P2PDNet

@testable import P2PDNames

/// Records as bytes and as JSON. Nothing may trap; what is read is within the limits, has one form in bytes, and is the
/// same by either way.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNameRecord(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  if let record = NameRecord(bytes: bytes) {
    precondition(record.bytes == bytes, "a second form")
    check(record)
  }
  do {
    check(try NameRecord(json: bytes))
  } catch {
    precondition([.badRecord, .badName, .tooLarge].contains(error.code), "another error")
  }
  return 0
}

private func check(_ record: NameRecord) {
  precondition(record.key.count == 32 && record.signature.count == 64 && record.value.utf8.count <= 1024, "a length")
  precondition(record.sequence < 1 << 53 && record.expires < 1 << 53 && record.name.isRegistrable, "a limit")
  precondition(record.json.count <= NameRecord.longestJSON, "JSON that is too long to be read")
  precondition(
    (try? NameRecord(json: record.json)) == record && NameRecord(bytes: record.bytes) == record, "it changes")
  precondition(!record.isNewer(than: record), "newer than itself")
  _ = record.isValid
  for now in [0, record.expires, NameRecord.highestSequence] { _ = try? record.check(now: now) }
}
