@testable import P2PDNet

/// The kernel's messages about interfaces, addresses and routes. Nothing in them may trap, and none is made up.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNetlink(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  let messages = NetlinkCodec.messages(in: bytes)
  precondition(messages.count <= bytes.count, "more messages than bytes")
  for message in messages {
    if case .address(let record) = message.content {
      precondition(record.prefixLength <= (record.family == .v4 ? 32 : 128), "a prefix longer than its address")
      precondition(record.ip.family == record.family, "an address of another family")
      precondition(IPAddress(record.ip.description) != nil, "an address that cannot be read back: \(record.ip)")
    }
  }
  return 0
}
