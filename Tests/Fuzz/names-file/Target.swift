import P2PDNet

@testable import P2PDNames

/// The user's names file and the keys remembered: nothing in them may trap, and what was read can be written and read
/// again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNamesFile(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let text = String(decoding: UnsafeBufferPointer(start: data, count: size), as: UTF8.self)
  if let file = try? NamesFile(text: text, path: "f", keyOfAddress: reader) {
    for (name, entry) in file.entries {
      precondition(entry.key.count == 32 && entry.line > 0)
      precondition((try? PeerName(name.description)) == name, "a name changes when it is written")
    }
  }
  if let known = try? KnownNames(text: text, path: "f") {
    precondition((try? KnownNames(text: known.text, path: "again")) == known, "a list changes when it is written")
  }
  return 0
}

private let reader: AddressReader = { text throws(NetError) in
  guard text.hasPrefix("p2pd1") else { throw NetError(.badAddress, "read", cause: "no address") }
  return [UInt8](repeating: UInt8(truncatingIfNeeded: text.utf8.count), count: 32)
}
