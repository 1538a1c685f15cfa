import P2PDNet

/// What waits to be written to one client of the control socket, and what is left out while the client reads too
/// slowly: answers are kept, events are dropped and counted. It knows no descriptor.
struct ControlOutput: Sendable {
  /// Bytes not written yet.
  var waiting: ArraySlice<UInt8> { bytes[start...] }
  var isEmpty: Bool { start == bytes.count }

  private var bytes: [UInt8] = []
  private var start = 0
  /// How many events of a request were left out since the client last heard of it.
  private var dropped: [Int: Int] = [:]
  private let eventLimit: Int
  private let answerLimit: Int

  init(
    eventLimit: Int = ControlProtocol.mostQueuedEvents, answerLimit: Int = ControlProtocol.mostQueuedAnswers
  ) {
    self.eventLimit = eventLimit
    self.answerLimit = answerLimit
  }

  private var count: Int { bytes.count - start }

  /// Queues an event of a request. False: it was left out.
  @discardableResult
  mutating func add(event: @autoclosure () -> JSONText, of request: Int) -> Bool {
    guard count < eventLimit, dropped[request] == nil else {
      dropped[request, default: 0] += 1
      return false
    }
    append(event())
    return true
  }

  /// Queues an answer, after the word about events of its request that were left out. False: the client is not
  /// reading at all, and should be cut off.
  mutating func add(answer: JSONText, to request: Int?) -> Bool {
    if let request { confess(request) }
    append(answer)
    return count <= answerLimit
  }

  /// That many bytes are written. Where there is room again the client is told what it missed.
  mutating func wrote(_ written: Int) {
    start = min(bytes.count, start + max(0, written))
    if start == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= Self.keptCapacity)
      start = 0
    } else if start > Self.keptCapacity {
      bytes.removeFirst(start)
      start = 0
    }
    guard !dropped.isEmpty, count < eventLimit / 2 else { return }
    for request in dropped.keys.sorted() { confess(request) }
  }

  private mutating func confess(_ request: Int) {
    guard let count = dropped.removeValue(forKey: request) else { return }
    append(ControlProtocol.event(request, "dropped", [("count", .int(count))]))
  }

  private mutating func append(_ line: JSONText) {
    bytes.append(contentsOf: line.text.utf8)
    bytes.append(0x0a)
  }

  private static let keptCapacity = 64 << 10
}

/// Cuts what a client sends into lines, each of a bounded length.
struct ControlInput: Sendable {
  private var rest: [UInt8] = []
  private var scanned = 0
  private let limit: Int

  init(limit: Int = ControlProtocol.longestLine) { self.limit = limit }

  /// Takes bytes as they came.
  mutating func add(_ bytes: some Sequence<UInt8>) { rest.append(contentsOf: bytes) }

  enum Next: Equatable, Sendable {
    case line([UInt8])
    case incomplete
    /// The line is longer than a line may be; what follows it cannot be told any more.
    case tooLong
  }

  /// The next whole line, without its end (LF, or CR LF).
  mutating func next() -> Next {
    guard let end = rest[scanned...].firstIndex(of: 0x0a) else {
      scanned = rest.count
      return rest.count > limit ? .tooLong : .incomplete
    }
    guard end <= limit else { return .tooLong }
    let line = rest[..<end]
    let result = Array(line.last == 0x0d ? line.dropLast() : line)
    rest.removeFirst(end + 1)
    scanned = 0
    return .line(result)
  }
}
