@testable import P2PDTraversal

/// STUN and TURN messages: nothing in them may trap, a message that was read can be written and read again unchanged, and
/// none that was changed on its way passes for signed.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzSTUN(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  if let length = try? STUNMessage.length(of: bytes[...]) {
    precondition(length >= STUNMessage.headerSize && length % 4 == 0 && length <= 65_552, "a length that none can have")
  }
  let looksRight = bytes.withUnsafeBytes { STUNMessage.looksLikeSTUN($0) }
  guard let message = try? STUNMessage(decoding: bytes) else { return 0 }
  precondition(looksRight, "a message that does not look like one")
  let key = STUNKey.shortTerm(password: "VOkJxbRl1RmTxUk/WvJxBt")
  _ = message.isAuthentic(key)
  _ = (message.mapped, message.other, message.error, message.unknownRequired)
  // Without the check values, which are those of the bytes that were read.
  var plain = message
  plain.attributes.removeAll { [0x0008, 0x001c, 0x8028].contains($0.type) }
  guard plain.attributes.count + 2 <= STUNMessage.mostAttributes else { return 0 }
  for sha256 in [false, true] {
    guard let again = try? plain.encoded(key: key, sha256: sha256, fingerprint: true) else { continue }
    guard let read = try? STUNMessage(decoding: again) else { preconditionFailure("written, but not readable") }
    precondition(
      read.attributes.prefix(plain.attributes.count).elementsEqual(plain.attributes), "it changed on its way")
    precondition(read.transaction == plain.transaction && read.kind == plain.kind && read.method == plain.method)
    precondition(read.isAuthentic(key), "its own signature does not hold")
    precondition(!read.isAuthentic(.shortTerm(password: "another")), "anybody's signature holds")
  }
  return 0
}
