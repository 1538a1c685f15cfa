import Testing

@testable import P2PDNet

struct ByteReaderTests {
  @Test func numbersInNetworkOrder() {
    var reader = ByteReader([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
    #expect(reader.byte() == 1)
    #expect(reader.uint16() == 0x0203)
    #expect(reader.uint24() == 0x040506)
    #expect(reader.uint32() == 0x0708_090a)
    #expect((reader.offset, reader.remaining) == (10, 8))
    #expect(reader.uint64() == 0x0b0c_0d0e_0f10_1112)
    #expect(reader.isAtEnd)
  }

  @Test func whatIsNotThereIsNilAndTakesNothing() {
    var reader = ByteReader([0xff, 0xff, 0xff])
    #expect(reader.uint32() == nil)
    #expect(reader.uint64() == nil)
    #expect(reader.bytes(4) == nil)
    #expect(reader.bytes(-1) == nil)
    #expect(reader.bytes(.max) == nil)
    #expect(!reader.skip(4))
    #expect(!reader.skip(-1))
    #expect(reader.remaining == 3)
    #expect(reader.skip(1))
    #expect(reader.uint24() == nil)
    #expect(reader.uint16() == 0xffff)
    #expect(reader.byte() == nil)
    #expect(reader.uint16() == nil)
    #expect(reader.bytes(0)?.isEmpty == true)
    #expect(reader.rest().isEmpty)
  }

  /// A slice's indices do not begin at 0.
  @Test func slices() {
    let all: [UInt8] = [9, 9, 1, 2, 3, 9]
    var reader = ByteReader(all[2..<5])
    #expect(reader.byte() == 1)
    #expect(reader.offset == 1)
    #expect(Array(reader.rest()) == [2, 3])
    #expect(reader.isAtEnd)
    var empty = ByteReader(all[6...])
    #expect(empty.isAtEnd)
    #expect(empty.byte() == nil)
  }

  @Test func writingIsReading() {
    var bytes: [UInt8] = []
    bytes.append(uint16: 0xfffe)
    bytes.append(uint24: 0xff12_3456)
    bytes.append(uint32: 0x89ab_cdef)
    bytes.append(uint64: 0x0123_4567_89ab_cdef)
    #expect(bytes.count == 17)
    var reader = ByteReader(bytes)
    #expect(reader.uint16() == 0xfffe)
    #expect(reader.uint24() == 0x12_3456)
    #expect(reader.uint32() == 0x89ab_cdef)
    #expect(reader.uint64() == 0x0123_4567_89ab_cdef)
  }

  @Test func numbersAreSetWhereThereIsRoom() {
    var bytes: [UInt8] = [0, 0, 0, 0]
    bytes.set(uint16: 0x0102, at: 2)
    #expect(bytes == [0, 0, 1, 2])
    for offset in [-1, 3, 4, Int.max] { bytes.set(uint16: 0xffff, at: offset) }
    #expect(bytes == [0, 0, 1, 2])
  }
}
