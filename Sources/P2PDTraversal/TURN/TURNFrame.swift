import P2PDNet

/// What a TURN server and its client send each other on one stream or in one datagram: a message, or the bytes of a channel
/// (RFC 8656 §12.5).
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---+---------------------------+-------------------------------+
///     |0 1|       channel number      |        length of the data     |
///     +---+---------------------------+-------------------------------+
///     |   the data; on a stream with zeros up to a multiple of four   |
///     +---------------------------------------------------------------+
public enum TURNFrame: Sendable {
  case message(STUNMessage)
  case channelData(UInt16, ArraySlice<UInt8>)

  /// The first whole frame of a stream, and the bytes it takes there; nil until all of it has come.
  /// - Parameter channels: false where channels are none of the protocol (plain STUN).
  /// - Throws: ``STUNError``: from here on the stream makes no sense.
  public static func next(
    in stream: ArraySlice<UInt8>, channels: Bool = true
  ) throws(STUNError) -> (frame: TURNFrame, length: Int)? {
    if channels, let first = stream.first, first & 0xc0 == 0x40 {
      guard let (channel, size) = channelHeader(stream) else { return nil }
      let length = headerSize + (size + 3) / 4 * 4
      guard stream.count >= length else { return nil }
      return (.channelData(channel, stream.dropFirst(headerSize).prefix(size)), length)
    }
    guard let length = try STUNMessage.length(of: stream), stream.count >= length else { return nil }
    return (.message(try STUNMessage(decoding: [UInt8](stream.prefix(length)))), length)
  }

  /// A datagram; nil for one that is neither. Zeros behind the data are allowed (§12.5).
  public init?(datagram: ArraySlice<UInt8>) {
    guard let first = datagram.first else { return nil }
    if first & 0xc0 == 0x40 {
      guard let (channel, size) = Self.channelHeader(datagram), datagram.count - Self.headerSize >= size else {
        return nil
      }
      self = .channelData(channel, datagram.dropFirst(Self.headerSize).prefix(size))
    } else {
      guard let message = try? STUNMessage(decoding: [UInt8](datagram)) else { return nil }
      self = .message(message)
    }
  }

  /// A channel's bytes as they are sent; nil for more than 65535 of them.
  /// - Parameter padded: on a stream.
  public static func channelData(
    _ channel: UInt16, _ data: some Collection<UInt8>, padded: Bool
  ) -> [UInt8]? {
    guard let size = UInt16(exactly: data.count) else { return nil }
    var out: [UInt8] = []
    out.reserveCapacity(headerSize + data.count + 3)
    out.append(uint16: channel)
    out.append(uint16: size)
    out += data
    if padded { out += repeatElement(0, count: (4 - data.count % 4) % 4) }
    return out
  }

  private static func channelHeader(_ bytes: ArraySlice<UInt8>) -> (channel: UInt16, size: Int)? {
    var reader = ByteReader(bytes)
    guard let channel = reader.uint16(), let size = reader.uint16() else { return nil }
    return (channel, Int(size))
  }

  private static let headerSize = 4
  /// RFC 8656 §12: the numbers a client may bind.
  public static let channels: ClosedRange<UInt16> = 0x4000...0x4fff
}
