/// Reads numbers, texts and attributes off the front of some bytes; every read answers nil where too few are left.
struct NetlinkReader {
  private var bytes: ArraySlice<UInt8>
  private let start: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    start = bytes.startIndex
  }

  /// An attribute (`struct rtattr`): length(2) type(2) data, padded to four bytes.
  struct Attribute {
    /// The type without the bits that say "nested" and "network order".
    var type: UInt16
    var data: NetlinkReader
  }

  var remaining: Int { bytes.count }

  mutating func u8() -> UInt8? { bytes.popFirst() }
  mutating func u16() -> UInt16? { number() }
  mutating func u32() -> UInt32? { number() }
  mutating func i32() -> Int32? { number() }

  mutating func skip(_ count: Int) -> Bool { take(count) != nil }

  mutating func take(_ count: Int) -> NetlinkReader? {
    guard count >= 0, count <= bytes.count else { return nil }
    let part = bytes.prefix(count)
    bytes.removeFirst(count)
    return NetlinkReader(part)
  }

  /// Steps over the padding that follows a message or an attribute (`NLMSG_ALIGN`, `RTA_ALIGN`); the last may lack it.
  mutating func align() {
    let past = (bytes.startIndex - start) % 4
    if past != 0 { bytes.removeFirst(min(4 - past, bytes.count)) }
  }

  mutating func attribute() -> Attribute? {
    guard let length = u16(), let type = u16(), let data = take(Int(length) - 4) else { return nil }
    align()
    return Attribute(type: type & 0x3fff, data: data)
  }

  /// An address of the family, if exactly its bytes are there; the scope is kept only where it means something.
  func ip(_ family: AddressFamily, scopeID: UInt32) -> IPAddress? {
    guard bytes.count == (family == .v4 ? 4 : 16), let ip = IPAddress(bytes: bytes) else { return nil }
    guard family == .v6, ip.isLinkLocal else { return ip }
    return IPAddress(family: .v6, high: ip.high, low: ip.low, scopeID: scopeID)
  }

  /// The bytes up to the first zero, as text.
  func text() -> String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }

  func rest() -> [UInt8] { Array(bytes) }

  private mutating func number<T: FixedWidthInteger>() -> T? {
    let count = T.bitWidth / 8
    guard bytes.count >= count else { return nil }
    var value: T = 0
    withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes.prefix(count)) }
    bytes.removeFirst(count)
    return value
  }
}
