import Testing

@testable import P2PDSignaling

@Suite struct MQTTCodecTests {
  private static let packets: [MQTTPacket] = [
    .connect(MQTTConnect(clientID: "p2pd1", keepAlive: 75)),
    .connect(MQTTConnect(clientID: "", cleanSession: false, keepAlive: 0, user: "ü", password: [0, 255])),
    .connack(sessionPresent: true, code: 0), .connack(sessionPresent: false, code: 5),
    .publish(MQTTPublish(topic: "a/b", payload: [1, 2, 3])),
    .publish(MQTTPublish(topic: "a", payload: [], qos: 1, id: 0xffff, isDuplicate: true, isRetained: true)),
    .puback(id: 1), .subscribe(id: 2, filters: [MQTTFilter(topic: "a/#", qos: 1), MQTTFilter(topic: "b", qos: 0)]),
    .suback(id: 2, codes: [1, 0x80]), .unsubscribe(id: 3, filters: ["a", "b"]), .unsuback(id: 3), .pingreq, .pingresp,
    .disconnect,
  ]

  private func decode(_ bytes: [UInt8]) throws -> MQTTPacket? {
    guard let (first, length, size) = try MQTTCodec.header(bytes[...]), bytes.count == size + length else { return nil }
    return try MQTTCodec.decode(first, bytes[size...])
  }

  @Test("every packet reads back", arguments: packets)
  func roundTrip(_ packet: MQTTPacket) throws {
    #expect(try decode(MQTTCodec.encode(packet)) == packet)
  }

  @Test("the bytes are those of the standard")
  func bytes() {
    // §3.1.2: protocol name and level, clean session, keep-alive 10 s.
    #expect(
      MQTTCodec.encode(.connect(MQTTConnect(clientID: "ab", keepAlive: 10)))
        == [0x10, 14, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 10, 0, 2, 0x61, 0x62])
    #expect(
      MQTTCodec.encode(.subscribe(id: 10, filters: [MQTTFilter(topic: "a/b", qos: 1)]))
        == [0x82, 8, 0, 10, 0, 3, 0x61, 0x2f, 0x62, 1])
    #expect(
      MQTTCodec.encode(.publish(MQTTPublish(topic: "a/b", payload: [9], qos: 1, id: 10)))
        == [0x32, 8, 0, 3, 0x61, 0x2f, 0x62, 0, 10, 9])
    #expect(MQTTCodec.encode(.pingreq) == [0xc0, 0] && MQTTCodec.encode(.disconnect) == [0xe0, 0])
  }

  @Test("lengths of one to four bytes (§2.2.3)", arguments: [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
  func lengths(_ count: Int) throws {
    let bytes = MQTTCodec.encode(.publish(MQTTPublish(topic: "t", payload: [UInt8](repeating: 1, count: count))))
    let header = try #require(try MQTTCodec.header(bytes[...]))
    #expect(header.length == count + 3 && header.size + header.length == bytes.count)
    #expect(try MQTTCodec.header(bytes.prefix(header.size - 1)) == nil)
  }

  @Test(
    "what the standard forbids is an error",
    arguments: [
      [0xff, 0], [0x00, 0], [0x50, 2, 0, 1], [0x62, 2, 0, 1],  // types 15 and 0, and those of quality 2
      [0x21, 2, 0, 0], [0x80, 5, 0, 1, 0, 0, 0], [0xd1, 0],  // flags
      [0x20, 1, 0], [0x20, 3, 0, 0, 0], [0x20, 2, 2, 0],  // CONNACK
      [0x36, 5, 0, 1, 0x61, 0, 1], [0x38, 3, 0, 1, 0x61],  // PUBLISH of quality 3; a duplicate of quality 0
      [0x30, 2, 0, 0], [0x30, 3, 0, 1, 0x2b], [0x30, 3, 0, 1, 0], [0x30, 4, 0, 2, 0xc3, 0x28], [0x30, 3, 0, 9, 0x61],
      [0x32, 5, 0, 1, 0x61, 0, 0], [0x32, 3, 0, 1, 0x61],  // identifiers
      [0x40, 2, 0, 0], [0x40, 1, 1], [0x90, 2, 0, 1], [0x90, 3, 0, 1, 3], [0x82, 2, 0, 1], [0xd0, 1, 0],
      [0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 1, 0, 0, 0, 0],
      [0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 5, 2, 0, 0, 0, 0],
    ] as [[UInt8]])
  func malformed(_ bytes: [UInt8]) {
    #expect(throws: MQTTError.self) { try decode(bytes) }
  }

  @Test("a length of five bytes is an error, not a wait")
  func fiveBytes() {
    #expect(throws: MQTTError.length) { try MQTTCodec.header([0x30, 0x80, 0x80, 0x80, 0x80, 1]) }
  }

  @Test("the stream's pieces do not matter", arguments: [1, 2, 3, 7, 1000])
  func pieces(_ step: Int) throws {
    var reader = MQTTReader(limit: 1000)
    var got: [MQTTPacket] = []
    let stream = Self.packets.flatMap { MQTTCodec.encode($0) }
    for start in stride(from: 0, to: stream.count, by: step) {
      try Array(stream[start..<min(stream.count, start + step)]).withUnsafeBytes { piece in
        try reader.feed(piece) { packet, _ in got.append(packet) }
      }
    }
    #expect(got == Self.packets)
  }

  @Test("a message over the limit is passed over without being kept, in pieces too", arguments: [1, 100, 100_000])
  func tooLong(_ step: Int) throws {
    var reader = MQTTReader(limit: 64)
    var got: [MQTTPacket] = []
    let long = MQTTCodec.encode(.publish(MQTTPublish(topic: "t", payload: [UInt8](repeating: 7, count: 5000))))
    let stream = long + MQTTCodec.encode(.pingresp) + long + MQTTCodec.encode(.puback(id: 4))
    for start in stride(from: 0, to: stream.count, by: step) {
      try Array(stream[start..<min(stream.count, start + step)]).withUnsafeBytes { piece in
        try reader.feed(piece) { packet, _ in got.append(packet) }
      }
    }
    #expect(got == [.pingresp, .puback(id: 4)] && reader.skipped == 2)
    #expect(throws: MQTTError.tooLong(65)) {
      try ([0x82, 65] as [UInt8]).withUnsafeBytes { try reader.feed($0) { _, _ in } }
    }
  }
}
