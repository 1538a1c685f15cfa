import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("NTP's times and packets")
struct NTPCodecTests {
  private static let second: Int64 = 1_000_000_000

  /// RFC 5905 figure 4 among others: Unix time begins, the 21st century begins, the era ends.
  private static let known: [(Int64, UInt64)] = [
    (0, 2_208_988_800 << 32), (946_684_800_000_000_000, 3_155_673_600 << 32), (2_085_978_496_000_000_000, 0),
    (2_085_978_495_000_000_000, 4_294_967_295 << 32), (-1_000_000_000, 2_208_988_799 << 32),
    (500_000_000, 0x83aa_7e80_8000_0000), (-500_000_000, 0x83aa_7e7f_8000_0000),
  ]

  @Test("known moments", arguments: NTPCodecTests.known)
  func moments(nanoseconds: Int64, bits: UInt64) {
    #expect(NTPTimestamp(unixNanoseconds: nanoseconds).bits == bits)
  }

  @Test("a difference is right across the end of an era, and for any two bit patterns there is one")
  func differences() {
    let before = NTPTimestamp(unixNanoseconds: 2_085_978_490 * Self.second)
    let after = NTPTimestamp(unixNanoseconds: 2_085_978_500 * Self.second + 250_000_000)
    #expect(after.since(before) == .milliseconds(10_250) && before.since(after) == .milliseconds(-10_250))
    #expect(before.advanced(by: .milliseconds(10_250)) == after && after.advanced(by: .milliseconds(-10_250)) == before)
    let extremes: [UInt64] = [0, 1, .max, 1 << 63, (1 << 63) - 1]
    for a in extremes {
      for b in extremes {
        let difference = NTPTimestamp(bits: a).since(NTPTimestamp(bits: b))
        #expect(abs(difference.nanoseconds) <= (Int64(1) << 31) * Self.second)
      }
    }
    #expect(NTPShort(bits: 0x0001_8000).time == .milliseconds(1500))
    #expect(NTPShort(bits: .max).time < .seconds(65_536))
  }

  @Test("an answer of a real server is read, and written again as it was")
  func real() throws {
    // What chrony 4 said to a client: stratum 3, leap 0.
    let bytes = hex(
      """
      24 03 00 e9 00 00 05 4a 00 00 00 66 0a 2f 08 0a  ec a8 51 2b 15 1b 7d 6e  11 22 33 44 55 66 77 88
      ec a8 52 11 7a 2a 9c 01  ec a8 52 11 7a 2c 01 02
      """)
    let packet = try #require(NTPPacket(decoding: bytes))
    #expect(packet.leap == 0 && packet.version == 4 && packet.mode == .server && packet.stratum == 3)
    #expect(packet.precision == -23 && packet.rootDispersion.time == .nanoseconds(1_556_396))
    #expect(packet.origin.bits == 0x1122_3344_5566_7788 && packet.kiss == nil)
    #expect(packet.transmit.since(packet.receive) < .milliseconds(1))
    #expect(packet.encoded == bytes)
    #expect(NTPPacket(decoding: bytes + [1, 2, 3, 4]) == packet, "a MAC or an extension is passed over")
  }

  @Test("what is too short or too long is none")
  func length() {
    let bytes = NTPPacket.question(7).encoded
    #expect(bytes.count == 48)
    for count in 0..<48 { #expect(NTPPacket(decoding: Array(bytes.prefix(count))) == nil) }
    #expect(NTPPacket(decoding: bytes + [UInt8](repeating: 0, count: 2000)) == nil)
  }

  @Test("a question says nothing but its number")
  func question() {
    let bytes = NTPPacket.question(0x0102_0304_0506_0708).encoded
    #expect(bytes == [0x23] + [UInt8](repeating: 0, count: 39) + [1, 2, 3, 4, 5, 6, 7, 8])
  }

  @Test("a kiss of death has a word of four letters, or none")
  func kiss() {
    var packet = NTPPacket(.server)
    packet.referenceID = 0x5241_5445
    #expect(packet.kiss == "RATE")
    packet.referenceID = 0
    #expect(packet.kiss == nil, "stratum 0 is also said by who has no time")
    (packet.referenceID, packet.stratum) = (0x5241_5445, 1)
    #expect(packet.kiss == nil)
  }
}
