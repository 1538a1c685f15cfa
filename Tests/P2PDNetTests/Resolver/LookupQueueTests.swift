import Testing

@testable import P2PDNet

@Suite("Which lookups run")
struct LookupQueueTests {
  private func queue(running: Int = 2, line: Int = 3, stuck: Int = 1) -> LookupQueue<Int> {
    LookupQueue(Bounds(running: running, line: line, stuck: stuck))
  }

  @Test("some run, more wait in line, the rest are refused")
  func bounds() {
    var queue = queue()
    #expect(queue.handle(.asked(1)) == [.start(1)])
    #expect(queue.handle(.asked(2)) == [.start(2)])
    for id in 3...5 { #expect(queue.handle(.asked(id)) == []) }
    #expect(queue.handle(.asked(6)) == [.refuse(6)])
    #expect(queue.waiting == 3)
    #expect(queue.handle(.finished(2)) == [.start(3)])
    #expect(queue.handle(.asked(7)) == [])
  }

  @Test("an abandoned lookup gives its place away, but only so many may be stuck")
  func stuck() {
    var queue = queue()
    for id in 1...5 { _ = queue.handle(.asked(id)) }
    #expect(queue.handle(.abandoned(1)) == [.start(3)])
    #expect(queue.threads == 3)
    #expect(queue.handle(.abandoned(2)) == [], "no more threads than the bounds allow")
    #expect(queue.handle(.finished(2)) == [.start(4)])
    #expect(queue.handle(.finished(1)) == [])
    #expect(queue.threads == 2)
  }

  @Test("one abandoned in line never runs")
  func abandonedInLine() {
    var queue = queue(running: 1)
    for id in 1...3 { _ = queue.handle(.asked(id)) }
    #expect(queue.isInLine(2))
    #expect(queue.handle(.abandoned(2)) == [])
    #expect(!queue.isInLine(2))
    #expect(queue.handle(.finished(1)) == [.start(3)])
  }

  @Test("news of lookups it does not know changes nothing")
  func nonsense() {
    var queue = queue()
    #expect(queue.handle(.finished(9)) == [])
    #expect(queue.handle(.abandoned(9)) == [])
    #expect(queue.threads == 0)
  }
}
