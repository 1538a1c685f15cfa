import Dispatch
import Synchronization
import Testing

@testable import p2pd_lua

@Suite struct LogQueueTests {
  /// Takes what is written, once it may.
  private final class Reader: Sendable {
    let gate = DispatchSemaphore(value: 0)
    let entered = DispatchSemaphore(value: 0)
    let text = Mutex("")
    func take(_ more: String) {
      entered.signal()
      gate.wait()
      gate.signal()
      text.withLock { $0 += more }
    }
    var lines: [Substring] { text.withLock { $0 }.split(separator: "\n") }
  }

  @Test("everything is written in order, and the end waits for it")
  func order() {
    let reader = Reader()
    reader.gate.signal()
    let queue = LogQueue { reader.take($0) }
    for number in 0..<1000 { queue.add("line \(number)\n") }
    #expect(queue.flush(within: .seconds(20)))
    #expect(reader.lines == (0..<1000).map { "line \($0)" })
    #expect(queue.flush(within: .seconds(0)), "nothing is left")
  }

  @Test("a reader that does not read holds up nobody; the oldest lines go, and are counted")
  func stuck() throws {
    let reader = Reader()
    let queue = LogQueue(limit: 1000) { reader.take($0) }
    queue.add("line 0\n")
    reader.entered.wait()
    for number in 1..<10_000 { queue.add("line \(number)\n", lost: { "lost \($0)\n" }) }
    #expect(!queue.flush(within: .milliseconds(20)))
    reader.gate.signal()
    #expect(queue.flush(within: .seconds(20)))
    let lines = reader.lines
    let place = try #require(lines.firstIndex { $0.hasPrefix("lost ") })
    let lost = try #require(Int(lines[place].dropFirst(5)))
    #expect(lines.filter { $0.hasPrefix("lost ") }.count == 1)
    // Before it those that were being written, after it the last ones without a gap.
    #expect(lines.count - 1 + lost == 10_000 && lines.last == "line 9999")
    #expect(lines[(place + 1)...].first == "line \(place + lost)" && lines.first == "line 0")
    #expect(lines[(place + 1)...].reduce(0) { $0 + $1.utf8.count + 1 } <= 1000)
  }

  @Test("a line longer than the limit is written all the same")
  func long() {
    let reader = Reader()
    reader.gate.signal()
    let queue = LogQueue(limit: 10) { reader.take($0) }
    queue.add(String(repeating: "x", count: 100_000) + "\n")
    #expect(queue.flush(within: .seconds(20)) && reader.lines.first?.count == 100_000)
  }
}
