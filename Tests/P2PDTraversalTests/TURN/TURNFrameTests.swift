import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Frames and attributes of TURN")
struct TURNFrameTests {
  private func frames(_ stream: [UInt8]) throws -> (read: [String], left: Int) {
    var rest = stream[...]
    var read: [String] = []
    while let (frame, length) = try TURNFrame.next(in: rest) {
      switch frame {
      case .message(let message): read.append("\(message.method.rawValue)")
      case .channelData(let channel, let data): read.append("\(String(channel, radix: 16)):\(Array(data))")
      }
      rest = rest.dropFirst(length)
    }
    return (read, rest.count)
  }

  @Test("a stream of channel data and messages comes apart as it was put together, at every cut")
  func stream() throws {
    let message = try STUNMessage(.indication, .data, attributes: [.data([9])]).encoded()
    let stream =
      (TURNFrame.channelData(0x4000, [1, 2, 3], padded: true) ?? [])
      + message + (TURNFrame.channelData(0x4fff, [], padded: true) ?? [])
      + (TURNFrame.channelData(0x4001, [1, 2, 3, 4], padded: true) ?? [])
    #expect(stream.count == 8 + message.count + 4 + 8)
    let (read, left) = try frames(stream)
    #expect(read == ["4000:[1, 2, 3]", "7", "4fff:[]", "4001:[1, 2, 3, 4]"])
    #expect(left == 0)
    for cut in 0..<stream.count { #expect(try frames(Array(stream[..<cut])).read.count < 4) }
  }

  @Test("what is neither has no place in a stream, and channel data none in plain STUN")
  func garbage() {
    #expect(throws: STUNError.notSTUN) { try TURNFrame.next(in: [0x80, 0, 0, 0]) }
    #expect(throws: STUNError.notSTUN) { try TURNFrame.next(in: [0x40, 0, 0, 0], channels: false) }
    #expect(throws: Never.self) { try TURNFrame.next(in: []) }
    // A length that never comes only waits.
    #expect((try? TURNFrame.next(in: [0x40, 0, 0xff, 0xff, 1]))?.length == nil)
  }

  @Test("a datagram may be padded or not, and must not be short")
  func datagram() throws {
    for padded in [false, true] {
      let bytes = try #require(TURNFrame.channelData(0x4000, [7], padded: padded))
      guard case .channelData(0x4000, let data)? = TURNFrame(datagram: bytes[...]) else {
        Issue.record("no channel data")
        return
      }
      #expect(Array(data) == [7])
    }
    #expect(TURNFrame(datagram: [0x40, 0, 0, 2, 1]) == nil)
    #expect(TURNFrame(datagram: [0xff, 0, 0, 0]) == nil)
    #expect(TURNFrame(datagram: []) == nil)
    #expect(TURNFrame.channelData(0x4000, [UInt8](repeating: 0, count: 65_536), padded: false) == nil)
  }

  @Test("every attribute and method of RFC 8656 and RFC 6062 has its number and comes back as it was")
  func attributes() throws {
    let peer = ep("192.0.2.1:4000")
    let numbers: [(STUNAttribute, UInt16)] = [
      (.channelNumber(0x4001), 0x000c), (.lifetime(600), 0x000d), (.xorPeerAddress(peer), 0x0012),
      (.data([1, 2, 3]), 0x0013), (.xorRelayedAddress(ep("[2001:db8::1]:9")), 0x0016),
      (.requestedAddressFamily(.v6), 0x0017), (.evenPort(reserve: true), 0x0018), (.requestedTransport(6), 0x0019),
      (.dontFragment, 0x001a), (.reservationToken([1, 2, 3, 4, 5, 6, 7, 8]), 0x0022), (.connectionID(77), 0x002a),
      (.additionalAddressFamily(.v6), 0x8000), (.addressErrorCode(.v6, 440, "no"), 0x8001),
      (.icmp(type: 3, code: 1, data: 5), 0x8004),
    ]
    let methods: [(STUNMethod, UInt16)] = [
      (.allocate, 3), (.refresh, 4), (.send, 6), (.data, 7), (.createPermission, 8), (.channelBind, 9), (.connect, 10),
      (.connectionBind, 11), (.connectionAttempt, 12),
    ]
    for (attribute, number) in numbers { #expect(attribute.type == number) }
    for (method, number) in methods {
      #expect(method.rawValue == number)
      let message = STUNMessage(.request, method, attributes: numbers.map(\.0))
      #expect(try STUNMessage(decoding: message.encoded()) == message)
    }
    // On the wire the class stands among the bits of the method (RFC 8489 §5).
    #expect(try STUNMessage(.indication, .connectionAttempt).encoded().prefix(2) == [0x00, 0x1c])
  }
}
