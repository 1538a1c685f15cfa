@testable import P2PDNet

/// The stream decoder: whatever a peer sends, and however the network cuts it up, the same messages come out.
///
/// Input: framing (1 byte), limit (2), how it is cut (1), the stream.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFraming(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  guard size >= 4 else { return 0 }
  let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
  let framing = Framing.allCases[Int(input[0]) % Framing.allCases.count]
  let limit = Int(input[1]) << 8 | Int(input[2])
  let stream = [UInt8](input[4...])
  let whole = Reading(stream, framing, limit, cuts: { _ in stream.count })
  let seed = input[3]
  let dripped = Reading(stream, framing, limit, cuts: { seed == 0 ? 1 : 1 + ($0 &* 7 &+ Int(seed)) % (Int(seed) + 1) })
  if framing == .raw {
    precondition(whole.bytes == stream && dripped.bytes == stream, "bytes were lost or made up")
  } else {
    precondition(whole.messages == dripped.messages, "messages depend on how the stream was cut")
    precondition(whole.isTooLong == dripped.isTooLong, "the limit depends on how the stream was cut")
    precondition(whole.messages.allSatisfy { $0.isControl || $0.bytes.count <= limit }, "a message over the limit")
  }
  for message in whole.messages where message.isControl {
    guard let frame = message.bytes.withUnsafeBytes(ControlFrame.init) else { continue }
    let again = frame.bytes.withUnsafeBytes(ControlFrame.init)
    precondition(frame.bytes.count <= ControlFrame.longest || frame == again, "a control frame changes on its way")
  }
  return 0
}

private struct Message: Equatable {
  let isControl: Bool
  let bytes: [UInt8]
}

/// Feeds a stream to a decoder in pieces, as a pipe does.
private struct Reading {
  var messages: [Message] = []
  var isTooLong = false

  var bytes: [UInt8] { messages.flatMap(\.bytes) }

  init(_ stream: [UInt8], _ framing: Framing, _ limit: Int, cuts: (Int) -> Int) {
    var decoder = FrameDecoder(framing, limit: limit)
    var pending: [UInt8] = []
    var offset = 0
    while offset < stream.count, !isTooLong {
      let end = min(stream.count, offset + max(1, cuts(offset)))
      pending += stream[offset..<end]
      offset = end
      take(from: &pending, &decoder)
    }
  }

  private mutating func take(from pending: inout [UInt8], _ decoder: inout FrameDecoder) {
    while true {
      switch pending.withUnsafeBytes({ decoder.next($0) }) {
      case .message(let start, let end, let next): keep(start, end, next, false, &pending)
      case .control(let start, let end, let next): keep(start, end, next, true, &pending)
      case .incomplete: return
      case .tooLong:
        isTooLong = true
        return
      }
    }
  }

  private mutating func keep(_ start: Int, _ end: Int, _ next: Int, _ isControl: Bool, _ pending: inout [UInt8]) {
    precondition(0 <= start && start <= end && end <= next, "a message that ends before it begins")
    precondition(0 < next && next <= pending.count, "a message outside its bytes")
    messages.append(Message(isControl: isControl, bytes: [UInt8](pending[start..<end])))
    pending.removeFirst(next)
  }
}
