/// One of the streams that a ``MovingTransport`` stands on: what is sent and comes there, in records as long as there may
/// be words between the bytes.
final class MovingLeg: TransportOwner {
  let stream: Transport
  /// The peer has ended its side of the stream.
  private(set) var inputHasEnded = false
  /// The stream is gone.
  private(set) var end: EndReason?

  private let transport: MovingTransport
  private var records = MoveRecordReader()
  private var sendsBare = false
  private var isReading = false

  init(_ stream: Transport, of transport: MovingTransport) {
    self.stream = stream
    self.transport = transport
  }

  // MARK: Out

  /// A failure comes again as the stream's end.
  func say(_ record: MoveRecord) {
    _ = stream.send(FrameHeader(record), Self.nothing, to: nil, corked: false)
    sendsBare = sendsBare || record.kind == .bare
  }

  func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, corked: Bool) -> NetError? {
    if sendsBare { return stream.send(header, body, to: nil, corked: corked) }
    let total = header.total &+ body.count
    if total <= Self.longestRecord {
      guard total > 0 else { return nil }
      return stream.send(FrameHeader(MoveRecord(.data, UInt32(total))), Self.nothing, to: nil, corked: true)
        ?? stream.send(header, body, to: nil, corked: corked)
    }
    var (head, tail) = (header, FrameHeader.none)
    head.newline = false
    tail.newline = header.newline
    if let error = send(head, Self.nothing, corked: true) { return error }
    var rest = body
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.longestRecord))
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
      if let error = send(.none, piece, corked: true) { return error }
    }
    if let error = send(tail, Self.nothing, corked: true) { return error }
    if !corked { stream.uncork() }
    return nil
  }

  // MARK: In

  func read(_ on: Bool) {
    guard on != isReading else { return }
    isReading = on
    stream.setReading(on)
  }

  /// The next word or bytes in what came (``MoveRecordReader/next(_:_:)``).
  func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> MoveRecordReader.Step? {
    records.next(bytes, &position)
  }

  var isBetweenRecords: Bool { records.isBetweenRecords }
  /// The peer has said its last word.
  var hearsBare: Bool { records.isBare }

  func received(stream bytes: UnsafeRawBufferPointer) { transport.received(bytes, on: self) }

  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}

  func inputEnded(_ reason: EndReason) {
    inputHasEnded = true
    transport.ended(self)
  }

  func drained() { transport.drained() }

  func transportEnded(_ reason: EndReason) {
    end = reason
    transport.ended(self)
  }

  private static let longestRecord = Int(MoveRecord.longest)
  private static var nothing: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}

extension FrameHeader {
  /// A record's word as what goes in front of its body.
  fileprivate init(_ record: MoveRecord) {
    word = record.word.bigEndian
    count = 4
  }
}
