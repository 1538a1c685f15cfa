import P2PDNet

/// The header of an NTP message (RFC 5905 §7.3), which is all that SNTP needs (RFC 4330 §4). A value only: what it says is
/// judged elsewhere.
public struct NTPPacket: Hashable, Sendable {
  /// 3: the clock is not synchronised. 1 and 2 announce a leap second.
  public var leap: UInt8 = 0
  public var version: UInt8 = 4
  public var mode: Mode
  /// 1: has a reference clock; 2 to 15: learned the time over the network; 0: a kiss of death; above: not synchronised.
  public var stratum: UInt8 = 0
  /// Exponents of two, in seconds.
  public var poll: Int8 = 0
  public var precision: Int8 = 0
  /// Round trip to the reference clock, and the most that the server may be wrong by, as it says.
  public var rootDelay = NTPShort(bits: 0)
  public var rootDispersion = NTPShort(bits: 0)
  public var referenceID: UInt32 = 0
  /// When the server's clock was last set.
  public var reference = NTPTimestamp(bits: 0)
  /// What the request had for ``transmit``.
  public var origin = NTPTimestamp(bits: 0)
  /// When the request arrived, by the server's clock.
  public var receive = NTPTimestamp(bits: 0)
  /// When this left, by its sender's clock.
  public var transmit = NTPTimestamp(bits: 0)

  /// RFC 5905 figure 10.
  public enum Mode: UInt8, Sendable {
    case reserved, symmetricActive, symmetricPassive, client, server, broadcast, control, privateUse
  }

  public init(_ mode: Mode) { self.mode = mode }

  /// A question. Beside the random number that the answer must repeat it says nothing of this host: neither its time nor
  /// its clock's quality (draft-ietf-ntp-data-minimization-04).
  public static func question(_ number: UInt64) -> NTPPacket {
    var packet = NTPPacket(.client)
    packet.transmit = NTPTimestamp(bits: number)
    return packet
  }

  /// Why the server wants to be left alone (RFC 5905 §7.4): `RATE`, `DENY`, ...; nil where this is no kiss of death.
  public var kiss: String? {
    let letters = (0..<4).map { UInt8(truncatingIfNeeded: referenceID >> (24 - 8 * $0)) }
    guard stratum == 0, letters.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
    return String(decoding: letters, as: UTF8.self)
  }

  // MARK: Bytes

  /// nil where it is too short to be one. What follows the header (extension fields, a MAC) is passed over.
  public init?(decoding bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    guard bytes.count <= Self.longest, let first = reader.byte(), let stratum = reader.byte(),
      let poll = reader.byte(), let precision = reader.byte(), let rootDelay = reader.uint32(),
      let rootDispersion = reader.uint32(), let referenceID = reader.uint32(), let reference = reader.uint64(),
      let origin = reader.uint64(), let receive = reader.uint64(), let transmit = reader.uint64(),
      let mode = Mode(rawValue: first & 7)
    else { return nil }
    self.init(mode)
    leap = first >> 6
    version = first >> 3 & 7
    self.stratum = stratum
    self.poll = Int8(bitPattern: poll)
    self.precision = Int8(bitPattern: precision)
    self.rootDelay = NTPShort(bits: rootDelay)
    self.rootDispersion = NTPShort(bits: rootDispersion)
    self.referenceID = referenceID
    self.reference = NTPTimestamp(bits: reference)
    self.origin = NTPTimestamp(bits: origin)
    self.receive = NTPTimestamp(bits: receive)
    self.transmit = NTPTimestamp(bits: transmit)
  }

  /// 48 bytes.
  public var encoded: [UInt8] {
    var bytes: [UInt8] = [
      leap << 6 | (version & 7) << 3 | mode.rawValue, stratum, UInt8(bitPattern: poll), UInt8(bitPattern: precision),
    ]
    for word in [rootDelay.bits, rootDispersion.bits, referenceID] { bytes.append(uint32: word) }
    for stamp in [reference, origin, receive, transmit] { bytes.append(uint64: stamp.bits) }
    return bytes
  }

  /// What fits in a datagram without fragments; an answer to a plain question has 48 bytes.
  private static let longest = 1472
}
