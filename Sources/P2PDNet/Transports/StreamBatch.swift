import CNet
import Glibc

/// Serves streams that became ready together, some at a time, in three steps: reads from each, hands out what came, sends
/// what was answered.
///
/// Each step is code of its own, and the kernel's alone is more than the processor's nearest cache holds. One stream after
/// the other they would drive each other out of it for every message, which costs a script's small answer more than the
/// script. Only small pieces go this way: whoever moves much at a time is served alone.
///
/// Confined to its loop.
final class StreamBatch {
  private struct Read {
    /// Held by the loop until the events in hand are through, also if it is closed meanwhile.
    let stream: Unmanaged<StreamTransport>
    let start, count: Int
  }

  /// Where the streams read to; the loop's buffer, which nobody else uses between ``take(_:_:)`` and ``handOut()``.
  private let input: UnsafeMutableRawBufferPointer
  private let reads = UnsafeMutablePointer<Read>.allocate(capacity: mostStreams)
  private var readCount = 0
  private var inputEnd = 0

  private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: outputSize, alignment: 64)
  private var outputEnd = 0
  private var senders: ContiguousArray<Unmanaged<StreamTransport>> = []
  /// What is handed out may be answered: small pieces wait for each other.
  private(set) var isOpen = false

  init(reading input: UnsafeMutableRawBufferPointer) {
    self.input = input
    senders.reserveCapacity(Self.mostStreams)
  }

  deinit {
    output.deallocate()
    reads.deallocate()
  }

  // MARK: In

  /// Where the next stream may read to; what is there must be handed out before ``mostStreams`` have read.
  var room: UnsafeMutableRawPointer? { input.baseAddress?.advanced(by: inputEnd) }

  /// A stream has read so many bytes into ``room``.
  func take(_ stream: StreamTransport, _ count: Int) {
    reads[readCount] = Read(stream: .passUnretained(stream), start: inputEnd, count: count)
    readCount &+= 1
    // The next one's bytes begin a line of the processor's cache.
    inputEnd = (inputEnd &+ count &+ 63) & ~63
    if readCount == Self.mostStreams || input.count &- inputEnd < Self.mostBytes { handOut() }
  }

  /// Hands out what was read, then sends what was answered.
  @inline(__always)
  func handOut() {
    if readCount > 0 { handOutAll() }
  }

  private func handOutAll() {
    // Alone there is nobody to wait for.
    isOpen = readCount > 1
    var began = cnet_coarse_time()
    var index = 0
    // Nothing is taken meanwhile.
    while index < readCount {
      let read = reads[index]
      index &+= 1
      let bytes = UnsafeRawBufferPointer(start: input.baseAddress?.advanced(by: read.start), count: read.count)
      read.stream._withUnsafeGuaranteedRef { $0.handOut(bytes) }
      // One that takes its time keeps nobody's answer.
      if !senders.isEmpty, cnet_coarse_time() != began {
        sendAll()
        began = cnet_coarse_time()
      }
    }
    isOpen = false
    readCount = 0
    inputEnd = 0
    if !senders.isEmpty { sendAll() }
  }

  // MARK: Out

  /// Takes a small piece to send it with the others. False: it has to go now, and nothing of the stream waits here.
  func add(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, of stream: StreamTransport) -> Bool {
    let count = header.total &+ body.count
    if output.count &- outputEnd < count { sendAll() }
    // Others came between: what waits goes first, and may leave something in the stream's own queue.
    if stream.piece.count > 0, stream.piece.end != outputEnd, !stream.sendPiece() { return false }
    if stream.piece.count == 0 {
      guard stream.isClear else { return false }
      senders.append(.passUnretained(stream))
      stream.piece.start = outputEnd
    }
    var place = outputEnd
    if header.count > 0 {
      withUnsafeBytes(of: header.word) {
        if let word = $0.baseAddress {
          output.baseAddress?.advanced(by: place).copyMemory(from: word, byteCount: header.count)
        }
      }
      place &+= header.count
    }
    if let base = body.baseAddress {
      output.baseAddress?.advanced(by: place).copyMemory(from: base, byteCount: body.count)
    }
    if header.newline {
      output.baseAddress?.storeBytes(of: 0x0a, toByteOffset: place &+ body.count, as: UInt8.self)
    }
    outputEnd &+= count
    stream.piece.count &+= count
    return true
  }

  /// The bytes of a stream that wait here.
  func bytes(of piece: Piece) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: output.baseAddress?.advanced(by: piece.start), count: piece.count)
  }

  private func sendAll() {
    let wasOpen = isOpen
    isOpen = false
    var index = 0
    while index < senders.count {
      senders[index]._withUnsafeGuaranteedRef { _ = $0.sendPiece() }
      index &+= 1
    }
    senders.removeAll(keepingCapacity: true)
    outputEnd = 0
    isOpen = wasOpen
  }

  /// Where in the batch a stream's unsent bytes are.
  struct Piece {
    var start = 0
    var count = 0
    var end: Int { start &+ count }
  }

  /// Streams served at a time: enough that the steps' beginnings do not count, few enough that no answer waits long.
  private static let mostStreams = 32
  /// Bytes. A stream that has more to read is served alone, and so is one that sends more at a time.
  static let mostBytes = 16 << 10
  private static let outputSize = 128 << 10
}
