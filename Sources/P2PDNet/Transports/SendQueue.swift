import NIOCore

/// Bytes of a stream that wait for the network, in order. It holds no memory while it is empty.
struct SendQueue {
  private var bytes = ByteBuffer()

  @inline(__always) var count: Int { bytes.readableBytes }
  @inline(__always) var isEmpty: Bool { bytes.readableBytes == 0 }

  /// A message with its header, but for the first bytes of both, which are out already.
  mutating func append(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, skipping: Int) {
    // What is out already must not make the memory grow for ever while more comes than goes.
    if bytes.readerIndex > Self.mostWaste, bytes.readerIndex > bytes.readableBytes { bytes.discardReadBytes() }
    var skip = skipping
    if header.count > 0 {
      let from = min(skip, header.count)
      withUnsafeBytes(of: header.word) {
        _ = bytes.writeBytes(UnsafeRawBufferPointer(rebasing: $0[from..<header.count]))
      }
      skip = max(0, skip &- header.count)
    }
    let from = min(skip, body.count)
    bytes.writeBytes(UnsafeRawBufferPointer(rebasing: body[from...]))
    if header.newline { bytes.writeInteger(UInt8(0x0a)) }
  }

  mutating func removeFirst(_ count: Int) {
    bytes.moveReaderIndex(forwardBy: min(count, bytes.readableBytes))
    if bytes.readableBytes == 0 { bytes = ByteBuffer() }
  }

  mutating func removeAll() { bytes = ByteBuffer() }

  func withBytes<T>(_ body: (UnsafeRawBufferPointer) throws -> T) rethrows -> T {
    try bytes.withUnsafeReadableBytes(body)
  }

  /// Bytes. Below it moving the rest to the front is not worth it.
  private static let mostWaste = 64 << 10
}
