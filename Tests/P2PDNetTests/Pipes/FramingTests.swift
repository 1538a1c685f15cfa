import NIOCore
import Testing

@testable import P2PDNet

@Suite struct FramingTests {
  /// Decodes a stream given in pieces, keeping the rest as a pipe does.
  private func decode(_ pieces: [[UInt8]], _ framing: Framing, limit: Int = 1 << 20) -> (
    messages: [[UInt8]], failed: Int?
  ) {
    var decoder = FrameDecoder(framing, limit: limit)
    var kept: [UInt8] = []
    var found: [[UInt8]] = []
    for piece in pieces {
      kept += piece
      while true {
        let step = kept.withUnsafeBytes { decoder.next($0) }
        switch step {
        case .message(let start, let end, let next), .control(let start, let end, let next):
          found.append(Array(kept[start..<end]))
          kept.removeFirst(next)
          continue
        case .incomplete: break
        case .tooLong(let count): return (found, count)
        }
        break
      }
    }
    return (found, nil)
  }

  private static let streams: [(Framing, [UInt8], [[UInt8]])] = [
    (.line, Array("one\ntwo\r\n\nfour\n".utf8), [Array("one".utf8), Array("two".utf8), [], Array("four".utf8)]),
    (.u16, [0, 2, 65, 66, 0, 0, 0, 1, 67], [[65, 66], [], [67]]),
    (.u32, [0, 0, 0, 2, 65, 66, 0, 0, 0, 0, 0, 0, 0, 1, 67], [[65, 66], [], [67]]),
    (.message, [0, 0, 0, 1, 65, 0x80, 0, 0, 1, 1, 0, 0, 0, 1, 66], [[65], [1], [66]]),
  ]

  @Test("whole, split at every place and dripped, a stream gives the same messages", arguments: streams)
  func pieces(framing: Framing, stream: [UInt8], expected: [[UInt8]]) {
    #expect(decode([stream], framing).messages == expected)
    #expect(decode(stream.map { [$0] }, framing).messages == expected)
    for cut in 0...stream.count {
      #expect(decode([Array(stream[..<cut]), Array(stream[cut...])], framing).messages == expected)
    }
  }

  @Test("a length over the limit is refused as soon as it is read")
  func limits() {
    #expect(decode([[0xff, 0xff, 0xff, 0xff]], .u32).failed == 0xffff_ffff)
    #expect(decode([[0x7f, 0xff, 0xff, 0xff]], .message).failed == 0x7fff_ffff)
    #expect(decode([[0xff, 0xff, 0xff, 0xff]], .message).failed == 0x7fff_ffff)
    #expect(decode([[0, 11]], .u16, limit: 10).failed == 11)
    #expect(decode([Array(repeating: 65, count: 12)], .line, limit: 10).failed == 12)
    #expect(decode([Array(repeating: 65, count: 10) + [13], [10]], .line, limit: 10).messages.first?.count == 10)
  }

  @Test("control frames read what they write and skip what they do not know")
  func control() {
    for frame in [ControlFrame.ping, .pong, .endOfOutput, .goodbye("limit: too many")] {
      #expect(frame.bytes.withUnsafeBytes { ControlFrame($0) } == frame)
    }
    #expect([9, 1].withUnsafeBytes { ControlFrame(UnsafeRawBufferPointer(rebasing: $0[0..<1])) } == nil)
    #expect(ControlFrame(UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
  }

  @Test("random bytes never trap")
  func noise() {
    var generator = SystemRandomNumberGenerator()
    for framing in Framing.allCases {
      for _ in 0..<2000 {
        let bytes = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
          UInt8.random(in: 0...255, using: &generator)
        }
        _ = decode([bytes], framing, limit: 16)
      }
    }
  }
}
