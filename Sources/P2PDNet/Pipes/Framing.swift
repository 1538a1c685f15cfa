/// How messages keep their boundaries on a stream.
public enum Framing: String, Sendable, CaseIterable {
  /// None: pieces of the stream as they arrive.
  case raw
  /// One line each; `\n` or `\r\n` ends it and is not part of the message.
  case line
  /// A 16-bit length, big end first, then the message.
  case u16
  /// A 32-bit length, big end first, then the message.
  case u32
  /// Between nodes: like `u32` with the top bit of the length set for control frames (``ControlFrame``).
  case message

  /// The longest message the length field can announce.
  var ceiling: Int {
    switch self {
    case .u16: 0xffff
    case .message: 0x7fff_ffff
    case .raw, .line, .u32: 0xffff_ffff
    }
  }
}

/// What may stand in a control frame of ``Framing/message``: one type byte, then its content.
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +-+-------------------------------------------------------------+
///     |1|                   length of what follows                    |
///     +-+-------------+-----------------------------------------------+
///     |     type      |  goodbye: UTF-8 reason, at most 1024 bytes    |
///     +---------------+-----------------------------------------------+
public enum ControlFrame: Equatable {
  case ping
  case pong
  /// The sender sends no more messages, but still reads: half-close.
  case endOfOutput
  /// The sender ends the pipe and says why.
  case goodbye(String)

  static let longest = 1025

  /// nil for types this version does not know, which are skipped, and for empty frames.
  init?(_ body: UnsafeRawBufferPointer) {
    switch body.first {
    case 1: self = .ping
    case 2: self = .pong
    case 3: self = .endOfOutput
    case 4: self = .goodbye(String(decoding: body.dropFirst(), as: UTF8.self))
    default: return nil
    }
  }

  var bytes: [UInt8] {
    switch self {
    case .ping: [1]
    case .pong: [2]
    case .endOfOutput: [3]
    case .goodbye(let reason): [4] + Array(reason.utf8.prefix(Self.longest - 1))
    }
  }
}

/// Finds the next message in the bytes at hand. Pure: the caller owns the bytes and decides what to keep.
public struct FrameDecoder: Sendable {
  public enum Step: Equatable {
    /// A message at `start ..< end`; the next one begins at `next`.
    case message(start: Int, end: Int, next: Int)
    case control(start: Int, end: Int, next: Int)
    /// More bytes are needed.
    case incomplete
    /// The peer announced or sent more than the limit.
    case tooLong(Int)
  }

  let framing: Framing
  let limit: Int
  /// Bytes of an unfinished line already searched, so that a dripped line costs one pass.
  private var searched = 0

  public init(_ framing: Framing, limit: Int) {
    self.framing = framing
    self.limit = limit
  }

  /// `bytes` begin where the last message ended; an incomplete rest must come again at the start of the next call.
  public mutating func next(_ bytes: UnsafeRawBufferPointer) -> Step {
    switch framing {
    case .raw:
      return bytes.isEmpty ? .incomplete : .message(start: 0, end: bytes.count, next: bytes.count)
    case .line:
      return line(bytes)
    case .u16:
      guard bytes.count >= 2 else { return .incomplete }
      return body(bytes, header: 2, length: Int(UInt16(bigEndian: bytes.loadUnaligned(as: UInt16.self))))
    case .u32:
      guard bytes.count >= 4 else { return .incomplete }
      return body(bytes, header: 4, length: Int(UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))))
    case .message:
      guard bytes.count >= 4 else { return .incomplete }
      let word = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
      let length = Int(word & 0x7fff_ffff)
      guard word >> 31 == 1 else { return body(bytes, header: 4, length: length) }
      guard length <= ControlFrame.longest else { return .tooLong(length) }
      guard bytes.count - 4 >= length else { return .incomplete }
      return .control(start: 4, end: 4 + length, next: 4 + length)
    }
  }

  private func body(_ bytes: UnsafeRawBufferPointer, header: Int, length: Int) -> Step {
    guard length <= limit else { return .tooLong(length) }
    guard bytes.count - header >= length else { return .incomplete }
    return .message(start: header, end: header + length, next: header + length)
  }

  private mutating func line(_ bytes: UnsafeRawBufferPointer) -> Step {
    let from = min(searched, bytes.count)
    guard let newline = bytes[from...].firstIndex(of: 0x0a) else {
      guard bytes.count <= limit + 1 else { return .tooLong(bytes.count) }
      searched = bytes.count
      return .incomplete
    }
    searched = 0
    var end = newline
    if end > 0, bytes[end - 1] == 0x0d { end -= 1 }
    guard end <= limit else { return .tooLong(end) }
    return .message(start: 0, end: end, next: newline + 1)
  }
}
