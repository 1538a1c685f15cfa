import NIOCore

/// Reads a fixed number of bytes off the front of a TLS stream before it has an owner. What came behind them stays in the
/// stream for whoever owns it next. Confined to its loop.
public final class StreamPreface: TransportOwner {
  private let stream: TLSTransport
  private let count: Int
  private var bytes: [UInt8] = []
  private var done: ((Result<[UInt8], NetError>) -> Void)?

  /// Begins to read.
  /// - Parameter done: called once, on the loop, and not after ``cancel()``: the bytes, or how the stream ended before
  ///   they were all there. The stream is not closed.
  public init(_ count: Int, of stream: TLSTransport, _ done: @escaping (Result<[UInt8], NetError>) -> Void) {
    self.stream = stream
    self.count = count
    self.done = done
    bytes.reserveCapacity(count)
    stream.owner = self
    stream.setReading(true)
  }

  /// Lets go of the stream, which stays as it is.
  public func cancel() {
    guard done != nil else { return }
    done = nil
    stream.owner = nil
  }

  func received(stream read: UnsafeRawBufferPointer) {
    guard done != nil else { return stream.putBack(read) }
    let taken = min(count - bytes.count, read.count)
    bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: read[..<taken]))
    guard bytes.count == count else { return }
    if taken < read.count { stream.putBack(UnsafeRawBufferPointer(rebasing: read[taken...])) }
    finish(.success(bytes))
  }

  func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
  func drained() {}
  func inputEnded(_ reason: EndReason) { finish(.failure(reason.netError("read the first bytes"))) }
  func transportEnded(_ reason: EndReason) { finish(.failure(reason.netError("read the first bytes"))) }

  private func finish(_ result: Result<[UInt8], NetError>) {
    guard let done else { return }
    self.done = nil
    stream.owner = nil
    stream.setReading(false)
    done(result)
  }
}

extension Transport {
  /// Sends bytes of this stream ahead of all that its owner will send. nil: they are on their way.
  public func sendPreface(_ bytes: [UInt8]) -> NetError? {
    bytes.withUnsafeBytes { send(.none, $0, to: nil, corked: false) }
  }
}
