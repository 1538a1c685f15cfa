import NIOCore

/// A queue of the messages of a pipe that match a test and a sender. Made by ``Pipe/subscribe(matching:from:)``.
/// Confined to the pipe's loop.
public final class Subscription: @unchecked Sendable {
  let matches: ((UnsafeRawBufferPointer) -> Bool)?
  let host: String?
  let port: Int
  var queue = MessageQueue()
  var waiters = CircularBuffer<ReceiveTicket>()
  /// What a layer above keeps with it.
  public var face: AnyObject?

  init(matches: ((UnsafeRawBufferPointer) -> Bool)?, host: String?, port: Int) {
    self.matches = matches
    self.host = host
    self.port = port
  }

  /// Port 0 stands for any port of the host, as in P2PD.
  func wants(_ bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    if let host, host != peer.host || (port != 0 && port != peer.port) { return false }
    return matches?(bytes) ?? true
  }
}

/// Messages in the order they came, with the bytes they hold.
struct MessageQueue {
  private(set) var bytes = 0
  private var items = CircularBuffer<Message>()

  var count: Int { items.count }
  var isEmpty: Bool { items.isEmpty }

  mutating func append(_ message: Message) {
    bytes += message.bytes.readableBytes
    items.append(message)
  }

  mutating func popFirst() -> Message? {
    guard let first = items.popFirst() else { return nil }
    bytes -= first.bytes.readableBytes
    if items.isEmpty, items.capacity > 16 { items = CircularBuffer() }
    return first
  }

  mutating func putBack(_ message: Message) {
    bytes += message.bytes.readableBytes
    items.prepend(message)
  }

  mutating func removeAll() {
    items = CircularBuffer()
    bytes = 0
  }
}

/// One waiting `receive`: it is answered once, with a message, a timeout, the pipe's end, or not at all after ``cancel()``.
public final class ReceiveTicket: @unchecked Sendable {
  private var answer: ((Result<Message, NetError>) -> Void)?
  private var timer: Scheduled<Void>?

  init(_ answer: @escaping (Result<Message, NetError>) -> Void) { self.answer = answer }

  var isWaiting: Bool { answer != nil }

  func expire(after time: TimeAmount, on loop: any EventLoop, _ error: @escaping @Sendable () -> NetError) {
    timer = loop.assumeIsolated().scheduleTask(in: time) { self.finish(.failure(error())) }
  }

  func finish(_ result: Result<Message, NetError>) {
    guard let answer else { return }
    cancel()
    answer(result)
  }

  /// Gives up waiting; the answer will not be called.
  public func cancel() {
    answer = nil
    timer?.cancel()
    timer = nil
  }
}

/// Drops what came before: remembers the hash of the last messages of every sender (P2PD's `enable_msg_ids`).
struct DuplicateFilter {
  private let size: Int
  private var known: Set<Int> = []
  private var order = CircularBuffer<Int>()

  init(size: Int) { self.size = max(1, size) }

  mutating func isNew(_ bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    var hasher = Hasher()
    hasher.combine(bytes: bytes)
    hasher.combine(peer.host)
    hasher.combine(peer.port)
    let hash = hasher.finalize()
    guard known.insert(hash).inserted else { return false }
    order.append(hash)
    if order.count > size, let oldest = order.popFirst() { known.remove(oldest) }
    return true
  }
}
