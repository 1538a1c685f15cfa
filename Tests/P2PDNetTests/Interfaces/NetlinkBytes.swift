@testable import P2PDNet

/// Writes rtnetlink messages as the kernel does, for the codec's tests.
enum NetlinkBytes {
  static func number<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

  static func attribute(_ type: UInt16, _ data: [UInt8]) -> [UInt8] {
    let bytes = number(UInt16(4 + data.count)) + number(type) + data
    return bytes + Array(repeating: 0, count: (4 - bytes.count % 4) % 4)
  }

  static func message(_ type: UInt16, flags: UInt16 = 2, sequence: UInt32 = 7, _ body: [UInt8]) -> [UInt8] {
    let bytes =
      number(UInt32(16 + body.count)) + number(type) + number(flags) + number(sequence) + number(UInt32(0)) + body
    return bytes + Array(repeating: 0, count: (4 - bytes.count % 4) % 4)
  }

  static func link(
    _ index: UInt32, _ name: String, flags: UInt32 = 0x1043, mac: [UInt8] = [2, 0, 0, 0, 0, 1], mtu: UInt32 = 1500,
    kind: String? = nil
  ) -> [UInt8] {
    var body = number(UInt32(1) << 16) + number(index) + number(flags) + number(UInt32.max)
    body += attribute(3, Array(name.utf8) + [0]) + attribute(4, number(mtu)) + attribute(1, mac)
    if let kind { body += attribute(18 | 0x8000, attribute(1, Array(kind.utf8) + [0])) }
    return message(16, body)
  }

  static func address(
    _ index: UInt32, _ ip: IPAddress, prefix: UInt8, scope: UInt8 = 0, flags: UInt32 = 0x80, local: IPAddress? = nil,
    broadcast: IPAddress? = nil
  ) -> [UInt8] {
    var body = [UInt8(ip.family.raw), prefix, UInt8(truncatingIfNeeded: flags), scope] + number(index)
    body += attribute(1, ip.bytes)
    if let local { body += attribute(2, local.bytes) }
    if let broadcast { body += attribute(4, broadcast.bytes) }
    body += attribute(8, number(flags))
    return message(20, body)
  }

  static func route(
    _ family: AddressFamily, length: UInt8 = 0, table: UInt8 = 254, type: UInt8 = 1, flags: UInt32 = 0,
    _ attributes: [UInt8]
  ) -> [UInt8] {
    message(24, [UInt8(family.raw), length, 0, 0, table, 3, 0, type] + number(flags) + attributes)
  }

  static func via(_ gateway: IPAddress, _ index: UInt32, metric: UInt32? = nil) -> [UInt8] {
    attribute(5, gateway.bytes) + attribute(4, number(index)) + (metric.map { attribute(6, number($0)) } ?? [])
  }

  static func hop(_ index: UInt32, _ gateway: IPAddress) -> [UInt8] {
    let attributes = attribute(5, gateway.bytes)
    return number(UInt16(8 + attributes.count)) + [0, 0] + number(index) + attributes
  }

  static func done(_ code: Int32 = 0) -> [UInt8] { message(3, number(code)) }
}

/// An address that the test knows to be well written.
func ip(_ text: String, scope: UInt32 = 0) -> IPAddress {
  guard var address = IPAddress(text) else { preconditionFailure("\(text) is no address") }
  if scope != 0 { address.scopeID = scope }
  return address
}
