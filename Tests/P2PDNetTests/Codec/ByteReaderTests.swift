import Testing

@testable import P2PDNet

struct ByteReaderTests {
  @Test func numbersInNetworkOrder() {
    var reader = ByteReader(Array(1...18))
    let (first, two, three, four) = (reader.byte(), reader.uint16(), reader.uint24(), reader.uint32())
    #expect(first == 1)
    #expect(two == 0x0203)
    #expect(three == 0x040506)
    #expect(four == 0x0708_090a)
    #expect((reader.offset, reader.remaining) == (10, 8))
    let eight = reader.uint64()
    #expect(eight == 0x0b0c_0d0e_0f10_1112)
    #expect(reader.isAtEnd)
  }

  @Test func whatIsNotThereIsNilAndTakesNothing() {
    var reader = ByteReader([0xff, 0xff, 0xff])
    let numbers = (reader.uint32(), reader.uint64())
    #expect(numbers == (nil, nil))
    for count in [4, -1, Int.max, Int.min] {
      let bytes = reader.bytes(count)
      #expect(bytes == nil)
      let skipped = reader.skip(count)
      #expect(!skipped)
    }
    #expect(reader.remaining == 3)
    let skipped = reader.skip(1)
    let (three, two) = (reader.uint24(), reader.uint16())
    #expect(skipped)
    #expect(three == nil)
    #expect(two == 0xffff)
    let (byte, none, rest) = (reader.byte(), reader.bytes(0), reader.rest())
    #expect(byte == nil)
    #expect(none == [])
    #expect(rest.isEmpty)
  }

  /// A slice's indices do not begin at 0.
  @Test func slices() {
    let all: [UInt8] = [9, 9, 1, 2, 3, 9]
    var reader = ByteReader(all[2..<5])
    let first = reader.byte()
    #expect(first == 1)
    #expect(reader.offset == 1)
    let rest = reader.rest()
    #expect(rest == [2, 3])
    #expect(reader.isAtEnd)
    var empty = ByteReader(all[6...])
    #expect(empty.isAtEnd)
    let nothing = empty.byte()
    #expect(nothing == nil)
  }

  @Test func writingIsReading() {
    var bytes: [UInt8] = []
    bytes.append(uint16: 0xfffe)
    bytes.append(uint24: 0xff12_3456)
    bytes.append(uint32: 0x89ab_cdef)
    bytes.append(uint64: 0x0123_4567_89ab_cdef)
    #expect(bytes.count == 17)
    var reader = ByteReader(bytes)
    let (two, three, four, eight) = (reader.uint16(), reader.uint24(), reader.uint32(), reader.uint64())
    #expect(two == 0xfffe)
    #expect(three == 0x12_3456)
    #expect(four == 0x89ab_cdef)
    #expect(eight == 0x0123_4567_89ab_cdef)
  }

  @Test func numbersAreSetWhereThereIsRoom() {
    var bytes: [UInt8] = [0, 0, 0, 0]
    bytes.set(uint16: 0x0102, at: 2)
    #expect(bytes == [0, 0, 1, 2])
    for offset in [-1, 3, 4, Int.max] { bytes.set(uint16: 0xffff, at: offset) }
    #expect(bytes == [0, 0, 1, 2])
  }
}
