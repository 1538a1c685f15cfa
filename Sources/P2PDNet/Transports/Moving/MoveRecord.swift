/// One word between the two sides of a ``MovingTransport``, four bytes:
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+-----------------------------------------------+
///     |     kind      |  data: length of the bytes that follow        |
///     |               |  ready, end, lost: number of a move           |
///     |               |  have: bytes                                  |
///     +---------------+-----------------------------------------------+
///
/// Only `data` has a body. A kind that this version does not know is passed over.
struct MoveRecord: Equatable, Sendable {
  enum Kind: UInt8, CaseIterable, Sendable {
    // On both paths.
    /// Bytes of the stream.
    case data
    /// The sender's side of the stream ends here.
    case finish

    // On the new path.
    /// The first word there: the sender has its end of the path, and calls it by this number.
    case ready
    /// The path still carries what the sender says.
    case alive
    /// The last word of all: bytes of the stream follow as they are.
    case bare

    // On the old path.
    /// The last bytes here were those before; what follows is on the new path.
    case end
    /// So many more bytes have come on the new path.
    case have
    /// The path that the receiver calls by this number is dead or unknown here: of what it sent there nothing came but
    /// what the sender had said to `have`.
    case lost
    /// The answer to `lost`: the stream goes on here, with the first byte that did not come.
    case back
    /// The new path has proven itself to the sender, who needs the old one no more.
    case leave
  }

  let kind: Kind
  let value: UInt32

  init(_ kind: Kind, _ value: UInt32 = 0) {
    self.kind = kind
    self.value = value & Self.longest
  }

  /// As a number; its bytes go out big end first.
  var word: UInt32 { UInt32(kind.rawValue) << 24 | value }

  /// The largest value: what 24 bits hold.
  static let longest: UInt32 = 0xff_ffff
}

/// Finds the records in a stream that comes in pieces of any size. It keeps no bytes, only where it stands.
struct MoveRecordReader: Sendable {
  enum Step: Equatable {
    /// Bytes of the stream: these of the piece at hand.
    case data(Range<Int>)
    /// Any record but `data`.
    case record(MoveRecord)
  }

  /// The last record was `bare`.
  private(set) var isBare = false
  private var head: UInt32 = 0
  private var headBytes = 0
  /// Bytes of the current `data` that are still to come.
  private var left = 0

  /// The stream may end here.
  var isBetweenRecords: Bool { headBytes == 0 && left == 0 }

  /// The next step in `bytes` from `position` on, which moves behind it; nil when they are used up.
  mutating func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Step? {
    while position >= 0, position < bytes.count {
      if left > 0 || isBare {
        let start = position
        let count = isBare ? bytes.count - start : min(left, bytes.count - start)
        left -= isBare ? 0 : count
        position = start + count
        return .data(start..<position)
      }
      head = head << 8 | UInt32(bytes[position])
      headBytes += 1
      position += 1
      guard headBytes == 4 else { continue }
      headBytes = 0
      let value = head & MoveRecord.longest
      switch MoveRecord.Kind(rawValue: UInt8(truncatingIfNeeded: head >> 24)) {
      case .data: left = Int(value)
      case let kind?:
        isBare = kind == .bare
        return .record(MoveRecord(kind, value))
      case nil: break
      }
    }
    return nil
  }
}
