@testable import P2PDNames
@testable import P2PDNet

/// What a name server may answer, in pieces of any size: HTTP, then JSON, then what it means for a lookup and a push. Nothing
/// may trap, the pieces' sizes change nothing, and nothing counts that its owner did not sign.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNameAnswer(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let answer = httpAnswer(bytes, limit: limit), let name = try? PeerName("example.peer"),
    let server = try? NameServerURL("http://h"),
    let mine = try? NameRecord(
      name: name, key: [UInt8](repeating: 7, count: 32), sequence: 3, expires: 1_790_000_000, value: "v",
      signature: [UInt8](repeating: 0, count: 64))
  else { return 0 }
  precondition(answer.body.count <= limit, "more than allowed")
  switch NamesAPI.read(lookup: answer, of: name, at: server) {
  case .record(let record): precondition(record.name == name && record.isValid, "a record that is none")
  case .nothing: precondition(answer.head.status == 404)
  case .failed(let error): precondition(error.description.unicodeScalars.allSatisfy(isHarmless), "\(error)")
  }
  switch NamesAPI.read(push: answer, of: mine, at: server) {
  case .stale(let newer): precondition(newer.key == mine.key && newer.sequence >= 3 && newer.isValid, "not newer")
  case .accepted: precondition(answer.head.status == 200 || answer.head.status == 201)
  default: break
  }
  return 0
}

private let limit = 8192

private func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
  scalar == "\n" || scalar.value >= 0x20 && scalar.value != 0x7f
}
